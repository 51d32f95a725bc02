"""Reply tokens of several questions on one cache, fed at once: each attends to the cache, its question and its reply.

One row of a product is summed in another way than several rows are, so every product with weights in a layer is made
row by row here, as it is where a token is fed alone; what is spared is the rest of a feed. `Decoder` tries once whether
bits stay the same, and feeds tokens one by one elsewhere.
Shape letters: R rows of ids, n tokens, one of each reply, H query heads, G key heads, d head width, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Linear
from torch.nn.functional import linear

from evalkit.model.tails import PassingFeed, Tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from evalkit.model.positions import Positions
    from evalkit.model.prefill_state import PrefillState

Chain = list[Tail]  # a question, and the tokens of its reply that were read, in turn


def row_by_row(module: Linear, args: tuple[Tensor], _: Tensor) -> Tensor:
    """A forward hook: the product of states (1, n, D) with weights as n products of one row."""
    return torch.cat([linear(row, module.weight, module.bias) for row in torch.split(args[0], 1, 1)], 1)


class TokenFeed(PassingFeed):
    """One feed of the next token of several replies, whose questions were read after a state; it stays as it is."""

    def __init__(
        self,
        layers: Sequence[nn.Module],
        positions: Positions,
        state: PrefillState,
        chains: Sequence[Chain],
        tokens: Sequence[int],
    ) -> None:
        before = [sum(len(tail.token_ids) for tail in chain) for chain in chains]
        ids = [positions.text_ids(state.next_id + count, 1) for count in before]
        super().__init__(layers, positions, state, torch.cat(ids, 1))
        self._chains, self._tokens = chains, tokens

    def _hooked(self, i: int, layer: Any) -> list[Any]:
        weights = [module for module in layer.modules() if isinstance(module, Linear)]
        return [*super()._hooked(i, layer), *(module.register_forward_hook(row_by_row) for module in weights)]

    def _ids_at(self, i: int) -> Tensor:
        """As `PrefillState.ids_after_reindexing` while decoding, for each reply behind its own last entry."""
        if not self.state.reindexed[i]:
            return self.ids
        last = torch.stack([chain[-1].layers[i].ids[0, -1] for chain in self._chains])
        return self.ids + (last + 1 - self.ids[0])

    def attend(self, attend: Any, i: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`attend(query, keys, values)` for each token in turn, (1, n, H, d) of all, in layer i.

        `query` (1, H, n, d), `key` and `value` (1, G, n, d).
        """
        layer, found = self.state.layers[i], []
        for place, chain in enumerate(self._chains):
            own = slice(place, place + 1)
            read = [(tail.layers[i].keys, tail.layers[i].values) for tail in chain]
            keys, values = layer.followed_by(*read, (key[:, :, own], value[:, :, own]))
            found.append(attend(query[:, :, own], keys, values))
        return torch.cat(found, 1)

    def tails(self, hidden: Tensor) -> list[Tail]:
        """What was read; `hidden` (1, n, D) are the last layer's states."""
        return [
            Tail((token,), hidden[0, place], self.read(slice(place, place + 1)))
            for place, token in enumerate(self._tokens)
        ]
