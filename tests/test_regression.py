"""The project's own regression check: a part of what CI gates against stored answers, and what turns the gate red.

The whole of it is gated by .github/workflows/ci.yml. The baseline is made anew, after a look at what changed, by
    python -m evalkit data make --subset ci-50 && D=$(mktemp -d) && python run_eval.py experiment=ci results_dir=$D &&
    python -m evalkit gate --baseline tests/baseline/ci-50 --update $D
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from evalkit.__main__ import main
from evalkit.commands import run
from evalkit.config import build
from evalkit.data import benchmarks
from evalkit.data.protocols import get
from evalkit.data.protocols.lmms_eval import LmmsEval
from evalkit.method import OperatingPoint
from evalkit.model import chat_template
from evalkit.model.positions import MRopePositions
from evalkit.runs import load
from evalkit.types import VisualTokens
from methods.retake import ReTaKe
from tests.support import builtin_part
from tests.support.configs import composed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first test makes videos and all answers
STORED = Path(__file__).parent / "baseline" / "ci-50"
AGREE = "0.9"  # floats differ between machines: one answer may turn of the 12 to 15 that a run has here
SAME = "1"  # on one machine none does
FEW = "lvbench"  # a video with 15 questions, so that one defect costs seconds


@pytest.fixture(scope="module")
def fresh(builtin_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of what is gated, answered now."""
    folder = tmp_path_factory.mktemp("fresh")
    assert run.run(composed("experiment=ci", f"benchmark.root={builtin_data}", f"results_dir={folder}")).failed == 0
    return folder


def few(data: Path, results: Path, *overrides: str) -> Path:
    """The same on one video alone, without tables."""
    common = [f"benchmark={FEW}", f"benchmark.root={data / FEW}", f"results_dir={results}"]
    _, failed = build.grid(composed("experiment=ci", *common, *overrides)).run()
    assert failed == 0
    return results


def gate(stored: Path, run: Path, rate: str = AGREE) -> int:
    return main(["gate", "--baseline", str(stored), str(run), "--agree", rate])


def one(results: Path, method: str, ratio: float) -> Path:
    """The folder of one run on the one video."""
    runs = [run for run in load.load(results) if run.config["benchmark"]["name"] == FEW]
    (run,) = [run for run in runs if (run.method, run.ratio) == (method, ratio)]
    return run.folder


def test_answers_are_the_stored_ones(fresh: Path, tmp_path: Path) -> None:
    stored = builtin_part.answers(STORED, tmp_path / "stored")
    assert len(load.load(stored)) == len(load.load(fresh)) == 3 * 2 * 2
    assert all(len(run.answers) == run.config["benchmark"]["questions"] >= 12 for run in load.load(stored))
    assert gate(stored, fresh) == 0
    assert gate(STORED, fresh) == 2  # which are answers to more questions


def test_what_is_stored_is_all_that_ci_asks(builtin_data: Path) -> None:
    """Every question of the subset, in the words of today, at every point of the experiment."""
    cfg, stored = composed("experiment=ci"), load.load(STORED)
    names = [(one.config["benchmark"]["name"], one.method, one.ratio) for one in stored]
    assert sorted(names) == sorted(product(builtin_part.QUESTIONS, cfg.methods, cfg.ratios))
    prompt = get(cfg.protocol).prompt
    for benchmark in benchmarks.load("builtin", builtin_data):
        asked = {q.id: hashlib.sha256(prompt(q).encode()).hexdigest()[:16] for q in benchmark.questions}
        for own in (one for one in stored if one.config["benchmark"]["name"] == benchmark.name):
            assert {a.question_id for a in own.answers} == builtin_part.whole(benchmark.name)
            assert all(asked[a.question_id] == a.prompt_sha for a in own.answers)


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

    def after(self: MRopePositions, tokens: VisualTokens, *_: object) -> int:
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
    assert "protocol differs: other prompts in 15 of 15 questions" in capsys.readouterr().out
