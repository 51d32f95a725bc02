"""FlashVID's two choices within a segment: diverse tokens, and a tree of like tokens over time.

Shape letters: L cells of a segment, P places per cell, D feature width, A tokens of a cell that are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

SCALE = 1e6  # of attention; source: released code
LOWEST = -1.0  # similarity of tokens that are not merged


def diverse(x_LPD: Tensor, attention_LP: Tensor, count: int, *, toward_mean: bool) -> Tensor:
    """Places of each cell that are far from each other, weighted by attention, (L, A) ascending, on the CPU.

    First the one whose nearest other is farthest, then always the one whose nearest chosen is farthest. A distance to a
    token counts times that token's attention and, `toward_mean`, times its product with the mean of the segment; then
    chosen tokens are not barred, as in the released code.
    """
    unit = normalize(x_LPD, dim=-1)
    weight = attention_LP * SCALE
    if toward_mean:
        weight = weight * (x_LPD * x_LPD.mean((0, 1))).sum(-1)
    distance = (1 - unit @ unit.transpose(1, 2)) * weight[:, None]  # (L, chosen, candidate)
    chosen = [distance.topk(2, dim=1, largest=False).values[:, 1].argmax(1)]
    nearest = torch.full_like(weight, torch.inf)
    every = torch.arange(len(x_LPD), device=distance.device)
    for _ in range(count - 1):
        nearest = nearest.minimum(distance[every, chosen[-1]])
        if not toward_mean:
            nearest[every, chosen[-1]] = LOWEST
        chosen.append(nearest.argmax(1))
    return torch.stack(chosen, 1).sort(1).values.cpu()


@dataclass(frozen=True)
class Tree:
    """What merging over time leaves."""

    features: Tensor  # (L, P, D) of roots; of others without meaning
    left: Tensor  # (L, P) bool on the CPU: roots that were not chosen
    root: Tensor  # (L·P,) long on the CPU: position in the segment into which each token went; its own where in none


def merge_over_time(x_LPD: Tensor, chosen_LA: Tensor, total: int, threshold: float) -> Tree:
    """Tokens go into the most similar one of the cell before, where that is more alike than the threshold.

    At least `total` tokens of a cell are left on average: else the threshold rises. Chosen tokens take no part. A token
    that others went into is their sum over its direct children and itself, whatever those have taken in.
    """
    length, places = x_LPD.shape[:2]
    taken = torch.zeros(length, places, dtype=torch.bool).scatter(1, chosen_LA, True)
    root = torch.arange(length * places)
    if length == 1:  # as released: what was chosen goes on to the clusters, too
        return Tree(x_LPD, torch.ones_like(taken), root)
    alike, partner = _partners(x_LPD, taken.to(x_LPD.device))
    merging = alike > _threshold(alike, total, threshold)
    features = _summed(x_LPD, merging, partner)
    merging, partner = merging.cpu(), partner.cpu()
    for t in range(1, length):
        own = merging[t].nonzero()[:, 0]
        root[own + t * places] = root[partner[t, own] + (t - 1) * places]
    return Tree(features, ~merging & ~taken, root)


def _partners(x_LPD: Tensor, taken_LP: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity to the most similar token of the cell before, and its place, (L, P) each; LOWEST: none."""
    unit = normalize(x_LPD, dim=-1)
    alike = x_LPD.new_full(taken_LP.shape, LOWEST)
    partner = torch.zeros_like(taken_LP, dtype=torch.long)
    for t in range(1, len(x_LPD)):
        cosine = (unit[t] @ unit[t - 1].T).masked_fill(taken_LP[t - 1], LOWEST)
        alike[t], partner[t] = cosine.max(1)
    return alike.masked_fill(taken_LP, LOWEST), partner


def _threshold(alike_LP: Tensor, total: int, threshold: float) -> float:
    length, places = alike_LP.shape
    if int((alike_LP <= threshold).sum()) >= total * length:
        return threshold
    at = length * (places - total) - 1
    return max(float(alike_LP.flatten().sort(descending=True).values[at]), LOWEST + 1e-6)


def _summed(x_LPD: Tensor, merging_LP: Tensor, partner_LP: Tensor) -> Tensor:
    """Sums travel from the last cell to the first; a root is divided by its direct children and one."""
    features, count = x_LPD.clone(), torch.ones_like(merging_LP, dtype=x_LPD.dtype)
    for t in range(len(x_LPD) - 1, 0, -1):
        into, moved = partner_LP[t, merging_LP[t]], features[t, merging_LP[t]]
        # accumulating adds in the same order at every call, also on a GPU
        features[t - 1] = features[t - 1].index_put((into,), moved, accumulate=True)
        count[t - 1] += torch.bincount(into, minlength=count.shape[1])
    return features / count.where(~merging_LP, torch.ones_like(count))[:, :, None]
