"""Ids of the dense run, with gaps, where tokens are numbered one after the other (VisualTokens.original_ids)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evalkit.model import separators
from evalkit.model.positions import RopePositions
from evalkit.model.separators import Separators
from evalkit.types import VisualTokens

CELLS, GRID = 4, (3, 2)
PLACES = GRID[0] * GRID[1]


def between(kind: str, tokens: VisualTokens) -> Separators | None:
    make = {"newlines": separators.newlines, "ending": separators.ending}.get(kind)
    return None if make is None else make(tokens, torch.zeros(8))


@pytest.mark.parametrize("kind", ["none", "ending", "newlines"])
def test_what_is_left_keeps_the_ids_of_the_dense_run(kind: str) -> None:
    positions = RopePositions(None)
    dense = VisualTokens.dense(torch.zeros(CELLS * PLACES, 8), seconds=range(CELLS), grid=GRID)
    whole = between(kind, dense)
    layout = positions.video_ids(7, dense, whole)[0]
    order = torch.arange(len(dense)) if whole is None else whole.order(len(dense))
    fixed = 0 if whole is None else len(whole)
    of_visual = layout[order >= fixed]
    kept = torch.tensor([0, 1, 3, 8, 9, 23])  # rows (0, 0), (0, 1), (1, 1) and (3, 2)
    tokens = replace(dense.keep(kept), original_ids=True)
    left = between(kind, tokens)
    found = positions.video_ids(7, tokens, left)[0]
    visual = torch.ones(len(kept), dtype=torch.bool) if left is None else left.order(len(kept)) >= len(left)
    assert torch.equal(found[visual], of_visual[kept])
    assert bool((found.diff() > 0).all())
    assert positions.ids_after(tokens, left) == positions.ids_after(dense, whole)
    if whole is not None:  # each separator that is left has the id that it has in the dense run
        theirs = layout[order < fixed]
        rows = [0, 1, 4, 11] if kind == "newlines" else [0]
        assert torch.equal(found[~visual], theirs[rows])
    anew = positions.video_ids(7, replace(tokens, original_ids=False), left)[0]
    assert anew.tolist() == list(range(7, 7 + len(found)))
