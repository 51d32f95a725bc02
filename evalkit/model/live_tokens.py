"""The visual tokens that a layer still sees, and the index by which a verb keeps some of them.

Chunked prefill (evalkit.model.hooks) and the differentiable forward of tuning (evalkit.tune.forward) narrow through the
same class, so that one method drops the same tokens and numbers them alike in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evalkit.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.method import Budget, Method
    from evalkit.model.positions import Positions
    from evalkit.types import Pruned, VisualTokens


@dataclass
class LiveTokens:
    """What `prune` has left so far."""

    tokens: VisualTokens
    ids: Tensor  # (R, n) in the uncompressed layout
    renumbered: bool = False  # from the layer at hand on, ids count the entries of each layer

    def prune(self, method: Method, layer: int, layers: int, budget: Budget, positions: Positions) -> Pruned | None:
        """Ask the method what goes on to `layer` (of `layers`), and keep that; None where everything does.

        Raises MethodError for a wrong index.
        """
        pruned = method.prune(layer, layers, self.tokens, budget)
        if pruned is None:
            return None
        index = check_index(pruned.index, len(self.tokens), f"{type(method).__name__}.prune", none=True)
        self.renumbered |= positions.renumbers(pruned)
        self.tokens, self.ids = self.tokens.keep(index), self.ids[:, index]
        return pruned


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
