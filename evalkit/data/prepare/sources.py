"""Where the benchmarks are published, and which of those files a subset needs.

Sizes are those that the hub's pages show. Which archive holds which video is not published; it is said, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from typing import TYPE_CHECKING

from evalkit.data.benchmarks.mlvu import STEMS
from evalkit.errors import ConfigError
from evalkit.hub import GB, size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.types import Benchmark, Question

MLVU_PART_BYTES = (
    36626152774,
    34311867313,
    41427664931,
    43162717558,
    44702247576,
    29624788310,
    33061239060,
    22147421187,
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One published file or, with a *, several."""

    name: str
    size: float | None = None  # bytes; None where unknown
    holds: str  # what is in it
    videos: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set repository of the Hugging Face hub."""

    repo: str
    revision: str | None  # commit that is fetched unless another is named; None: one must be named
    archives: tuple[Archive, ...]
    total: float | None = None  # bytes of all archives
    then: str  # what to do after fetching
    terms: str
    single_files: bool = False  # True: every video is a file of its own, so that a subset needs no other's


SOURCES: dict[str, tuple[Source, ...]] = {
    "videomme": (
        Source(
            repo="lmms-eval/Video-MME",
            revision="ead1408f75b618502df9a1d8e0950166bf0a2a0b",
            archives=(
                Archive(name="videomme/test-00000-of-00001.parquet", holds="the questions"),
                Archive(name="subtitle.zip", size=7.5e6, holds="subtitles of 744 videos"),
                *(
                    Archive(name=f"videos_chunked_{number:02d}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(
                        [s * GB for s in (5.18, 5.33, 4.86, 5.16, 5.10, 5.27, 5.22, 5.28, 5.09)] + [None] * 11, 1
                    )
                ),
            ),
            total=101 * GB,
            then="unpack the archives in the folder itself: they hold data/<videoID>.mp4 and subtitle/<videoID>.srt",
            terms="academic research only; not to be redistributed",
        ),
    ),
    "mlvu": (
        Source(
            repo="MLVU/MVLU",
            revision="06ddc388aa34746b3abba77972b7a7dfd977f7a3",
            archives=(
                Archive(name="MLVU/json/*.json", holds="the questions"),
                Archive(name="MLVU/video/<task>/<name>.mp4", holds="one video each", videos=True),
            ),
            then="nothing: the files lie where they are read",
            terms="CC-BY-NC-SA-4.0, research only; accept them on the data set's page and log in with `hf auth login`",
            single_files=True,
        ),
        Source(
            repo="sy1998/MLVU_dev",
            revision="96207eb9aa7101e2a495dd147684a7e618c79e12",
            archives=(
                Archive(name="mlvu/test-00000-of-00001.parquet", size=204e3, holds="the questions"),
                *(
                    Archive(name=f"video_part_{number}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(MLVU_PART_BYTES, 1)
                ),
            ),
            total=sum(MLVU_PART_BYTES),
            then="unpack the archives in the folder itself: <name>.mp4, all in one folder",
            terms="CC-BY-NC-SA-4.0, research only",
        ),
    ),
    "lvbench": (
        Source(
            repo="lmms-eval/LVBench",
            revision=None,
            archives=(
                Archive(name="data/train-00000-of-00001.parquet", size=170e3, holds="the questions"),
                *(
                    Archive(name=f"video_chunks/videos_chunk_{number:03d}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(
                        [s * GB for s in (3.42, 2.98, 5.04, 4.14, 4.20, 4.61)] + [None] * 8, 1
                    )
                ),
            ),
            total=61.8 * GB,
            then="unpack the archives into videos/: they hold <key>.mp4",
            terms="CC-BY-NC-SA-4.0, academic research only",
        ),
        Source(
            repo="zai-org/LVBench",
            revision=None,
            archives=(Archive(name="video_info.meta.jsonl", size=486e3, holds="the questions"),),
            then="get the videos yourself: this repository names them by their YouTube ids and holds none",
            terms="CC-BY-NC-SA-4.0, academic research only",
        ),
    ),
}


def source(benchmark: str, repo: str | None = None) -> Source:
    """The first source of a benchmark, or the one of this name. ConfigError for another name."""
    known = SOURCES[benchmark]
    for found in known:
        if repo in (None, found.repo):
            return found
    raise ConfigError(f"--repo: {benchmark} is at {' or '.join(s.repo for s in known)}, got {repo!r}")


def video_files(found: Source, questions: Iterable[Question]) -> list[str] | None:
    """The repository's files that hold the videos of these questions; None where the repository does not say.

    A name is one video in all tasks, so one task's copy is enough.
    """
    if not found.single_files:
        return None
    stems = {stem.split("_", 1)[1]: stem for stem in STEMS}
    tasks: dict[str, str] = {}
    for q in questions:
        tasks.setdefault(str(q.row["video_name"]), q.groups["task_type"][0])
    return sorted(f"MLVU/video/{stems[task]}/{name}" for name, task in tasks.items())


def patterns(found: Source, part: Benchmark | None) -> list[str]:
    """What to fetch, as names with *: everything, or for a part of the benchmark only what it needs."""
    names = None if part is None else video_files(found, part.questions)
    if names is None:
        return [archive.name.replace("<task>/<name>.mp4", "*") for archive in found.archives]
    return [archive.name for archive in found.archives if not archive.videos] + [escape(name) for name in names]


def wanted(files: Iterable[str], asked: Iterable[str]) -> list[str]:
    """The files of a repository that match any of the patterns."""
    asked = list(asked)
    return [name for name in files if any(fnmatch(name, pattern) for pattern in asked)]


def plan(name: str, part: Benchmark | None, subset: str) -> str:
    """What `data plan` prints. `part` is the subset; None where only the published files are asked for."""
    lines: list[str] = []
    if part is not None:
        lines.append(f"{part.label}: {len(part.questions)} questions on {len(part.by_video())} videos ({subset})\n")
    for found in SOURCES[name]:
        lines += [f"{found.repo} (hub data set, revision {found.revision or 'to be named'}; {found.terms})"]
        lines += _needs(found, part)
        lines += [f"  then: {found.then}\n"]
    return "\n".join(lines)


def _needs(found: Source, part: Benchmark | None) -> list[str]:
    names = None if part is None else video_files(found, part.questions)
    rows = [f"  {archive.name:40}{size(archive.size):>10}  {archive.holds}" for archive in found.archives]
    if names is not None:
        rows += [f"  needed: {len(names)} of these videos, sizes not published in one place:"]
        rows += [f"    {name}" for name in names]
    elif any(archive.videos for archive in found.archives):
        rows += [f"  all video archives together: {size(found.total)}"] if found.total else []
        if part is not None:
            rows += ["  needed: all video archives, for which one holds which video is not published"]
    return rows
