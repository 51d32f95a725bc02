"""What there is to know of one benchmark. Each has a file of its own that ends with its `BenchmarkSpec`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.data.protocols.base import official_micro

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from evalkit.data.benchmarks.rows import Loaded
    from evalkit.data.protocols.base import Average
    from evalkit.data.protocols.task import Task
    from evalkit.types import Question


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One published file, or several."""

    name: str  # may hold *, and placeholders such as <name>
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
    # where every video is a file of its own: question -> its name in the repository, so that a subset needs no other
    video_file: Callable[[Question], str] | None = None


@dataclass(frozen=True, kw_only=True)
class KnownRows:
    """The rows of a published set. Another layout of it has other ids: `content` binds only where `ids` agree."""

    ids: str  # `checksums.ids_sha256`
    content: str  # `checksums.rows_sha256`


@dataclass(frozen=True, kw_only=True)
class LmmsEvalTask:
    """The benchmark in lmms-eval; file names are below its folder of tasks."""

    file: str  # the task's YAML
    file_with_subtitles: str | None = None  # None: the benchmark has no subtitles there
    averages: Callable[[Average], dict[str, float]] = official_micro  # as its aggregation over the whole set
    scoring_note: str = "an unreadable reply is wrong"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """One benchmark: how it is read, asked, scored, checked and fetched. All but the first four may be left out."""

    name: str  # by which it is chosen, benchmark=NAME; also `Question.benchmark`
    label: str  # what tables call it
    read: Callable[[Path], Loaded]  # data folder -> questions and bad rows; DataError where the folder cannot be read
    layout: str  # the files of a data folder and where to get them, for messages
    # number of questions -> whose set it is; the official one first
    question_sets: Mapping[int, str] = field(default_factory=dict)
    # protocol -> prompt, reader and average, for protocols that are tables (official, retake, xcomp, a package's own)
    protocols: Mapping[str, Task] = field(default_factory=dict)
    lmms_eval: LmmsEvalTask | None = None  # None: lmms-eval does not have it
    several_files: bool = False  # the questions may lie in several annotation files of one folder
    sources: tuple[Source, ...] = ()  # where it is published; `data fetch` takes the first unless told otherwise
    known_rows: tuple[KnownRows, ...] = ()  # `data verify` holds rows against them
    subset_lists: Path | None = None  # subset lists of evalkit's generated set in this format
