"""A grid of methods and ratios over question sets: video outermost, every answer stored as it comes.

Answers of one operating point about one video are synced to the disk together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from evalkit.data import benchmarks
from evalkit.data.fingerprint import fingerprint, unchanged
from evalkit.engine import records, timing
from evalkit.engine.executor.base import Executor, InProcess
from evalkit.engine.setup import EngineSetup
from evalkit.engine.systematic import MAX_FAILED, CircuitBreaker
from evalkit.method import OperatingPoint
from evalkit.progress import progress
from evalkit.runs import checked_lines, config_file, identity
from evalkit.runs.config_file import TablePlace
from evalkit.runs.folder import RunFolder
from evalkit.types import Benchmark, Question

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Question sets × operating points on one backbone."""

    points: Sequence[OperatingPoint]
    benchmarks: Sequence[Benchmark]
    setup: EngineSetup
    results_dir: Path
    order: Sequence[str]  # names of methods as tables list them; those of `points` are among them
    reference: str  # name of the method that tables compare the others with
    subset: str = "full"  # that the question sets were narrowed to
    timed_videos: int = 0  # of each question set: every operating point is measured alone on so many
    max_failed: int | None = MAX_FAILED  # videos in a row that fail alike, at which the run stops; None: never
    executor: Executor = field(default_factory=InProcess)  # in which processes; no part of a run's identity

    def config(self, benchmark: Benchmark, rows: str, point: OperatingPoint) -> dict[str, Any]:
        """config.yaml of one run, its identity first; `rows` is the identity of the question set."""
        table = TablePlace(
            place=self.order.index(point.name), reference=self.reference, notes=self._notes(benchmark, point)
        )
        return config_file.describe(self.setup.record_for(point), benchmark, rows, point, table, self.subset)

    def _notes(self, benchmark: Benchmark, point: OperatingPoint) -> tuple[str, ...]:
        of_method = point.method.notes(aligns_text=self.setup.backbone.aligns_text)
        scoring = self.setup.protocol.scoring_note(benchmark.name)
        return (scoring, *(f"{point.name}: {note}" for note in of_method))

    def folder(self, benchmark: Benchmark, point: OperatingPoint, config: Mapping[str, Any]) -> Path:
        """Where one run lies: a readable name, with the start of its identity."""
        name = f"{point.name}-r{point.ratio:g}-{config['identity'][:8]}"
        kind = f"generated-{benchmark.name}" if benchmark.generated else benchmark.name
        return self.results_dir / kind / self.setup.backbone.name / name

    # ---- running

    def run(self, points: Sequence[OperatingPoint] | None = None) -> tuple[list[Path], int]:
        """Answer what is missing of `points`, or of the whole grid. Returns run folders and the rows that failed."""
        log.info("reading the backbone's files and the run folders")
        device = str(self.setup.backbone.torch_device)
        described = [(benchmark, self._configs(benchmark, points)) for benchmark in self.benchmarks]
        with ExitStack() as stack:
            stack.enter_context(logging_redirect_tqdm())
            opened: list[tuple[Benchmark, dict[OperatingPoint, RunFolder]]] = []
            for benchmark, configs in described:
                opened.append((benchmark, {}))
                for point, config in configs.items():
                    run = RunFolder(self.folder(benchmark, point, config), config, device)
                    stack.callback(run.close)
                    opened[-1][1][point] = run
            self._answer_all(opened)
            untimed = self._time_all(opened)
            for benchmark, by_point in opened:
                for run in by_point.values():
                    run.expect_all([question.id for question in benchmark.questions])
            runs = [run for _, by_point in opened for run in by_point.values()]
            return [run.path for run in runs], sum(run.failed for run in runs) + untimed

    def _configs(
        self, benchmark: Benchmark, points: Sequence[OperatingPoint] | None
    ) -> dict[OperatingPoint, dict[str, Any]]:
        """What is wrong with the backbone or an adapter is found here, before there is a run folder."""
        self.setup.expect_prompts(benchmark.name)
        rows = identity.rows(benchmark, *benchmarks.foreign_spec(benchmark.name))
        return {point: self.config(benchmark, rows, point) for point in (self.points if points is None else points)}

    def _answer_all(self, opened: Sequence[tuple[Benchmark, Mapping[OperatingPoint, RunFolder]]]) -> None:
        for benchmark, runs in opened:
            _record_bad_rows(benchmark, runs)
            _outdate(benchmark, runs)
        work = [(benchmark, runs, pending) for benchmark, runs in opened for pending in self._pending(benchmark, runs)]
        todo = sum(len(questions) for _, _, pending in work for questions in pending.values())
        done = sum(len(run.answered()) for _, runs in opened for run in runs.values())
        log.info("%d answers stored already, %d to give", done, todo)
        videos = [pending for _, _, pending in work]
        if videos:
            checked_lines.forget()  # there will be others to read, and models need the memory
            self.setup.check_settings(list({benchmark.name: benchmark for benchmark, _, _ in work}.values()))
        breaker = CircuitBreaker(self.max_failed, videos)
        left = [{point: len(questions) for point, questions in pending.items()} for pending in videos]
        with self.executor.answers(self.setup, videos) as answers, progress(todo, "answer") as bar:
            for given in answers:
                benchmark, runs, _ = work[given.video]
                runs[given.point].append(given.answer)
                left[given.video][given.point] -= 1
                if not left[given.video][given.point]:  # synced together, before they count as done
                    bar.set_description(benchmark.label, refresh=False)
                    bar.update(runs[given.point].sync())
                breaker.add(given)

    def _pending(
        self, benchmark: Benchmark, runs: Mapping[OperatingPoint, RunFolder]
    ) -> Iterator[dict[OperatingPoint, list[Question]]]:
        """What each operating point has not answered, video by video."""
        answered = {point: run.answered() for point, run in runs.items()}
        for questions in benchmark.by_video().values():
            asked = {
                point: [q for q in questions if q.id not in answered[point] and not self._given_up(q, run)]
                for point, run in runs.items()
            }
            if left := {point: some for point, some in asked.items() if some}:
                yield left

    def _given_up(self, question: Question, run: RunFolder) -> bool:
        """Whether the file of a failed question would only end the decoder again."""
        decode = self.setup.decode
        return decode is not None and decode.given_up(question.video_path, run.errors.get(question.id, ""))

    def _time_all(self, opened: Sequence[tuple[Benchmark, Mapping[OperatingPoint, RunFolder]]]) -> int:
        """Measure each run alone where `timing=N` asks for it; returns how many measurements failed."""
        if not self.timed_videos:
            return 0
        backbone = self.setup.backbone
        same = timing.conditions(backbone.torch_device, backbone.threads, backbone.encode_cells)
        timer = timing.Timer(lambda: self.setup.engine, same, self.timed_videos)
        work = [
            (point, run, questions)
            for benchmark, runs in opened
            for questions in [timing.drawn(benchmark, self.timed_videos, self.setup.seed, self.setup.source.probe)]
            for point, run in runs.items()
        ]
        todo = sum(len(timer.missing(run, questions)) for _, run, questions in work)
        log.info("timing: %d measurements to take", todo)
        with progress(todo, "measurement") as bar:
            return sum(timer.measure(point, run, questions, bar.update) for point, run, questions in work)


def _record_bad_rows(benchmark: Benchmark, runs: Mapping[OperatingPoint, RunFolder]) -> None:
    """The rows that are no question, once for each run."""
    for point, run in runs.items():
        for row in benchmark.bad_rows:
            if row.id not in run.status:
                run.append(records.failed(point, row, row.message))
        run.sync()


def _outdate(benchmark: Benchmark, runs: Mapping[OperatingPoint, RunFolder]) -> None:
    """Have questions asked again whose video is another file than the one that was answered from.

    A file that is not there any more leaves its answers as they are.
    """
    outdated: set[str] = set()
    for questions in benchmark.by_video().values():
        known = {q.id: {run.video_files.get(q.id) for run in runs.values()} - {None} for q in questions}
        if any(known.values()) and (found := _fingerprint(questions[0].video_path)):
            outdated |= {name for name, stored in known.items() if not all(unchanged(str(s), found) for s in stored)}
    for run in runs.values():
        run.outdate(outdated)
    if outdated:
        log.warning(
            "%s: %d questions are asked again, as the files of their videos have changed",
            benchmark.label,
            len(outdated),
        )


def _fingerprint(path: Path) -> str | None:
    try:
        return fingerprint(path)
    except OSError:
        return None
