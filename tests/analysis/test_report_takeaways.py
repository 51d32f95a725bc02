"""The four sentences: by hand on small sets, and within their length on any."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.analysis.report.takeaways import WORDS, takeaways
from tests.support.report_odd import ODD, rows
from tests.support.report_overview import view
from tests.support.report_runs import grid, run
from tests.support.run_folders import ledger

LEADS = ["Best at each ratio", "Not significant", "What it costs", "Read with care"]


def said(runs: Any) -> dict[str, str]:
    own, found = view(runs)
    return {about: text.replace("\N{NO-BREAK SPACE}", " ") for about, text in takeaways(own, found)}


def test_by_hand() -> None:
    def spent(ratio: float, tera: float) -> dict[str, Any]:
        work = {"encode": int(tera * 10**12), "select": 0, "prefill": 0, "generate": 0}
        return ledger(ratio_achieved=ratio, kv_tokens_per_layer=[round(1000 * ratio)], flops=work)

    right = {
        ("uniform", 1.0): "r" * 40,
        ("uniform", 0.5): "r" * 20 + "w" * 20,
        ("uniform", 0.25): "r" * 10 + "w" * 30,
        ("keeper", 0.5): "r" * 39 + "w",
        ("keeper", 0.25): "w" + "r" * 10 + "w" * 29,
    }
    tera = {("uniform", 1.0): 2.0, ("uniform", 0.5): 1.0, ("uniform", 0.25): 0.5}
    runs = [
        run(method, "reference" if method == "uniform" else "method", ratio, rows(marks, ledger=spent(ratio, cost)))
        for (method, ratio), marks in right.items()
        for cost in [tera.get((method, ratio), 2.2)]
    ]
    found = said(runs)
    assert list(found) == LEADS
    assert found["Best at each ratio"] == "0.5: keeper 97.5 %; 0.25: uniform = keeper 25.0 %."
    assert found["Not significant"] == "vs. dense: keeper 0.5; vs. uniform at equal KV: keeper 0.25."
    assert found["What it costs"] == "at ratio 0.25, of the dense run's compute: keeper 110 %, uniform 25 %."
    assert found["Read with care"] == (
        "Generated videos: no ranking on real ones. 40 questions resolve about ±9.8 points. Seconds were not measured."
    )


def test_the_reference_at_equal_cost_is_not_named() -> None:
    """Where it was run for another method's cost, at ratios of no method."""
    right = {
        ("uniform", 1.0): 40,
        ("uniform", 0.9): 39,
        ("uniform", 0.45): 38,
        ("keeper", 0.5): 30,
        ("keeper", 0.25): 20,
    }
    found = said(
        [
            run(method, "reference" if method == "uniform" else "method", ratio, rows("r" * n + "w" * (40 - n)))
            for (method, ratio), n in right.items()
        ]
    )
    assert found["Best at each ratio"] == "0.5: keeper 75.0 %; 0.25: keeper 50.0 %."
    assert "uniform 0" not in found["Not significant"]
    alone = said([run("uniform", "reference", ratio, rows("r" * 40)) for ratio in (1.0, 0.9)])
    assert alone["Best at each ratio"] == "0.9: uniform 100.0 %."


def test_every_difference_significant_is_said() -> None:
    found = said([run("uniform", "reference", 1.0, rows("r" * 40)), run("low", "method", 0.5, rows("w" * 40))])
    assert found["Not significant"].startswith("vs. dense: none")


def test_generated_videos_and_failures_come_first() -> None:
    dense = run("uniform", "reference", 1.0, rows("rwff"), generated=True)
    found = said([dense, run("half", "method", 0.5, rows("rwrr"), generated=True)])
    assert found["Read with care"].startswith(
        "Generated videos: no ranking on real ones. 2 answers failed and are in no accuracy."
    )
    real = said([run("uniform", "reference", 1.0, rows("rwrw"), generated=False)])
    assert "enerated" not in real["Read with care"]


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_sets_have_four_sentences(name: str) -> None:
    found = said(ODD[name])
    assert list(found) == LEADS
    assert all(text.endswith(".") for text in found.values())
    assert not {"nan", "None", "inf"} & {word.strip(".;,%") for text in found.values() for word in text.split()}


@pytest.mark.slow
def test_no_sentence_is_long_with_many_methods() -> None:
    methods = {"uniform": "reference", **{f"method_{n}": "method" for n in range(9)}, "blind": "control"}
    found = said(grid(12, methods=methods, ratios=(1.0, 0.75, 0.5, 0.25, 0.125, 0.0625)))
    for about, text in found.items():
        assert len(f"{about} {text}".split()) <= WORDS + 3, text  # "and 9 more"
    assert "more" in found["Not significant"]
    assert "blind" not in " ".join(found.values())
