"""What a protocol is, and the averages in use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.types import Question, Reply, Video

Average = Sequence[tuple[Mapping[str, tuple[str, ...]], bool]]  # (groups, correct) of every scored question


@dataclass(frozen=True)
class PromptContext:
    """What a prompt may say about the video: the dense run's, so that every method gets the same prompt."""

    video: Video
    seconds: tuple[float, ...]  # when the dense run's frames are shown: frame number / average frame rate
    tokenizer: Any = field(repr=False)  # the backbone's, for protocols that cut subtitles to a number of tokens


class Protocol(ABC):
    """One published way to ask and score. `name` and `version` belong to a run's identity."""

    name: str
    version: str  # of the code that asks and scores
    stop: tuple[str, ...]  # generation ends before the first of these
    subtitles: bool  # True: questions come with the protocol's choice of subtitles, where the benchmark has any

    def with_subtitles(self) -> Protocol:
        """The same protocol with subtitles, called `<name>_subtitles`. ConfigError where there is none."""
        raise ConfigError(f"protocol: {self.name} has no variant with subtitles; use protocol={self.name}")

    def covers(self, benchmark_name: str) -> bool:
        """Whether the benchmark can be asked under it; the other methods raise ConfigError where it cannot."""
        return True

    @abstractmethod
    def prompt(self, question: Question, context: PromptContext | None = None) -> str:
        """The user's turn, without the video and without the model's chat template.

        `context` is needed where the prompt depends on the video, as with subtitles; ConfigError where it is
        missing then.
        """

    def system(self, benchmark_name: str) -> str | None:
        """The system turn; None: whatever the checkpoint's chat template puts there."""
        return None

    def prefill(self, benchmark_name: str) -> str:
        """Text that begins the model's reply; it is not part of the reply that is read."""
        return ""

    @abstractmethod
    def max_new_tokens(self, benchmark_name: str) -> int:
        """Length limit of a reply, in tokens."""

    def gold(self, question: Question) -> str:
        """The right letter; "" where the row has no right option."""
        return question.answer

    @abstractmethod
    def read(self, question: Question, text: str) -> Reply:
        """The letter that a reply names, and whether it is right: None if the protocol leaves it out of its averages.

        An unreadable reply is never right.
        """

    def scoring_note(self, benchmark_name: str) -> str:
        """What happens to unreadable replies and to rows with a quirk, for the notes under a table."""
        return "an unreadable reply is wrong"

    @abstractmethod
    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """Averages in percent, the protocol's own first, the benchmark's official one so named; empty without rows."""


def micro(rows: Average) -> float:
    """Percent right of all questions."""
    return 100 * sum(right for _, right in rows) / len(rows)


def macro(rows: Average, key: str) -> float:
    """Mean over the labels of group `key` of the percent right; labels without questions are left out."""
    by_label: dict[str, list[bool]] = {}
    for groups, right in rows:
        for label in groups[key]:
            by_label.setdefault(label, []).append(right)
    return sum(100 * sum(rights) / len(rights) for rights in by_label.values()) / len(by_label)


def official_micro(rows: Average) -> dict[str, float]:
    """Video-MME's and LVBench's own average."""
    return {"micro (official)": micro(rows)}


def official_macro(rows: Average) -> dict[str, float]:
    """MLVU's own average, the mean of the tasks' accuracies, and micro."""
    return {"macro (official)": macro(rows, "task_type"), "micro": micro(rows)}
