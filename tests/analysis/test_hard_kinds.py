"""Hard kinds by hand, and what choosing questions by their own outcome would show where there is nothing to show."""

from __future__ import annotations

import random
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from evalkit.analysis.grid import hard_kinds
from evalkit.analysis.grid.evidence_recall import Evidence
from evalkit.analysis.grid.hard_kinds import cross_fitted, half, hard_questions
from evalkit.analysis.tables import compression
from tests.support.measured import question_set
from tests.support.run_folders import row

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evalkit.analysis.grid.measured_points import Key

RUNS = 300  # simulated sets
KINDS = ("order", "count", "place", "colour")


def key(name: str) -> Key:
    return ("set", "test", name)


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half 0: of order 2 of 2 are lost, of place 0 of 2; half 1: of place 1 of 2, of order 0 of 2, both: none.

    So half 1 is tried on order (chosen by half 0), half 0 on place (chosen by half 1).
    """
    monkeypatch.setattr(hard_kinds, "MIN_QUESTIONS", 2)
    labels: dict[Key, list[Hashable]] = {
        **{key(f"0{n}"): [kind] for n, kind in enumerate(["order", "order", "place", "place"])},
        **{key(f"1{n}"): [kind] for n, kind in enumerate(["order", "place", "place", "order"])},
        key("1both"): ["order", "other"],
    }
    halves = {name: int(name[2][0]) for name in labels}
    lost = {key("00"), key("01"), key("11")}
    found = cross_fitted(labels, halves, lost)
    assert [name[2] for name in found] == ["02", "03", "10", "13", "1both"]


def test_few_questions_choose_nothing() -> None:
    labels: dict[Key, list[Hashable]] = {key(f"{n}"): ["a" if n < 4 else "b"] for n in range(20)}
    assert hard_kinds.hard_kinds(labels, {key(f"{n}") for n in range(4)}) == frozenset()
    assert hard_kinds.hard_kinds(labels, {key(f"{n}") for n in range(4, 20)}) == {"b"}


def test_a_kind_that_holds_all_questions_is_not_above_itself() -> None:
    labels: dict[Key, list[Hashable]] = {key(f"{n}"): ["a"] for n in range(9)}
    assert hard_kinds.hard_kinds(labels, {key("0"), key("1")}) == frozenset()


def test_halves_are_those_of_the_name() -> None:
    videos = [("generated videos", "test", f"v{n}") for n in range(1000)]
    halves = [half(video) for video in videos]
    assert halves[:12] == [half(video) for video in videos[:12]]
    assert 400 < sum(halves) < 600


def simulated(draw: random.Random, *, rescues: float = 0.0) -> dict[str, float]:
    """Gains over the reference that each rule shows for a method of the same ability, on one set of 40 videos.

    Reference and method are independent draws with the same chance for each kind; `rescues` is what the method has
    more of the two hard kinds.
    """
    chance = dict(zip(KINDS, (0.3, 0.4, 0.7, 0.8), strict=True))
    labels: dict[Key, list[Hashable]] = {key(f"{v}-{n}"): [draw.choice(KINDS)] for v in range(40) for n in range(6)}
    halves = {name: half((*name[:2], name[2].split("-")[0])) for name in labels}
    dense = {name: draw.random() < 0.9 for name in labels}
    reference = {name: draw.random() < chance[str(kinds[0])] for name, kinds in labels.items()}
    better = {kind: p + rescues * (p < 0.5) for kind, p in chance.items()}
    method = {name: draw.random() < better[str(kinds[0])] for name, kinds in labels.items()}
    lost = {name for name in labels if dense[name] and not reference[name]}
    chosen = hard_kinds.hard_kinds(labels, lost)
    rules = {
        "questions": list(lost),
        "kinds, same videos": [name for name, kinds in labels.items() if chosen.intersection(kinds)],
        "cross-fitted": list(cross_fitted(labels, halves, lost)),
    }
    return {
        rule: 100 * fmean(method[name] - reference[name] for name in names) if names else 0.0
        for rule, names in rules.items()
    }


def test_questions_chosen_by_their_own_outcome_show_a_gain_that_is_not_there() -> None:
    """Negative control: the same ability, and the naive rules show a gain; ours shows none."""
    draw = random.Random(20)
    found = [simulated(draw) for _ in range(RUNS)]
    gains = {rule: fmean(one[rule] for one in found) for rule in found[0]}
    assert gains["questions"] > 30  # all were wrong for the reference: whatever is drawn again gains
    assert abs(gains["cross-fitted"]) < 1.0


def test_kinds_chosen_on_the_same_videos_show_a_smaller_one() -> None:
    """With equal kinds there is nothing hard; what is chosen was unlucky, and is so again only on the same videos."""
    draw = random.Random(5)

    def once() -> tuple[float, float]:
        labels: dict[Key, list[Hashable]] = {key(f"{v}-{n}"): [draw.randrange(12)] for v in range(40) for n in range(3)}
        halves = {name: half((*name[:2], name[2].split("-")[0])) for name in labels}
        reference, method = ({name: draw.random() < 0.5 for name in labels} for _ in range(2))
        lost = {name for name in labels if not reference[name]}
        chosen = hard_kinds.hard_kinds(labels, lost)
        same = [name for name, kinds in labels.items() if chosen.intersection(kinds)]
        crossed = cross_fitted(labels, halves, lost)
        return tuple(  # type: ignore[return-value]
            100 * fmean(method[name] - reference[name] for name in names) if names else 0.0 for names in (same, crossed)
        )

    same, crossed = zip(*(once() for _ in range(RUNS)), strict=True)
    assert fmean(same) > 5
    assert abs(fmean(crossed)) < 1.5


def test_a_gain_that_is_there_is_shown() -> None:
    draw = random.Random(8)
    assert fmean(simulated(draw, rescues=0.3)["cross-fitted"] for _ in range(100)) > 20


def test_in_the_table() -> None:
    """Ten videos; the reference loses every question of one kind, the method none of them."""

    def told(order: bool) -> list[dict[str, object]]:
        return [
            row(f"{video}-{n}-{kind}", kind == "place" or order, f"v{video}", groups={"task_type": [kind]})
            for video in range(10)
            for n in range(3)
            for kind in ("order", "place")
        ]

    points = {
        ("uniform", 1.0): told(True),
        ("uniform", 0.25): told(False),
        ("keeper", 0.25): told(True),
    }
    own = question_set(points)
    assert own.dense is not None
    hard = hard_questions(own.points[1], own.dense)
    assert {name[2].split("-")[2] for name in hard} == {"order"}
    assert len(hard) == 30
    rows = compression.rows(own, Evidence()).set_index(["method", "ratio"])
    assert rows.loc[("keeper", 0.25), "hard_accuracy"] == 100
    assert rows.loc[("uniform", 0.25), "hard_accuracy"] == 0
    assert rows.loc[("keeper", 0.25), ["hard_n", "hard_videos", "hard_dense", "hard_delta_pp"]].tolist() == [
        30,
        10,
        100,
        100,
    ]
    assert rows["hard_n"].isna().tolist() == [True, False, False]
