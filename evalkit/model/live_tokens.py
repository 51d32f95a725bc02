"""The visual tokens that a layer still sees, and the index by which a verb keeps some of them.

Chunked prefill (evalkit.model.hooks) and the differentiable forward of tuning (evalkit.tune.forward) narrow through the
same class, so that one method drops the same tokens and numbers them alike in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from evalkit.errors import MethodError
from evalkit.model.separators import NO_CELL, TEXT, SequenceLayout
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.method import Budget, Method, PruneView
    from evalkit.model.positions import Positions
    from evalkit.model.separators import Separators
    from evalkit.types import Pruned, VisualTokens


@dataclass
class LiveTokens:
    """What `prune` has left so far: visual tokens, which the method sees, and the separators between them."""

    tokens: VisualTokens
    ids: Tensor  # (R, n) in the uncompressed layout
    layout: SequenceLayout | None = None  # of the n entries; None: all are visual tokens
    renumbered: bool = False  # from the layer at hand on, ids count the entries of each layer
    memo: object = None  # what the method left for its next call

    @classmethod
    def of(
        cls, tokens: VisualTokens, separators: Separators | None, ids: Tensor, text: tuple[int, int] = (0, 0)
    ) -> LiveTokens:
        """All of them; ids (R, n) of the mixed sequence, with so much text before and after what is of the video."""
        alone = separators is None and not any(text)
        return cls(tokens, ids, None if alone else SequenceLayout.of(tokens, separators, text))

    def __len__(self) -> int:
        return int(self.ids.shape[1])

    @property
    def cells(self) -> Tensor:
        """Temporal cell of each entry, (n,) long; NO_CELL of a separator, TEXT of the prompt's text."""
        if self.layout is None:
            return self.tokens.cell
        cells = self.layout.spread(self.tokens.cell, NO_CELL)
        return cells.masked_fill(self.layout.row == TEXT, TEXT)

    def entries(self, index: Tensor) -> Tensor:
        """Entries (n',) that stay where the visual tokens at `index` do, ascending."""
        return index if self.layout is None else self.layout.entries(index)

    def visual(self, x: Tensor) -> Tensor:
        """Of x (…, n, d) the visual tokens, (…, N, d)."""
        if self.layout is None:
            return x
        index = self.layout.visual.nonzero()[:, 0]  # on the CPU: a mask on a GPU would wait for it
        return x.index_select(-2, to_device(index, x.device))

    def with_visual(self, hidden: Tensor, added: Tensor) -> Tensor:
        """Hidden states (1, n, D) with `added` (N, D) on those of the visual tokens."""
        added = to_device(added, hidden.device, hidden.dtype)
        if self.layout is None:
            return hidden + added
        where = to_device(self.layout.visual.nonzero()[:, 0], hidden.device)
        return hidden.index_add(1, where, added[None])

    def replaced(self, hidden: Tensor, states: Tensor) -> Tensor:
        """Hidden states (1, n, D) with `states` (N, D) in the place of the visual tokens'."""
        states = to_device(states, hidden.device, hidden.dtype)
        if self.layout is None:
            return states[None]
        where = to_device(self.layout.visual.nonzero()[:, 0], hidden.device)
        return hidden.index_copy(1, where, states[None])

    def prune(
        self, method: Method, layer: int, layers: int, budget: Budget, positions: Positions, view: PruneView
    ) -> Pruned | None:
        """Ask the method what goes on to `layer` (of `layers`), and keep that; None where everything does.

        The index of what is returned is that of all entries, separators included. Raises MethodError for a wrong index
        or states that do not belong to it.
        """
        pruned = method.prune(layer, layers, self.tokens, budget, view)
        if pruned is None:
            return None
        index = check_index(pruned.index, len(self.tokens), f"{type(method).__name__}.prune", none=True)
        if pruned.states is not None and len(pruned.states) != len(index):
            raise MethodError(
                f"{type(method).__name__}.prune() must return a state for each of the {len(index)} tokens that go on, "
                f"got {len(pruned.states)}"
            )
        self.memo = pruned.memo
        entries = self.entries(index)
        self.renumbered |= positions.renumbers(pruned)
        self.tokens, self.ids = self.tokens.keep(index), self.ids[:, entries]
        self.layout = None if self.layout is None else self.layout.keep(entries)
        return replace(pruned, index=entries)


def check_index(index: Tensor, length: int, verb: str, *, none: bool = False) -> Tensor:
    """The contract of every verb that keeps tokens: an ascending, unique long index inside the chunk.

    `none`: whether it may be empty.
    """
    wrong = (
        index.ndim != 1
        or index.dtype != torch.long
        or (len(index) == 0 and not none)
        or (len(index) > 0 and not 0 <= int(index[0]) <= int(index[-1]) < length)
        or bool((index[1:] <= index[:-1]).any())
    )
    if wrong:
        shape = "long, 1-D" if none else "long, 1-D, not empty"
        raise MethodError(
            f"{verb}() must return ascending, unique positions ({shape}) in [0, {length}); "
            f"{index.dtype = }, {tuple(index.shape) = }, {index[:8].tolist() = }"
        )
    return index
