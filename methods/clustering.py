"""Density peaks, and merging by nearest centre, as FastVID, HoliTom and FlashVID have them.

Density peaks (Rodriguez and Laio, 2014; with k nearest neighbours, Du et al., 2016): centres are points in dense places
that are far from any denser point.
Shape letters: N points, D width, M centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

NOISE = 1e-6  # that the released codes add to densities, so that ties are broken by chance


@dataclass(frozen=True)
class Peaks:
    """What a choice of centres is made by."""

    score: Tensor  # (N,) on the CPU
    distance: Tensor  # (N, N), of points over √D
    flops: int

    def centers(self, count: int) -> Tensor:
        """The `count` highest scores, ascending by position, (M,) on the CPU; of equal ones the earlier."""
        return self.score.argsort(descending=True, stable=True)[:count].sort().values

    def members(self, centers: Tensor) -> Tensor:
        """The nearest of the centres, as a number below M, (N,) on the CPU; a centre belongs to itself."""
        nearest = self.distance[:, centers.to(self.distance.device)].argmin(1).cpu()
        nearest[centers] = torch.arange(len(centers))
        return nearest


def density_peaks(x_ND: Tensor, neighbours: int, noise_N: Tensor) -> Peaks:
    """Score of each point: its density times the distance to the nearest denser point.

    A point is one of its own `neighbours`; the densest point has the largest of all distances. `noise_N` is drawn from
    [0, 1); it decides between densities that are closer than 1e-6.
    """
    distance = _distances(x_ND) / x_ND.shape[1] ** 0.5
    squared = distance.square().topk(neighbours, largest=False).values
    density = torch.exp(-squared.mean(1)) + NOISE * noise_N.to(x_ND.device)
    denser = density[None] > density[:, None]
    gap = distance.masked_fill(~denser, torch.inf).min(1).values
    gap = torch.where(gap.isinf(), distance.max(), gap)
    return Peaks((gap * density).cpu(), distance, 2 * x_ND.shape[0] ** 2 * x_ND.shape[1])


def _distances(x_ND: Tensor) -> Tensor:
    """Euclidean distances, symmetric to the last bit, so that mutual neighbours tie as they do on paper."""
    centered = x_ND - x_ND.mean(0)
    norm = centered.square().sum(1)
    squared = norm[:, None] + norm - 2 * centered @ centered.T
    squared = ((squared + squared.T) / 2).clamp(min=0).fill_diagonal_(0)
    return squared.sqrt()


def most_similar(x_ND: Tensor, anchors_MD: Tensor) -> tuple[Tensor, int]:
    """Number of the anchor with the highest cosine, the first on ties, (N,) on the CPU; and the operations it took."""
    cosine = normalize(x_ND, dim=-1) @ normalize(anchors_MD, dim=-1).T
    return cosine.argmax(1).cpu(), 2 * x_ND.shape[0] * anchors_MD.shape[0] * x_ND.shape[1]


def means(x_ND: Tensor, group_N: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean of each group's rows, (groups, D), zero where a group has none; and how many it has, (groups,)."""
    count = torch.bincount(group_N, minlength=groups).to(x_ND.device)
    group = group_N.to(x_ND.device)
    total = x_ND.new_zeros(groups, x_ND.shape[1])
    # index_add on a GPU adds in any order, so that the last bits change from call to call; accumulating sorts first
    total = total.index_add(0, group, x_ND) if total.device.type == "cpu" else _accumulated(total, group, x_ND)
    return total / count.clamp(min=1)[:, None], count


def _accumulated(total: Tensor, group: Tensor, x_ND: Tensor) -> Tensor:
    return total.index_put((group,), x_ND, accumulate=True)
