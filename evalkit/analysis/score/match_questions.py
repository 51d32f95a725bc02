"""Finding the question that another harness's record answers, where the record has no id of ours.

lmms-eval's samples and VLMEvalKit's tables number the rows of the file that they read, which need not be ours or in our
order. So a number is believed only where the row's words agree, and else the words alone decide.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evalkit.types import Question


class QuestionMatcher:
    """The questions of a set, to be found by words, number, video or right letter."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.ids = {question.id for question in questions}
        self._questions = questions
        self._words = [_plain(question.row["question"]) for question in questions]
        self._by_words: dict[str, list[Question]] = {}
        for question, words in zip(questions, self._words, strict=True):
            for key in dict.fromkeys((words, _plain(question.text))):
                self._by_words.setdefault(key, []).append(question)

    def sample(self, row: Mapping[str, Any]) -> str | None:
        """The id for a line of lmms-eval's samples file, which has no document: doc_id, input, target, metrics."""
        scored = [value for value in row.values() if isinstance(value, dict) and "question_id" in value]
        named = str(scored[0]["question_id"]) if scored else ""
        if named in self.ids:
            return named
        # MLVU's task puts the question's text where others have an id
        return self._found(named or str(row.get("input", "")), row.get("doc_id"), gold=str(row.get("target", "")))

    def table_row(self, row: Mapping[str, Any]) -> str | None:
        """The id for a row of a VLMEvalKit table: index, video, question, prediction."""
        return self._found(str(row["question"]), row["index"], video=PurePosixPath(str(row.get("video", ""))).stem)

    def _found(self, text: str, number: Any, *, video: str = "", gold: str = "") -> str | None:
        words = _plain(text)
        at = int(number) if str(number).isdigit() else -1
        same = self._by_words.get(words) or self._inside(words, at)
        fits: tuple[Callable[[Question], bool], ...] = (
            lambda question: video in ("", PurePosixPath(question.video_id).name),
            lambda question: gold in ("", question.answer),
            lambda question: 0 <= at < len(self._questions) and self._questions[at] is question,
        )
        for fit in fits:
            if len(same) > 1:
                same = list(filter(fit, same)) or same
        return same[0].id if len(same) == 1 else None

    def _inside(self, words: str, at: int) -> list[Question]:
        """Questions whose text is a part of a prompt: the numbered one if it is, else the longest ones."""
        if 0 <= at < len(self._words) and self._words[at] in words:
            return [self._questions[at]]
        hits = [k for k, text in enumerate(self._words) if text and text in words]
        longest = max((len(self._words[k]) for k in hits), default=0)
        return [self._questions[k] for k in hits if len(self._words[k]) == longest]


def _plain(text: str) -> str:
    """Tables change line ends and white space, so only the words count."""
    return " ".join(text.split())
