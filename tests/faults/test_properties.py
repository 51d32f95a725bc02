"""What holds for anything that may come: documented errors alone, positions in range, budgets met."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.analysis.score.answer_files import read as read_replies
from evalkit.data import protocols
from evalkit.data.benchmarks import load
from evalkit.data.protocols import letters
from evalkit.errors import DataError, EvalkitError
from evalkit.method import Budget, Method
from evalkit.runs import load as load_runs
from evalkit.runs import parse_answer
from evalkit.types import LETTERS, Question, VisualTokens
from methods.divprune import DivPrune
from methods.dpselect import DPSelect
from methods.dycoke import DyCoke
from methods.layer_budget import affordable_cells, left_for_later, scaled
from methods.uniform import Uniform
from methods.vidcom2 import VidCom2
from tests.support import rows
from tests.support.run_folders import row, write_run
from tests.support.stub_engine import POINTS, answered, question

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
few = settings(max_examples=40, deadline=None, derandomize=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
REPLIES = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from(["A", "b", "(", ")", ".", "The best answer is", "Option:", "1,000", " ", "\n", "E", "ß", "-"])
).map("".join)


def outcome(call: Callable[[], Found]) -> tuple[Found | None, str]:
    """What it returns, or which documented error it raises; any other is raised."""
    try:
        return call(), ""
    except EvalkitError as error:
        return None, str(error)


@cache
def asked() -> Question:
    """A question of MLVU."""
    with TemporaryDirectory() as folder:
        return rows.one_question(Path(folder), "mlvu")


# ---- readers of replies


@few
@given(REPLIES)
def test_any_reply_is_a_letter_or_none(text: str) -> None:
    for reader in (
        letters.videomme_official,
        letters.videomme_flash,
        letters.retake,
        letters.mlvu_official,
        letters.lvbench_official,
        letters.flash,
    ):
        assert reader(text) in ("", *"ABCDEFG"), reader.__name__


@few
@given(REPLIES, st.sampled_from(["official", "retake", "xcomp"]))
def test_any_reply_is_scored(text: str, name: str) -> None:
    found = protocols.get(name).read(asked(), text)
    assert found.letter is None or found.letter in LETTERS
    assert found.correct in (True, False, None)
    assert not (found.correct and found.letter is None)


# ---- files


@few
@given(st.dictionaries(st.sampled_from(sorted(rows.mlvu_row())), VALUES), VALUES)
def test_any_annotation_is_a_question_or_a_bad_row(changes: dict[str, Any], alone: Any) -> None:
    with TemporaryDirectory() as folder:
        rows.write_json(Path(folder) / "json" / "1_plotQA.json", [rows.mlvu_row(), rows.mlvu_row(**changes), alone])
        (benchmark,) = load("mlvu", Path(folder))
        assert len(benchmark.questions) + len(benchmark.bad_rows) == 3


@few
@given(st.dictionaries(st.sampled_from(sorted(answered(POINTS[0], question("v", 0)).to_dict())), VALUES))
def test_any_line_of_answers_is_one_or_a_data_error(changes: dict[str, Any]) -> None:
    line = json.loads(json.dumps(answered(POINTS[0], question("v", 0)).to_dict() | changes))
    found, refused = outcome(lambda: parse_answer.read(line, "here"))
    assert refused.startswith("here") if found is None else found.question_id == line["question_id"]


@few
@given(
    st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".txt"]),
    st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_any_file_of_replies_is_one_or_a_documented_error(suffix: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError):  # nothing in it is a question of this set
            read_replies([path], [asked()])


@few
@given(st.sampled_from(["config.yaml", "answers.jsonl", "summary.json"]), st.binary(max_size=60) | VALUES)
def test_any_run_folder_loads_or_is_a_documented_error(name: str, content: Any) -> None:
    with TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", [row("1", True)])
        (run / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        found, refused = outcome(lambda: load_runs.load(run))
        assert folder in refused if found is None else len(found) == 1


# ---- selectors and schedules

SELECTORS: dict[str, tuple[Method, int]] = {  # how many tokens above the ratio's share each may keep, at most: a cell's
    "uniform": (Uniform(), 0),
    "divprune": (DivPrune(), 1),
    "dpselect": (DPSelect(), 1),
    "vidcom2": (VidCom2(), 1),
    "dycoke": (DyCoke(), 1),
}


@pytest.mark.parametrize("name", SELECTORS)
@few
@given(
    cells=st.integers(1, 12),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ratio=st.floats(0.05, 1.0),
    kind=st.sampled_from(["noise", "all alike", "zeros", "huge"]),
)
def test_any_selection_is_in_range_and_ascending(
    name: str, cells: int, grid: tuple[int, int], ratio: float, kind: str
) -> None:
    places = grid[0] * grid[1]
    noise = torch.randn(cells * places, 8, generator=torch.Generator().manual_seed(cells))
    features = {"noise": noise, "all alike": torch.ones_like(noise), "zeros": noise * 0, "huge": noise * 1e18}[kind]
    tokens = VisualTokens.dense(features, range(cells), grid)
    budget = Budget.encoded(cells, grid, ratio=ratio, layers=4)
    method, spare = SELECTORS[name]
    found, refused = outcome(lambda: method.select(tokens, budget, None))  # type: ignore[arg-type]  # none of them asks
    if found is None:
        assert name == "dycoke", refused
        return
    at = (found.cell * places + found.place).tolist()
    assert all(0 <= position < len(tokens) for position in at)
    assert len(set(at)) == len(at)
    slots = found.slot.tolist()
    assert slots == sorted(slots)
    assert len(found.features) == len(found)
    if method.off_ratio == "" and name != "uniform":  # which spends its ratio on frames
        assert len(found) <= max(1, round(ratio * len(tokens))) + spare * places


@few
@given(
    cells=st.integers(1, 60),
    ratio=st.floats(0.01, 1.0),
    least=st.floats(0.01, 1.0),
    layer=st.integers(0, 40),
    layers=st.integers(1, 40),
)
def test_any_schedule_of_layers_is_within_the_budget(
    cells: int, ratio: float, least: float, layer: int, layers: int
) -> None:
    budget = Budget.encoded(cells, (2, 2), ratio=ratio, layers=layers)
    seen = affordable_cells(budget, least)
    assert 1 <= seen <= cells
    assert seen * least <= max(least, ratio * cells + 1e-6)
    tokens = seen * 4
    later = left_for_later(budget, tokens, layer)
    assert 1 <= later <= tokens
    spent, allowed = tokens * layer + later * (layers - layer), ratio * budget.dense_tokens * layers
    if layer < layers and later > 1:
        assert spent <= allowed + (layers - layer) / 2 + 1e-6
    assert 1 <= scaled(layer, layers) <= layers
