"""DPSelect's choice of moments against the straightforward form: T cells × 144 places × 1536 features.

python perf/dpselect.py [--cells 128 512 1024] [--runs 3]     prints a table and puts it into RESULTS.md

The straightforward form normalises a copy of all features in fp32 and takes the product of neighbours; frame mode and
patch mode are timed together. Equal picks are asserted first.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, normalize

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import in_turn, peak_bytes, record

from methods.dpselect import change, moments

PLACES, WIDTH = 144, 1536


def ours(x_TPC: Tensor) -> list[Tensor]:
    """Frame mode's moments, then patch mode's."""
    distance = change(x_TPC)
    keep = len(x_TPC) // 2
    return [moments(d, keep, 3)[0] for d in (distance.mean(1, keepdim=True), distance)]


def plain(x_TPC: Tensor) -> list[Tensor]:
    """The same from the paper's text."""
    unit = normalize(x_TPC.float(), dim=-1)
    similarity = (unit[1:] * unit[:-1]).sum(-1)
    distance = torch.cat([torch.ones(1, x_TPC.shape[1]), 1 - similarity])
    return [_picked(d) for d in (distance.mean(1, keepdim=True), distance)]


def _picked(distance_TS: Tensor) -> Tensor:
    series = distance_TS.T[:, None]
    _, first = max_pool1d(series, 3, stride=1, padding=1, return_indices=True)
    peak = torch.arange(len(distance_TS))[:, None] == first[:, 0].T
    return (distance_TS + 2.0 * peak).topk(len(distance_TS) // 2, dim=0).indices.sort(dim=0).values


def features(cells: int) -> Tensor:
    """A slow drift with noise, bf16 as a real encoder's output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(cells, PLACES, WIDTH, generator=generator).mul_(0.3)
    return x.add_(torch.randn(1, PLACES, WIDTH, generator=generator)).bfloat16()


def main() -> None:
    """All lengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for cells in args.cells:
        x = features(cells)
        for mine, theirs in zip(ours(x), plain(x), strict=True):
            assert torch.equal(mine, theirs), "the two forms pick other moments: their times say nothing"
        forms = [partial(ours, x), partial(plain, x)]
        memory = [peak_bytes(form) for form in forms]
        seconds = in_turn(forms, args.runs)
        rows.append(
            {
                "cells T": cells,
                "MB": memory[0] / 1e6,
                "plain MB": memory[1] / 1e6,
                "memory ratio": memory[0] / memory[1],
                "s": seconds[0],
                "plain s": seconds[1],
                "time ratio": seconds[0] / seconds[1],
            }
        )
    note = f"{PLACES} places × {WIDTH} features, bf16, half of the cells kept. Same picks in both modes, asserted."
    print(record("DPSelect: cell by cell against all at once (CPU)", rows, note))


if __name__ == "__main__":
    main()
