"""Runs that are the same by construction: a method at ratio 1 that keeps everything is the dense run over again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.types import Answer

# What the model was shown and kept, as the engine counted it; not what it was called, nor how long it took.
_COUNTS = (
    "frames_decoded",
    "cells",
    "tokens_dense",
    "tokens_encoded",
    "tokens_selected",
    "llm_tokens_fed",
    "kv_tokens_per_layer",
    "kv_bytes",
)


def identical(pairs: Iterable[tuple[Answer | None, Answer | None]]) -> bool:
    """Whether each question that was answered in both runs has the same input, by all counts, and the same reply.

    Such a row of a table tests nothing: no question can differ, its p is 1 whatever the data, and it must not count in
    the family of Holm's correction (Tarone 1990, Biometrics 46: hypotheses that cannot be rejected do not count).
    Different inputs with the same scores are not such a row. False where no question was answered in both.
    """
    both = [(a, b) for a, b in pairs if a and b and "failed" not in (a.status, b.status)]
    return bool(both) and all(_seen(a) == _seen(b) for a, b in both)


def _seen(answer: Answer) -> tuple[Any, ...]:
    ledger = answer.ledger
    counts = None if ledger is None else tuple(getattr(ledger, name) for name in _COUNTS)
    return answer.prompt_sha, answer.kept, counts, answer.status, answer.text, answer.letter, answer.correct
