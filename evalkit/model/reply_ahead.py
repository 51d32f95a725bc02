"""Replies to several questions on one cache, read ahead.

Which token comes next is settled in a question's own turn, by what the model says there; one that was read ahead is
taken over where it is that token, and spares a feed of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.model.decoder import Decoder
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.reply_tokens import Chain
    from evalkit.model.tails import Tail


def read_ahead(
    decoder: Decoder, state: PrefillState, questions: Sequence[Tail], limit: int, stop: Sequence[str]
) -> list[Chain]:
    """The tokens of each question's reply but the last, which is not fed: as far as several replies go on together."""
    chains = [[tail] for tail in questions]
    replies: list[list[int]] = [[] for _ in questions]
    going = list(range(len(chains)))
    while True:
        for place in going:
            replies[place].append(decoder.choose_after(state, chains[place]))
        going = [place for place in going if not decoder.is_over(replies[place], limit, stop)]
        if len(going) < 2:
            return [chain[1:] for chain in chains]
        fed = decoder.read_tokens(state, [chains[place] for place in going], [replies[place][-1] for place in going])
        for place, tail in zip(going, fed, strict=True):
            chains[place].append(tail)
