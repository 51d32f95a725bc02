"""Evidence recall against shares counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.analysis.grid.evidence_recall import Evidence, hit_chance, share_inside
from evalkit.types import KeptOverTime
from tests.support.measured import question_set
from tests.support.run_folders import row

# ten cells of two frames, one frame a second: cell c is shown at 2c and 2c + 1
DENSE = {
    "seconds": [2.0 * c for c in range(10)],
    "tokens": [4.0] * 10,
    "cells": list(range(10)),
    "last_seconds": [2.0 * c + 1 for c in range(10)],
}
# two cells of frames far apart: 0 and 5 s, 10 and 15 s
SPARSE = {"seconds": [0.0, 10.0], "tokens": [4.0, 4.0], "cells": [0, 1], "last_seconds": [5.0, 15.0]}


def cells(*chosen: tuple[int, float]) -> dict[str, Any]:
    """Some of the dense run's cells with so many entries."""
    return {
        "seconds": [2.0 * c for c, _ in chosen],
        "tokens": [tokens for _, tokens in chosen],
        "cells": [c for c, _ in chosen],
        "last_seconds": [2.0 * c + 1 for c, _ in chosen],
    }


def asked(kept: list[dict[str, Any] | None], spans: list[list[list[float]] | None]) -> list[dict[str, Any]]:
    return [
        row(f"q{n}", True, f"v{n}", kept=own, evidence_s=span)
        for n, (own, span) in enumerate(zip(kept, spans, strict=True))
    ]


def test_shares_by_hand() -> None:
    """5 to 8 s: frames 5 (half of cell 2), 6, 7 (cell 3), 8 (half of cell 4): 8 of 40 entries. Ends are inside."""
    dense = KeptOverTime(**{name: tuple(values) for name, values in DENSE.items()})
    assert share_inside(dense, ((5.0, 8.0),)) == pytest.approx(0.2)
    assert share_inside(dense, ((5.0, 8.0), (7.5, 9.0))) == pytest.approx(0.25)
    assert share_inside(dense, ((5.1, 5.9),)) == 0
    sparse = KeptOverTime(**{name: tuple(values) for name, values in SPARSE.items()})
    # one of four frames: a cell is not inside as a whole because one of its far frames is
    assert share_inside(sparse, ((5.0, 8.0),)) == pytest.approx(0.25)
    old = KeptOverTime(seconds=(0.0, 10.0), tokens=(4.0, 4.0))
    assert share_inside(old, ((5.0, 8.0),)) == 0
    assert share_inside(old, ((5.0, 10.0),)) == 0.5


def test_chance_of_a_hit_by_hand() -> None:
    assert hit_chance(20, 4, 1) == pytest.approx(0.2)
    assert hit_chance(20, 4, 2) == pytest.approx(1 - 16 / 20 * 15 / 19)
    assert hit_chance(20, 4, 17) == hit_chance(4, 4, 1) == 1
    assert hit_chance(20, 4, 0) == 0


def test_a_point_by_hand() -> None:
    """Of five questions one has no spans, one spans between frames, one nothing kept: q0 and q1 are left."""
    spans: list[Any] = [[[5.0, 8.0]], [[0.0, 1.0]], [], [[5.1, 5.9]], [[0.0, 1.0]]]
    ours = [cells((3, 3.0), (9, 1.0)), cells((5, 2.0)), cells((1, 1.0)), cells((1, 1.0)), None]
    own = question_set({("uniform", 1.0): asked([DENSE] * 5, spans), ("keeper", 0.25): asked(ours, spans)})
    assert own.dense is not None
    found = Evidence().recall(own.points[1], own.dense)
    assert found is not None
    # q0: 3 of 4 entries, chance 8/40; q1: none, chance 4/40
    assert (found.share.n, found.unseen, found.share.mean) == (2, 1, pytest.approx(37.5))
    assert found.chance == pytest.approx(15.0)
    assert found.above.mean == pytest.approx(22.5)
    # residuals ±32.5: SE² = 2 · 2 · 32.5² / 4
    assert found.above.error == pytest.approx(32.5)
    assert found.hit.percent == 50
    # q0 kept four of 20 frames, 4 of them inside; q1 two, 2 inside
    assert found.hit_chance == pytest.approx(50 * (hit_chance(20, 4, 4) + hit_chance(20, 2, 2)))


def test_the_dense_run_is_at_chance() -> None:
    spans = [[[5.0, 8.0]], [[0.0, 1.0]], [[11.0, 19.0]]]
    own = question_set({("uniform", 1.0): asked([DENSE] * 3, spans), ("uniform", 0.25): asked([SPARSE] * 3, spans)})
    assert own.dense is not None
    found = Evidence().recall(own.dense, own.dense)
    assert found is not None
    assert found.share.mean == pytest.approx(found.chance)
    assert (found.above.mean, found.hit.percent, found.hit_chance) == (0, 100, 100)


def test_without_evidence_there_is_nothing() -> None:
    own = question_set({("uniform", 1.0): asked([DENSE], [None]), ("uniform", 0.25): asked([SPARSE], [[]])})
    assert own.dense is not None
    assert Evidence().recall(own.points[1], own.dense) is None
