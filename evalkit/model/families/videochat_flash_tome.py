"""Token merging (ToMe, arXiv 2210.09461) as VideoChat-Flash (arXiv 2501.00574) merges the patches of a clip.

A round splits the tokens into even and odd places and merges each of the r even ones that are most like some odd one
into that, as an average weighted by how many patches each stands for. Rounds halve the tokens until the target is less
than a half away. What the last round leaves of the even places comes first, the most similar first; so a token's place
in the output says nothing about its frame.
Shape letters: B clips, N tokens of a clip, C width, H heads, r tokens merged in a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Matches:
    """One round: indices among the even places (`left`, `source`) and the odd ones (`target`), each (B, n)."""

    left: Tensor  # not merged
    source: Tensor  # merged, the most similar first
    target: Tensor  # into which


def rounds(tokens: int, target: int) -> list[int]:
    """Tokens that each round merges away on the way from `tokens` to `target`."""
    merged = []
    while tokens > target:
        merged.append(min(tokens // 2, tokens - target))
        tokens -= merged[-1]
    return merged


def match(metric: Tensor, r: int) -> Matches:
    """The r closest pairs of an even with an odd place by the cosine of `metric` (B, N, C/H).

    Of equal ones the earlier goes first; the released code leaves their order to chance.
    """
    unit = metric / metric.norm(dim=-1, keepdim=True)
    closeness, nearest = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(dim=-1)
    order = closeness.argsort(dim=-1, descending=True, stable=True)
    return Matches(order[:, r:], order[:, :r], nearest.gather(1, order[:, :r]))


def merge(tokens: Tensor, heads: int, target: int) -> Tensor:
    """Tokens (B, N, C) -> (B, target, C); pairs are compared by the mean over `heads` groups of channels."""
    size = torch.ones_like(tokens[..., :1])
    for r in rounds(tokens.shape[1], target):
        matches = match(compared(tokens, heads), r)
        weighted, size = _summed(tokens * size, matches), _summed(size, matches)
        tokens = weighted / size
    return tokens


def compared(tokens: Tensor, heads: int) -> Tensor:
    """Tokens (B, N, C) -> what is compared of them, the mean over heads (B, N, C/H)."""
    clips, count, width = tokens.shape
    return tokens.reshape(clips, count, heads, width // heads).mean(2)


def _summed(x: Tensor, matches: Matches) -> Tensor:
    """Values (B, N, C) -> (B, N − r, C): those of merged tokens are added to their targets'."""
    even, odd = x[:, ::2], x[:, 1::2]
    return torch.cat([_rows(even, matches.left), _added(odd, matches.target, _rows(even, matches.source))], 1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def _added(x: Tensor, index: Tensor, source: Tensor) -> Tensor:
    """`source` (B, r, C) added to the rows `index` (B, r) of `x`, always in the same order."""
    if x.device.type == "cpu":
        return x.scatter_add(1, index[..., None].expand_as(source), source)
    # scatter_add on a GPU adds in any order, so that the last bits change from call to call; this sorts first
    clip = torch.arange(len(x), device=x.device)[:, None].expand_as(index)
    return x.index_put((clip, index), source, accumulate=True)


def flops(tokens: int, target: int, width: int) -> int:
    """Operations of comparing the tokens of one clip in all rounds; `width` of what is compared."""
    total = 0
    for r in rounds(tokens, target):
        total += 2 * (tokens - tokens // 2) * (tokens // 2) * width
        tokens -= r
    return total
