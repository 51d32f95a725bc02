"""Seconds that compare: each operating point alone, warm and unshared, on the same few videos for all of them.

While a grid is answered, operating points share decoding and encoding and questions share a prefix, so that their
seconds depend on what else is run. `timing=N` measures them once more after the answers, into timing.jsonl.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from evalkit.data import video as video_file
from evalkit.errors import VideoError
from evalkit.ledger import Timing

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.engine.answer import Engine
    from evalkit.method import OperatingPoint
    from evalkit.runs.folder import RunFolder
    from evalkit.types import Answer, Benchmark, Question, Video

    Drawn = Sequence[tuple[Question, float]]  # a question and the seconds of its video, by rising duration

log = logging.getLogger(__name__)

BLOCK = 1 << 24  # bytes


def drawn(benchmark: Benchmark, videos: int, seed: int, probe: Callable[[Path], Video] = video_file.probe) -> Drawn:
    """The first question about each of `videos` videos (or of all, where there are fewer).

    The readable videos are ordered by duration and cut into as many strata of equal size as videos are wanted, and one
    is drawn from each: the same ones for the same question set and seed, whatever is measured on them.
    """
    by_duration = sorted(_readable(benchmark, probe), key=lambda found: (found[1], found[0].video_id))
    wanted = min(videos, len(by_duration))
    draw = random.Random(seed)
    bounds = pairwise(len(by_duration) * n // wanted for n in range(wanted + 1)) if wanted else ()
    return [by_duration[draw.randrange(low, high)] for low, high in bounds]


def _readable(benchmark: Benchmark, probe: Callable[[Path], Video]) -> Iterable[tuple[Question, float]]:
    for question, *_ in benchmark.by_video().values():
        try:
            yield question, probe(question.video_path).duration_s
        except VideoError:
            continue  # its questions are failed rows among the answers


def conditions(device: torch.device, threads: int | None, encode_cells: int) -> dict[str, Any]:
    """What changes seconds and no answer; measurements under different conditions are never put together."""
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else device.type
    return {"device": name, "threads": threads, "encode_cells": encode_cells}


class Timer:
    """Measures operating points one after the other; what an earlier start has measured is not measured again."""

    def __init__(self, engine: Callable[[], Engine], conditions: Mapping[str, Any], videos: int) -> None:
        """`engine` is called only where something is left to measure; `videos` is the setting `timing`."""
        self._engine = engine
        self._same: dict[str, Any] = {"videos": videos, "conditions": dict(conditions)}

    def missing(self, run: RunFolder, questions: Drawn) -> Drawn:
        """What `run` has not measured under these conditions; failed measurements are tried again."""
        last = {line["question_id"]: line for line in run.timings() if self._same.items() <= line.items()}
        done = {name for name, line in last.items() if line["status"] != "failed"}
        return [pair for pair in questions if pair[0].id not in done]

    def measure(
        self, point: OperatingPoint, run: RunFolder, questions: Drawn, progress: Callable[[], object] = lambda: None
    ) -> int:
        """Append a line for each of `questions` that is missing, after one answer that is not counted.

        Returns how many failed.
        """
        missing = self.missing(run, questions)
        if not missing:
            return 0
        engine = replace(self._engine(), share=False)
        engine.meter.release()
        # the longest video first, so that memory has been asked for before anything is measured
        self._alone(engine, point, max(questions, key=lambda pair: pair[1])[0])
        failed = 0
        for question, duration in missing:
            timing = self._timing(engine, self._alone(engine, point, question), duration)
            run.append_timing(timing)
            failed += timing.status == "failed"
            progress()
        return failed

    @staticmethod
    def _alone(engine: Engine, point: OperatingPoint, question: Question) -> Answer:
        _read_once(question.video_path)
        ((_, answer),) = engine.answers({point: [question]})
        return answer

    def _timing(self, engine: Engine, answer: Answer, duration: float) -> Timing:
        spent = answer.ledger
        cuda = engine.meter.device.type == "cuda"
        return Timing(
            benchmark=answer.benchmark,
            video_id=answer.video_id,
            question_id=answer.question_id,
            method=answer.method,
            ratio=answer.ratio,
            status="failed" if spent is None else "ok",
            error=answer.error,
            duration_s=round(duration, 3),
            seconds=None if spent is None else spent.seconds,
            own_seconds=None if spent is None else spent.own_seconds,
            peak_bytes=spent.peak_bytes if spent is not None and cuda else None,
            **self._same,
        )


def _read_once(path: Path) -> None:
    """Bring a file into the system's cache, so that no operating point waits for the disk in another's place."""
    try:
        with path.open("rb") as file:
            while file.read(BLOCK):
                pass
    except OSError:
        return  # the answer will say so
