"""Is a data folder complete? Rows are compared with the published sets; frames all over every video are decoded.

What is found is stored as verify.json beside the data. A run that starts on the same rows and files repeats it in the
notes of its tables.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import atomic_write
from evalkit.data import benchmarks
from evalkit.data.benchmarks import files
from evalkit.data.benchmarks.question_sets import known_as
from evalkit.data.prepare import subsets
from evalkit.data.prepare.checksums import ids_sha256, rows_sha256
from evalkit.data.prepare.worker_pool import ask_all
from evalkit.errors import ConfigError, VideoError
from evalkit.progress import progress
from evalkit.types import FramePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evalkit.data.prepare.worker_pool import Check
    from evalkit.types import Benchmark

log = logging.getLogger(__name__)

FILE = "verify.json"
PARTS = 8  # of a video, at whose ends a frame is decoded


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One video, and the state of its file when it was checked."""

    path: str  # below the benchmark's root
    questions: int
    size: int | None  # bytes; None where there is no file
    modified: int | None  # nanoseconds, as the file system counts them
    problem: str | None = None  # missing, broken
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in one data folder."""

    benchmark: str
    label: str
    questions: int  # rows that can be asked, of the full set
    bad_rows: tuple[str, ...]  # why the others cannot
    rows_sha256: str
    rows_problem: str  # how the rows differ from the known sets; "" if they do not
    videos: Mapping[str, Checked]  # by video id

    @property
    def complete(self) -> bool:
        """Nothing is missing, broken or unlike what is known."""
        return not (self.bad_rows or self.rows_problem or self.lost)

    @property
    def lost(self) -> dict[str, Checked]:
        """The missing and the broken videos."""
        return {video: checked for video, checked in self.videos.items() if checked.problem}


def decodes(path: Path) -> None:
    """Open a video and decode its first frame, its last one, and some between them, evenly spread.

    Raises VideoError where one does not decode (a run would show an earlier one in its place), and where the file
    announces more than is there.
    """
    from evalkit.data import video as video_file

    video = video_file.probe(path)
    video_file.expect_whole(video)
    last = video.frames - 1
    wanted = tuple(sorted({round(last * part / PARTS) for part in range(1, PARTS + 1)}))  # the first one is decoded
    plan = FramePlan(indices=wanted, height=video.height, width=video.width)
    for frame in video_file.raw_frames(video, [plan]):
        if frame.shown != frame.wanted:
            raise VideoError(f"{path}: expected frame {frame.wanted} to decode, got frame {frame.shown} in its place")


def verify(
    benchmark: Benchmark,
    subset: str = subsets.FULL,
    *,
    workers: int = 2,
    seconds: float = 120.0,
    check: Check = decodes,
) -> Report:
    """Look at the rows of the full set and at the videos of `subset`, each for at most `seconds`."""
    asked = subsets.restrict(benchmark, subset).by_video()
    paths = {video: questions[0].video_path for video, questions in asked.items()}
    there = [path for path in dict.fromkeys(paths.values()) if files.exists(path)]
    faults: dict[Path, str] = {}
    with progress(len(there), "video") as bar:
        for path, fault in ask_all(check, there, workers=workers, seconds=seconds):
            faults[path] = fault
            bar.update()
    return Report(
        benchmark=benchmark.name,
        label=benchmark.label,
        questions=len(benchmark.questions),
        bad_rows=tuple(row.message for row in benchmark.bad_rows),
        rows_sha256=rows_sha256(benchmark),
        rows_problem=rows_problem(benchmark),
        videos={
            video: _checked(benchmark.root, path, len(asked[video]), faults.get(path)) for video, path in paths.items()
        },
    )


def rows_problem(benchmark: Benchmark) -> str:
    """How the rows differ from the known sets of this benchmark; "" if they do not, or nothing is known."""
    published = subsets.published_rows(benchmark)
    if benchmark.generated:
        differs = published and published != rows_sha256(benchmark)
        return "the rows are not those that evalkit generates; make them anew" if differs else ""
    spec = benchmarks.REGISTRY[benchmark.name]
    if spec.question_sets and not known_as(benchmark):
        sizes = " or ".join(map(str, spec.question_sets))
        count = len(benchmark.questions) + len(benchmark.bad_rows)
        return f"expected {sizes} rows, got {count}; download the annotations again"
    ids, content = ids_sha256(benchmark), rows_sha256(benchmark)
    if any(known.ids == ids and known.content != content for known in spec.known_rows):
        return "the ids are those of the published rows, their content is not; download the annotations again"
    return ""


def _checked(root: Path, path: Path, questions: int, fault: str | None) -> Checked:
    """`fault` is None where there was no file to check."""
    size, modified = _state(path)
    problem = "missing" if fault is None else "broken" if fault else None
    message = f"{path}: expected a file, found none" if fault is None else fault
    name = Path(os.path.relpath(path, root)).as_posix()
    return Checked(path=name, questions=questions, size=size, modified=modified, problem=problem, message=message)


def _state(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        status = path.stat()
    except OSError:
        return None, None
    return (status.st_size, status.st_mtime_ns) if files.exists(path) else (None, None)


# ---- stored, and carried into runs


def write(report: Report, folder: Path) -> Path:
    """Store a report as verify.json in `folder`. ConfigError where that cannot be written."""
    path = folder / FILE
    lists = {kind: [video for video, c in report.lost.items() if c.problem == kind] for kind in ("missing", "broken")}
    summary: dict[str, object] = {"complete": report.complete, **lists}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write.replace(path, json.dumps(summary | asdict(report), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another folder with --out") from error
    return path


def carry(full: Benchmark, chosen: Benchmark) -> Benchmark:
    """`chosen`, all or a subset of `full`, with what verify.json knows of its videos among the notes.

    A report on other rows, or on files that have changed since, is out of date: it is left out, and the log says so.
    """
    path = full.root / FILE
    if not path.is_file():
        return chosen
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {video: Checked(**fields) for video, fields in stored["videos"].items()}
        current = stored["rows_sha256"] == rows_sha256(full)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: not as `data verify` writes it (%r), left out; verify again", path, error)
        return chosen
    asked = {video: questions[0].video_path for video, questions in chosen.by_video().items()}
    seen = {video: known[video] for video in asked if video in known}
    if not current or any(_state(asked[video]) != (c.size, c.modified) for video, c in seen.items()):
        log.warning("%s: rows or videos have changed since, left out of the notes; verify again", path)
        return chosen
    return replace(chosen, notes=(*chosen.notes, *_notes(seen, len(asked))))


def _notes(seen: Mapping[str, Checked], videos: int) -> tuple[str, ...]:
    lost = [checked for checked in seen.values() if checked.problem]
    notes = []
    if lost:
        count = f"{len(lost)} {'video' if len(lost) == 1 else 'videos'} missing or broken"
        notes.append(f"{count} ({sum(checked.questions for checked in lost)} questions), found by data verify")
    if len(seen) < videos:
        notes.append(f"{videos - len(seen)} of {videos} videos not checked by data verify")
    return tuple(notes)
