"""Decoding ahead: wall time of a grid against the time of its longest stage alone, on one answering process.

python perf/pipeline.py [--videos 96] [--seconds 20] [--frames 96] [--runs 3]     puts a table into RESULTS.md

Answers of all forms are asserted equal before any time is taken.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import Mark, mark, record
from read_video import clip

from evalkit import machine
from evalkit.data.decoding.process import DecodeInChild
from evalkit.data.decoding.source import DecodeInProcess, FrameSource, FrameStream
from evalkit.data.video import SizedFrame
from evalkit.engine.answer import Engine
from evalkit.engine.encoded_video import Pending
from evalkit.method import OperatingPoint
from evalkit.testing.loop import answer_key, engine, question
from evalkit.testing.method_contract import backbone
from evalkit.types import FramePlan, Video
from methods.retake import ReTaKe
from methods.uniform import Uniform

if TYPE_CHECKING:
    from evalkit.data.decoding.source import Now

BAR = 1.1
AHEAD = 512_000_000
THREADS = max(1, machine.cores() - 1)  # as in a run of one process, whose model has one
POINTS = [
    OperatingPoint("uniform", Uniform(), 1.0),
    OperatingPoint("retake", ReTaKe(), 0.5),
    OperatingPoint("retake", ReTaKe(), 0.25),
]
NOTE = """
{videos} videos of {seconds:g} s (640×360 H.264, a key frame every 10 s), {frames} frames each, {points}
operating points, one question; a small random Qwen2-VL on one thread, {cores} cores, one answering process.
Medians of {runs} runs in turn, after one that is not counted; all answers were asserted equal. Decode: the
child process alone, on as many threads as the model leaves cores ({threads}). Model: all other stages, with the
frames in memory. In turn: decoding in the answering process, by FFmpeg on all cores. Ahead: the child decodes up to
{ahead} MB ahead. Bar: ahead / longest ≤ {bar:g}. Least: the longest stage, or the CPU seconds of both stages over
the cores, whichever is more. Load average when it began: {load:.1f} (other work of the machine is in the wall
seconds where that is much above 0).
"""


class Replay(FrameSource):
    """Frames from memory: what is left of a run without decoding."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._videos: dict[Path, Video] = {}
        self._frames: dict[Path, list[SizedFrame]] = {}

    def probed(self, path: Path) -> Video:
        if path not in self._videos:
            self._videos[path] = self._source.probe(path)
        return self._videos[path]

    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        if video.path not in self._frames:
            self._frames[video.path] = list(self._source.frames(video, plans, reader))
        return Remembered(self._frames[video.path])


class Remembered(FrameStream):
    """One video's."""

    def __init__(self, frames: Sequence[SizedFrame]) -> None:
        self._left = iter(frames)

    def __next__(self) -> SizedFrame:
        return next(self._left)


class Noted(DecodeInProcess):
    """Notes what is asked for, so that it can be asked for again without a model."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[Path, tuple[Sequence[FramePlan], str]] = {}

    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        self.asked[video.path] = (plans, reader)
        return super().frames(video, plans, reader, now)


def answers(own: Engine, work: Sequence[Pending]) -> list[Any]:
    """All videos, as the executor asks for them."""
    return [
        answer_key(answer)
        for pending, following in zip(work, [*work[1:], None], strict=True)
        for _, answer in own.answers(pending, following)
    ]


def decode_alone(source: DecodeInChild, asked: dict[Path, tuple[Sequence[FramePlan], str]]) -> None:
    """Every frame of all videos, taken as soon as it is there."""
    for path, (plans, reader) in asked.items():
        for _ in source.frames(source.probe(path), plans, reader):
            pass


def links(folder: Path, file: Path, count: int) -> Iterator[Path]:
    """One file under several names."""
    for number in range(count):
        os.link(file, folder / f"{number}.mp4")
        yield folder / f"{number}.mp4"


def main() -> None:
    """All forms in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = list(links(folder, clip(folder / "clip.mp4", args.seconds / 60), args.videos))
        work = [{point: [question(path, 0)] for point in POINTS} for path in videos]
        rows = [measured(work, frames, args.runs) for frames in args.frames]
    note = NOTE.format(
        videos=args.videos,
        seconds=args.seconds,
        frames=" and ".join(map(str, args.frames)),
        points=len(POINTS),
        cores=machine.cores(),
        runs=args.runs,
        ahead=AHEAD // 10**6,
        threads=THREADS,
        bar=BAR,
        load=load,
    )
    print(record("Pipeline: decoding ahead of the model (CPU)", rows, note.strip()))


def measured(work: Sequence[Pending], frames: int, runs: int) -> dict[str, object]:
    """One row: medians of every form."""
    noted = Noted()
    child, ahead = (DecodeInChild(limit=AHEAD, threads=THREADS) for _ in range(2))
    forms: dict[str, FrameSource] = {"in turn": noted, "ahead": ahead, "model": Replay(DecodeInProcess())}
    engines = {form: engine(backbone(), frames=frames, source=source) for form, source in forms.items()}
    found = {form: answers(own, work) for form, own in engines.items()}
    if not found["in turn"] == found["ahead"] == found["model"]:
        raise SystemExit("other answers: the times say nothing")
    calls: dict[str, Callable[[], object]] = {form: lambda own=own: answers(own, work) for form, own in engines.items()}  # type: ignore[misc]
    calls["decode"] = lambda: decode_alone(child, noted.asked)
    decode_alone(child, noted.asked)
    spent: dict[str, list[Mark]] = {form: [] for form in calls}
    for _ in range(runs):
        for form, call in calls.items():
            start = mark()
            call()
            end = mark()
            spent[form].append((end[0] - start[0], end[1] - start[1]))
    for source in (child, ahead):
        source.close()
    cpu, wall = (
        {form: statistics.median(one[place] for one in times) for form, times in spent.items()} for place in (0, 1)
    )
    longest = max(wall["decode"], wall["model"])
    least = max(longest, (cpu["decode"] + cpu["model"]) / machine.cores())
    columns = {f"{form} s": wall[form] for form in ("decode", "model", "in turn", "ahead")}
    verdict = "held" if wall["ahead"] <= BAR * longest else "missed"
    return {
        "frames": frames,
        **columns,
        "decode CPU s": cpu["decode"],
        "in turn / longest": wall["in turn"] / longest,
        "ahead / longest": wall["ahead"] / longest,
        f"≤ {BAR:g}": verdict,
        "ahead / least": wall["ahead"] / least,
    }


if __name__ == "__main__":
    main()
