"""The project's own regression check: the built-in experiment on ci-50 against stored answers, and what turns it red.

The baseline is made anew, after a look at what changed, by
    python -m evalkit data make --subset ci-50 && D=$(mktemp -d) && python run_eval.py experiment=ci results_dir=$D &&
    python -m evalkit gate --baseline tests/baseline/ci-50 --update $D
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from evalkit.__main__ import main
from evalkit.commands import run
from evalkit.config import build
from evalkit.data.protocols.lmms_eval import LmmsEval
from evalkit.method import OperatingPoint
from evalkit.model import chat_template
from evalkit.model.positions import MRopePositions
from evalkit.runs import load
from evalkit.types import VisualTokens
from methods.retake import ReTaKe
from tests.support.configs import composed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first test makes videos and all answers
STORED = Path(__file__).parent / "baseline" / "ci-50"
AGREE = "0.97"  # floats differ between machines: one answer in fifty may turn
SAME = "1"  # on one machine none does
FEW = "lvbench"  # three videos with 15 questions each, so that one defect costs seconds


@pytest.fixture(scope="module")
def fresh(builtin_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is gated, answered now."""
    folder = tmp_path_factory.mktemp("fresh")
    assert run.run(composed("experiment=ci", f"benchmark.root={builtin_data}", f"results_dir={folder}")).failed == 0
    return folder


def few(data: Path, results: Path, *overrides: str) -> Path:
    """The same on three videos alone."""
    common = [f"benchmark={FEW}", f"benchmark.root={data / FEW}", f"results_dir={results}"]
    run.run(composed("experiment=ci", *common, *overrides))
    return results


def gate(stored: Path, run: Path, rate: str = AGREE) -> int:
    return main(["gate", "--baseline", str(stored), str(run), "--agree", rate])


def one(results: Path, method: str, ratio: float) -> Path:
    """The folder of one run on the three videos."""
    runs = [run for run in load.load(results) if run.config["benchmark"]["name"] == FEW]
    (run,) = [run for run in runs if (run.method, run.ratio) == (method, ratio)]
    return run.folder


def test_answers_are_the_stored_ones(fresh: Path) -> None:
    assert len(load.load(STORED)) == len(load.load(fresh)) == 3 * 2 * 2
    assert gate(STORED, fresh) == 0


# ---- harmless changes stay green


def test_a_renamed_results_folder(fresh: Path, tmp_path: Path) -> None:
    assert gate(fresh, shutil.copytree(fresh, tmp_path / "another" / "name"), SAME) == 0


def test_another_chunk_size(builtin_data: Path, fresh: Path, tmp_path: Path) -> None:
    """Of a method that keeps what it was given; the cache compressors choose chunk by chunk."""
    few(builtin_data, tmp_path, "methods=[uniform]", "ratios=[1.0]", "backbone.chunk_cells=8")
    stored = one(fresh, "uniform", 1.0)
    assert gate(stored, tmp_path) == 2  # another setup
    assert main(["gate", "--baseline", str(stored), str(tmp_path), "--agree", AGREE, "--across-setups"]) == 0


def test_another_order_of_methods_and_ratios(builtin_data: Path, fresh: Path, tmp_path: Path) -> None:
    few(builtin_data, tmp_path, "methods=[retake,uniform]", "ratios=[0.25,1.0]")
    for method, ratio in (("retake", 0.25), ("uniform", 0.25), ("retake", 1.0), ("uniform", 1.0)):
        assert gate(one(fresh, method, ratio), tmp_path, SAME) == 0


# ---- defects turn it red


@dataclass(frozen=True, kw_only=True)
class WrongTokens(ReTaKe):
    """Keeps what is attended to least."""

    def _picked(self, score: Tensor, pinned: Tensor, keep: int) -> Tensor:
        return score.argsort(stable=True)[:keep].sort().values


def test_a_method_that_drops_the_wrong_tokens(
    builtin_data: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = build.points

    def broken(cfg: Any) -> list[OperatingPoint]:
        return [replace(point, method=WrongTokens()) for point in built(cfg)]

    monkeypatch.setattr(build, "points", broken)
    few(builtin_data, tmp_path, "methods=[retake]", "ratios=[0.25]")
    assert gate(one(fresh, "retake", 0.25), tmp_path) == 1
    assert " → " in capsys.readouterr().out.split("answered otherwise")[1]


def _text_one_later(patch: pytest.MonkeyPatch) -> None:
    right = MRopePositions.ids_after
    patch.setattr(MRopePositions, "ids_after", lambda self, tokens, *_: right(self, tokens) + 1)


def _text_inside_the_video(patch: pytest.MonkeyPatch) -> None:
    """As transformers 5.3–5.23 lay it out."""

    def after(self: MRopePositions, tokens: VisualTokens) -> int:
        return max(tokens.grid)

    patch.setattr(MRopePositions, "ids_after", after)


def _another_system_turn(patch: pytest.MonkeyPatch) -> None:
    """The question's own words, and so their checksum, stay."""
    right = chat_template.split

    def split(tokenizer: Any, text: str, **options: Any) -> tuple[list[int], list[int]]:
        return right(tokenizer, text, **(options | {"system": "Answer."}))

    patch.setattr(chat_template, "split", split)


@pytest.mark.parametrize(
    ("defect", "rate"), [(_text_inside_the_video, AGREE), (_text_one_later, SAME), (_another_system_turn, SAME)]
)
def test_wrong_positions_and_prompts(
    defect: Callable[[pytest.MonkeyPatch], None],
    rate: str,
    builtin_data: Path,
    fresh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defect(monkeypatch)
    few(builtin_data, tmp_path, "methods=[uniform]", "ratios=[1.0]")
    assert gate(one(fresh, "uniform", 1.0), tmp_path, rate) == 1


def test_a_changed_question_prompt_cannot_be_compared(
    builtin_data: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = LmmsEval.prompt
    monkeypatch.setattr(LmmsEval, "prompt", lambda *args: right(*args) + " ")
    few(builtin_data, tmp_path, "methods=[uniform]", "ratios=[0.25]")
    assert gate(one(fresh, "uniform", 0.25), tmp_path) == 2
    assert "protocol differs: other prompts in 45 of 45 questions" in capsys.readouterr().out
