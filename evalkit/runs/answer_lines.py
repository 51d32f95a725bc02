"""Answers as lines of answers.jsonl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.types import Answer, KeptOverTime

NONE_KEPT = ', "kept": null, '  # a key of a line alone: quotation marks inside a string have backslashes

_encoded = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder for each line


def line(values: dict[str, Any]) -> bytes:
    """Plain values as one line."""
    return f"{_encoded(values)}\n".encode()


class AnswerLines:
    """Writes a run's answers. What a cache keeps of a video is three quarters of a line, and the same for all its
    questions: it is encoded once.
    """

    def __init__(self, identity: Any) -> None:
        self._identity = identity
        self._kept: KeptOverTime | None = None
        self._text = "null"  # of `_kept`

    def line(self, answer: Answer) -> bytes:
        """As `line` of its values with the run's identity after them."""
        values = {**answer.to_dict(), "identity": self._identity}
        if answer.kept is not self._kept and answer.kept != self._kept:
            self._kept, self._text = answer.kept, _encoded(values["kept"])
        before, _, after = _encoded(values | {"kept": None}).partition(NONE_KEPT)
        return f'{before}, "kept": {self._text}, {after}\n'.encode()
