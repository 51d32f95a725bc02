"""The small loop of evalkit.testing, and what only our own tests do with it."""

from __future__ import annotations

from evalkit.model.decoder import Decoder
from evalkit.model.prefill_state import PrefillState
from evalkit.testing.loop import DENSE, FirstLetterProtocol, answer, answer_key, engine, exact_key, question

__all__ = ["DENSE", "FirstLetterProtocol", "answer", "answer_key", "engine", "exact_key", "question", "replied"]


def replied(decoder: Decoder, context: PrefillState, tail: list[int], count: int) -> list[int]:
    """Feed the ids of a tail and decode greedily."""
    return decoder.generate(context, decoder.next_token(context, decoder.prefill_text(context, tail)), count)
