"""Questions on one cache, read in one feed: each attends to the cache and to itself alone.

One feed spares the fixed cost of a feed for each question. It gives the same bits where a product of many rows gives
each row what a product of that row's question alone gives, which depends on the device and its library: `Decoder` tries
it once and feeds questions one by one elsewhere. What is read waits as a `Tail` until its question's turn.
Shape letters: R rows of ids, S tokens of a feed, H query heads, G key heads, d head width, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from evalkit.model.hooks import LayerHooks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evalkit.model.positions import Positions
    from evalkit.model.prefill_state import PrefillState

MOST = 2048  # tokens of one feed; a longer question has a feed of its own
TRIED = (5, 41, 12, 23)  # lengths of the questions by which `Decoder` tries whether bits stay the same


@dataclass(frozen=True)
class LayerTail:
    """One layer's entries of a question."""

    ids: Tensor  # (R, n)
    keys: Tensor  # (1, G, n, d), rotated
    values: Tensor


@dataclass(frozen=True)
class Tail:
    """A question that was read after a cache, of which it is no part yet; or a token of a reply, read after that."""

    token_ids: tuple[int, ...]
    hidden: Tensor  # (D,) of its last token
    layers: tuple[LayerTail, ...]

    def is_end_of(self, state: PrefillState, hidden: Tensor) -> bool:
        """Whether a state that was fed this last, and its hidden state, hold the same bits."""
        count = len(self.token_ids)
        return torch.equal(self.hidden, hidden) and all(
            torch.equal(own.keys, fed.keys[:, :, -count:]) and torch.equal(own.values, fed.values[:, :, -count:])
            for own, fed in zip(self.layers, state.layers, strict=True)
        )


def packs(questions: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions of questions (token ids) that are read in one feed each, in their order."""
    found: list[list[int]] = []
    room = 0
    for place, ids in enumerate(questions):
        if not found or len(ids) > room:
            found.append([])
            room = MOST
        found[-1].append(place)
        room -= len(ids)
    return found


class _Passing(DynamicLayer):  # type: ignore[misc]
    """A cache layer that keeps a feed's keys and values and hands them on as they are."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states


class PassingFeed(LayerHooks):
    """One feed of text that stands at several places after a state, which it leaves as it is."""

    def __init__(self, layers: Sequence[nn.Module], positions: Positions, state: PrefillState, ids: Tensor) -> None:
        super().__init__(layers, positions, state, ids)
        self.cache = Cache(layers=[_Passing() for _ in layers])
        self._ids: list[Tensor] = []  # of each layer, (R, S)

    def _record(self, i: int, ids: Tensor) -> None:
        self._ids.append(ids)

    def attend(self, attend: Any, i: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`attend(query, keys, values)` for each place in turn, (1, S, H, d) of all, in layer i.

        `query` (1, H, S, d), `key` and `value` (1, G, S, d).
        """
        raise NotImplementedError

    def tails(self, hidden: Tensor) -> list[Tail]:
        """What was read, one for each place; `hidden` (1, S, D) are the last layer's states."""
        raise NotImplementedError

    def read(self, part: slice) -> tuple[LayerTail, ...]:
        """Every layer's entries of a part of the feed."""
        return tuple(
            LayerTail(at[:, part], layer.keys[:, :, part], layer.values[:, :, part])
            for at, layer in zip(self._ids, self.cache.layers, strict=True)
        )


class TailFeed(PassingFeed):
    """One feed of several questions after a state; all begin at the same id, so that they move by the same."""

    def __init__(
        self, layers: Sequence[nn.Module], positions: Positions, state: PrefillState, questions: Sequence[Sequence[int]]
    ) -> None:
        ids = [positions.text_ids(state.next_id, len(one)) for one in questions]
        super().__init__(layers, positions, state, torch.cat(ids, 1))
        self._questions = questions
        ends = torch.tensor([0, *map(len, questions)]).cumsum(0).tolist()
        self._parts = [slice(start, end) for start, end in pairwise(ends)]

    def attend(self, attend: Any, i: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """A question's entries follow the layer's cache while it is its turn, as they do where it is fed alone."""
        layer, found = self.state.layers[i], []
        for part in self._parts:
            keys, values = layer.followed_by((key[:, :, part], value[:, :, part]))
            found.append(attend(query[:, :, part], keys, values))
        return torch.cat(found, 1)

    def tails(self, hidden: Tensor) -> list[Tail]:
        """What was read; `hidden` (1, S, D) are the last layer's states."""
        return [
            Tail(tuple(ids), hidden[0, part.stop - 1], self.read(part))
            for ids, part in zip(self._questions, self._parts, strict=True)
        ]
