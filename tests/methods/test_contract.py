"""Every method in conf/method keeps the contract of evalkit.method.Method, and the contract can fail."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
import torch

from evalkit.config.build import points
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.testing import CHECKS, check_method, method_contract
from evalkit.testing.method_contract import Check
from evalkit.types import FramePlan, Video, VisualTokens
from methods.uniform import Uniform
from tests.support.configs import composed
from tests.support.golden import ROOT
from tests.support.methods import NAMES, built

ANSWERED = ("retake", "uniform")  # of these alone `make test-fast` answers questions; `make test` of every method
CASES = [
    pytest.param(
        name,
        check,
        id=f"{name}-{label}",
        marks=pytest.mark.slow if label.startswith("answers") and name not in ANSWERED else (),
    )
    for name in NAMES
    for label, check in CHECKS.items()
]


def test_the_matrix_is_not_empty() -> None:
    assert {"uniform", "blind", "single", "random_frames", "lowres", "shuffled"} <= set(NAMES)
    assert len(CHECKS) == 4


@pytest.mark.parametrize("name", NAMES)
def test_composes_to_a_hashable_point(name: str) -> None:
    """As run_eval.py composes `method=NAME`: the same point that the list `methods` gives."""
    (point,) = points(composed(f"method={name}", "ratio=1.0"))
    assert point.name == name
    assert point == built(name)
    assert hash(point) == hash(built(name))


@pytest.mark.parametrize(("name", "check"), CASES)
def test_contract(name: str, check: Check) -> None:
    check(built(name).method)


def test_who_misses_the_ratio_by_design_is_marked_in_tables() -> None:
    """And named in methods/README.md."""
    by_design = {name for name in NAMES if built(name).method.off_ratio}
    for name in NAMES:
        notes = built(name).method.notes(aligns_text=False)
        assert any("misses the ratio by design" in note for note in notes) == (name in by_design), name
    text = (ROOT / "methods" / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(
        r"^((?:`\w+`|, | and |\n)+) spend another share than the ratio by\s+design", text, re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", sentence)) == by_design


# ---- negative controls: what breaks the contract is found


class Loose(Method):
    """No frozen dataclass."""


@dataclass(frozen=True, kw_only=True)
class Overspending(Method):
    """Ignores the ratio."""


@dataclass(frozen=True, kw_only=True)
class Unsorted(Method):
    """Gives frames in descending order."""

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        return replace(super().frames(video, budget), indices=tuple(reversed(budget.frames)))


@dataclass(frozen=True, kw_only=True)
class Writing(Uniform):
    """Writes into the tokens that it is given."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        tokens.features.mul_(0)
        return tokens


@dataclass(frozen=True, kw_only=True)
class Unequal(Uniform):
    """Says that ratio 1 is the dense run, and halves the features there."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        return tokens.keep(torch.arange(len(tokens.features) - 1))


@dataclass(frozen=True, kw_only=True)
class Altering(Uniform):
    """Hands over other features and does not say of what they are made."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        return replace(tokens, features=tokens.features * 2)


def test_merging_that_is_not_told_is_found() -> None:
    with pytest.raises(AssertionError, match=r"made by VisualTokens\.merge"):
        method_contract.nothing_is_changed(Altering())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Loose(), "decorated as a dataclass"),
        (Overspending(), r"the ratio 0\.5 within 2 %"),
        (Unsorted(), "ascending frame numbers"),
        (Writing(), r"VisualTokens\.features as it was given|answers and costs"),
        (Unequal(), "answers and costs at ratio 1 equal to"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
@pytest.mark.slow
def test_a_broken_method_is_found(method: Method, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check_method(method)
    if isinstance(method, Writing):
        with pytest.raises(AssertionError, match="features as it was given"):
            method_contract.nothing_is_changed(method)
