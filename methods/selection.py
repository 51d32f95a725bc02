"""What methods that choose visual tokens have in common.

Shape letters: T temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from evalkit.errors import MethodError
from evalkit.method import Method
from evalkit.types import VisualTokens


def cells(tokens: VisualTokens, method: Method, *, same_place: bool = False) -> Tensor:
    """The features of whole cells, (T, P, D) float32.

    MethodError where some tokens are missing, or where a method that compares a place with the `same_place` of another
    cell is given tokens without places.
    """
    name, count, places = type(method).__name__, len(tokens.cell_seconds), tokens.grid[0] * tokens.grid[1]
    if len(tokens) != count * places:
        raise MethodError(
            f"{name} reads whole cells: expected {count} of {tokens.grid} tokens, got {len(tokens)} tokens; "
            "let it select before tokens are dropped"
        )
    if same_place:
        expect_places(tokens.spatial, method)
    return tokens.features.reshape(count, places, -1).float()


def expect_places(spatial: bool, method: Method) -> None:
    """MethodError where tokens have no places, for a method that compares a place with the same place elsewhere."""
    if not spatial:
        raise MethodError(
            f"{type(method).__name__} compares a place with the same place of another cell, and is not defined on this "
            "backbone: its encoder merges the patches of a clip, so that a token has no place"
        )


def highest(score: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores (n,), ascending, on the CPU; of equal ones the earlier."""
    return score.cpu().argsort(descending=True, stable=True)[:count].sort().values


def lowest(score: Tensor, count: int) -> Tensor:
    """Positions of the `count` lowest scores (n,), ascending, on the CPU; of equal ones the earlier."""
    return score.cpu().argsort(stable=True)[:count].sort().values


def per_cell(count: int, cells: int) -> list[int]:
    """`count` tokens spread evenly over `cells` cells: each has as many as another, or one more."""
    ends = [count * (cell + 1) // cells for cell in range(cells)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def similarity(x_TPD: Tensor) -> Tensor:
    """Cosine of each place with itself one cell before, (T − 1, P)."""
    steps = [cosine_similarity(x_TPD[t], x_TPD[t - 1], dim=-1) for t in range(1, len(x_TPD))]
    return torch.stack(steps) if steps else x_TPD.new_empty(0, x_TPD.shape[1])


def others(places: int, taken: Tensor) -> Tensor:
    """Positions from 0 to `places` that are not among `taken`, ascending."""
    return torch.ones(places, dtype=torch.bool).index_fill(0, taken, False).nonzero()[:, 0]
