"""Scoring anyone's answers under a published protocol, or under all of them side by side. No video, model or GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.analysis.score import answer_files
from evalkit.data import benchmarks, protocols
from evalkit.data.benchmarks import question_sets
from evalkit.data.benchmarks.files import GENERATED
from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.types import Benchmark, Question

ALL = "all"
_ANNOTATIONS = (".parquet", ".json", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Right answers of a number of questions."""

    right: int
    n: int

    @property
    def percent(self) -> float:
        """nan without questions."""
        return 100 * self.right / self.n if self.n else float("nan")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One set of answers under one protocol."""

    protocol: str  # name and version
    averages: Mapping[str, float]  # percent, the protocol's own first
    overall: Share  # of the replies that count
    unparsed: int  # replies without a letter, whether they count or not
    excluded: int  # replies that the protocol keeps out of its averages
    groups: Mapping[tuple[str, str], Share]  # (kind, label), e.g. ("duration", "short")
    scoring_note: str  # what the protocol does with unreadable replies and odd rows


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Answers to a question set under one or more protocols."""

    benchmark: Benchmark
    answers: answer_files.Replies
    scores: tuple[Score, ...]

    @property
    def missing(self) -> list[str]:
        """Ids of questions without an answer; they are in no average."""
        return [q.id for q in self.benchmark.questions if q.id not in self.answers.by_id]


def annotated(name: str, path: Path, question_set: str | None = None) -> Benchmark:
    """The question set at `path`, a data folder or one annotation file in it.

    `question_set` is the size of a known set, which is checked, or a file that lists the questions to keep. Raises
    ConfigError or DataError, as `benchmarks.load` and `question_sets`.
    """
    (benchmark,) = benchmarks.load(name, _folder(name, path))
    if question_set is None:
        return benchmark
    if question_set.isdecimal():
        return question_sets.checked(benchmark, int(question_set))
    if not Path(question_set).is_file():
        raise ConfigError(
            "--questions: expected the size of a known question set, or a file that lists questions; "
            f"got {question_set!r}"
        )
    return question_sets.narrowed(benchmark, Path(question_set))


def score(benchmark: Benchmark, answers: Sequence[Path], protocol: str) -> Scored:
    """The answers in the files under `protocol`: a protocol's name, or "all" for those that cover the benchmark.

    Raises ConfigError for an unknown protocol and DataError for files that cannot be read.
    """
    names = list(protocols.REGISTRY) if protocol == ALL else [protocol]
    chosen = [found for found in map(protocols.get, names) if protocol != ALL or found.covers(benchmark.name)]
    found = answer_files.read(answers, benchmark.questions)
    asked = [(question, found.by_id[question.id]) for question in benchmark.questions if question.id in found.by_id]
    return Scored(
        benchmark=benchmark, answers=found, scores=tuple(_score(one, benchmark.name, asked) for one in chosen)
    )


def _folder(name: str, path: Path) -> Path:
    """The folder to load; a file stands for its folder if no other annotation file there could be meant."""
    if not path.is_file():
        return path
    if path.suffix not in _ANNOTATIONS:
        raise ConfigError(f"{path}: expected a data folder or an annotation file ({', '.join(_ANNOTATIONS)})")
    beside = (file for file in path.parent.iterdir() if file.suffix in _ANNOTATIONS and file != path)
    others = sorted(file.name for file in beside if file.name != GENERATED)
    if others and not benchmarks.REGISTRY[name].several_files:
        raise ConfigError(
            f"{path}: other annotation files lie beside it ({', '.join(others)}); name the folder instead"
        )
    return path.parent


def _score(protocol: Protocol, benchmark: str, asked: Sequence[tuple[Question, str]]) -> Score:
    read = [(question.groups, protocol.read(question, text)) for question, text in asked]
    counted = [(groups, reply.correct) for groups, reply in read if reply.correct is not None]
    return Score(
        protocol=f"{protocol.name} {protocol.version}",
        averages=protocol.averages(benchmark, counted),
        overall=_share([right for _, right in counted]),
        unparsed=sum(reply.letter is None for _, reply in read),
        excluded=len(read) - len(counted),
        groups=_groups(counted),
        scoring_note=protocol.scoring_note(benchmark),
    )


def _share(rights: Sequence[bool]) -> Share:
    return Share(right=sum(rights), n=len(rights))


def _groups(counted: Sequence[tuple[Mapping[str, tuple[str, ...]], bool]]) -> dict[tuple[str, str], Share]:
    """A question with several labels of a kind counts under each of them."""
    rights: dict[tuple[str, str], list[bool]] = {}
    for groups, right in counted:
        for kind, labels in groups.items():
            for label in labels:
                rights.setdefault((kind, label), []).append(right)
    return {key: _share(found) for key, found in rights.items()}
