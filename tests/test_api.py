"""The Python interface gives the answers that run_eval.py gives, on the built-in backbone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit.commands import run
from evalkit.config import build
from evalkit.data import benchmarks
from evalkit.engine.answer import Engine
from evalkit.engine.backbone import Backbone
from evalkit.engine.executor.base import Executor
from evalkit.engine.executor.local import LocalExecutor
from evalkit.engine.grid import Grid
from evalkit.errors import ConfigError, VideoError
from evalkit.runs import load
from evalkit.runs.load import Run
from methods.retake import ReTaKe
from tests.support import clips, rows
from tests.support.configs import composed
from tests.support.loop import answer_key

pytestmark = pytest.mark.slow

QUESTIONS = ("How many lamps are lit?", "Which digit is shown last?", "Is the street wet?")
METHODS = ("uniform", "retake")
RATIOS = (1.0, 0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions in Video-MME's format about one clip."""
    root = tmp_path_factory.mktemp("data")
    asked = [rows.videomme_row(n, question=text) for n, text in enumerate(QUESTIONS, 1)]
    rows.write_parquet(root / rows.VIDEOMME_FILE, asked)
    (root / "data").mkdir()
    clips.make(root / "data" / "vid-_001.mp4", frames=40, size=(112, 112))
    rows.write_json(root / "GENERATED.json", {"version": "test"})
    return root


@pytest.fixture(scope="module")
def model() -> Backbone:
    return evalkit.load_backbone("builtin", device="cpu")


@pytest.fixture(scope="module")
def stored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """What run_eval.py answers."""
    folder = tmp_path_factory.mktemp("results")
    lists = (f"methods=[{','.join(METHODS)}]", f"ratios=[{','.join(map(str, RATIOS))}]", "sampling.frames=16")
    names = ("benchmark=videomme", f"benchmark.root={data}", "backbone.device=cpu")
    assert run.run(composed(*names, *lists, f"results_dir={folder}")).failed == 0
    return load.load(folder)


def counted(answer: evalkit.Answer) -> dict[str, Any]:
    """An answer without seconds, memory, and what a question set adds to it."""
    ledger = answer.ledger
    assert ledger is not None
    spent = vars(ledger)
    names = ("frames_decoded", "tokens_dense", "tokens_selected", "kv_tokens_per_layer", "llm_tokens_fed", "flops")
    return {
        "prompt": answer.prompt,
        "text": answer.text,
        "letter": answer.letter,
        "ratio": answer.ratio,
        **{name: spent[name] for name in names},
    }


def test_ask_answers_as_run_eval(data: Path, model: Backbone, stored: list[Run]) -> None:
    assert len(stored) == len(METHODS) * len(RATIOS)
    video, options = data / "data" / "vid-_001.mp4", ["One.", "Two.", "Three.", "None."]
    for one in stored:
        for question, theirs in zip(QUESTIONS, one.answers, strict=True):
            how = {"method": one.method, "ratio": one.ratio, "frames": 16, "protocol": "lmms_eval"}
            assert counted(evalkit.ask(model, video, question, options, **how)) == counted(theirs)
    by_ratio = {one.ratio: [counted(answer) for answer in one.answers] for one in stored if one.method == "retake"}
    assert by_ratio[1.0] != by_ratio[0.5]


def test_evaluate_finds_what_run_eval_has_answered(
    data: Path, model: Backbone, stored: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same settings are the same run: same identities and folders, and nothing is answered twice."""
    root = stored[0].folder.parents[2]
    results = shutil.copytree(root, tmp_path / "results")
    points = {name: name for name in METHODS}
    given: dict[str, Any] = {"root": data, "ratios": RATIOS, "frames": 16, "results_dir": results}
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "answers", None)
        again = evalkit.evaluate(model, "videomme", points, **given)
    assert [one.identity for one in again] == [one.identity for one in stored]
    assert [one.folder.relative_to(results) for one in again] == [one.folder.relative_to(root) for one in stored]
    assert [one.config["sampling"] for one in again] == [dict(one.config["sampling"]) for one in stored]
    fresh = evalkit.evaluate(
        model, benchmarks.load("videomme", data), [("uniform", 0.5)], frames=16, results_dir=tmp_path / "new"
    )
    (theirs,) = (one for one in stored if (one.method, one.ratio) == ("uniform", 0.5))
    assert [counted(a) for one in fresh for a in one.answers] == [counted(a) for a in theirs.answers]


def test_workers_are_an_argument(data: Path, model: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Executor] = []
    monkeypatch.setattr(Grid, "run", lambda grid: (chosen.append(grid.executor) or [], 0))
    given: dict[str, Any] = {"root": data, "results_dir": tmp_path}
    for more in ({}, {"workers": 3}, {"workers": None}):
        evalkit.evaluate(model, "videomme", [("uniform", 0.5)], **given, **more)
    assert chosen == [LocalExecutor(workers=n) for n in (1, 3, None)]
    with pytest.raises(ConfigError, match="workers: expected an integer from 1 on, or None, got 0"):
        evalkit.evaluate(model, "videomme", [("uniform", 0.5)], **given, workers=0)


def test_a_question_of_ones_own(data: Path, model: Backbone) -> None:
    video = data / "data" / "vid-_001.mp4"
    answer = evalkit.ask(model, video, "What is shown?", ["a cat", "a dog"], method=ReTaKe(), ratio=0.25, frames=16)
    assert answer.prompt.startswith("What is shown?\nA. a cat\nB. a dog\n")
    assert (answer.method, answer.ratio) == ("retake", 0.25)
    assert answer.letter in (None, "A", "B")
    ledger = answer.ledger
    assert ledger is not None
    assert ledger.kv_tokens == sum(ledger.kv_tokens_per_layer) / 8 == 0.25 * ledger.tokens_dense
    assert ledger.seconds.total >= ledger.seconds.prefill > 0
    plain = evalkit.ask(model, video, "What is shown?", frames=4)
    assert (plain.prompt, plain.letter, plain.correct) == ("What is shown?", None, None)
    assert plain.ledger is not None
    assert plain.ledger.kv_tokens == plain.ledger.tokens_dense


def test_a_folder_and_an_adapter(checkpoint: Path) -> None:
    """Options come from the family's configuration, dtype from the checkpoint."""
    found = evalkit.load_backbone(str(checkpoint), device="cpu")
    assert (found.name, found.dtype, found.checkpoint.commit) == (checkpoint.name, "float32", None)
    assert found.sampling is not None
    assert found.sampling.preset == "lmms_eval"
    tuned = evalkit.load_backbone("builtin", device="cpu", adapter="builtin/xcomp")
    assert tuned.weights != evalkit.load_backbone("tiny", device="cpu").weights


def test_a_method_with_weights_of_its_own(data: Path, model: Backbone, tmp_path: Path) -> None:
    """The same run, by identity and answers, as the method on a backbone that is loaded with the adapter."""
    given: dict[str, Any] = {"root": data, "ratios": (0.25,), "frames": 16}
    points, own = {"uniform": "uniform", "xcomp": "xcomp"}, {"xcomp": "builtin/xcomp"}
    dense, tuned = evalkit.evaluate(model, "videomme", points, adapters=own, results_dir=tmp_path / "a", **given)
    whole = evalkit.load_backbone("tiny_xcomp", device="cpu")
    (theirs,) = evalkit.evaluate(whole, "videomme", {"xcomp": "xcomp"}, results_dir=tmp_path / "b", **given)
    assert tuned.identity == theirs.identity
    assert list(map(answer_key, tuned.answers)) == list(map(answer_key, theirs.answers))
    assert tuned.setup == dense.setup != theirs.setup
    (plain,) = evalkit.evaluate(model, "videomme", [("xcomp", 0.25)], frames=16, results_dir=tmp_path / "c", root=data)
    assert plain.identity != tuned.identity
    point = evalkit.OperatingPoint("xcomp", build.method("xcomp"), 0.25, adapter="builtin/xcomp")
    (again,) = evalkit.evaluate(model, "videomme", [point], frames=16, results_dir=tmp_path / "a", root=data)
    assert again.folder == tuned.folder
    for wrong, message in (({"retake": "x"}, "names of methods among xcomp"), ({"xcomp": "/no"}, "adapter=/no")):
        with pytest.raises(ConfigError, match=message):
            evalkit.evaluate(model, "videomme", {"xcomp": "xcomp"}, adapters=wrong, results_dir=tmp_path / "d", **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "expected a question"),
        ({"ratio": 0}, r"number in \(0, 1\]"),
        ({"method": "nonsense"}, "retake"),
        ({"method": ReTaKe}, "expected a Method"),
        ({"protocol": "guess"}, "lmms_eval"),
        ({"protocol": "official", "options": ()}, "2 to 4 options"),
        ({"frames": 0}, "frames: expected"),
        ({"reader": "eyes"}, "pyav"),
        ({"model": None}, "model: expected what load_backbone gives, got None"),
        ({"video": None}, "video: expected a path, got None"),
        ({"question": 7}, "question: expected a text, got 7"),
        ({"options": "yellow"}, "options: expected a list of texts, got 'yellow'"),
        ({"options": [1, 2]}, r"options: expected a list of texts, got \[1, 2\]"),
        ({"options": None}, "options: expected a list of texts, got None"),
        ({"frames": "a"}, "frames: expected an integer from 1 on, or None, got 'a'"),
        ({"frames": True}, "frames: expected an integer from 1 on, or None, got True"),
        ({"sampling": "fps"}, r"sampling: expected Sampling\(…\), or None, got 'fps'"),
        ({"seed": "x"}, "seed: expected an integer from 0 on, got 'x'"),
        ({"seed": 1.5}, "seed: expected an integer from 0 on, got 1.5"),
        ({"seed": -1}, "seed: expected an integer from 0 on, got -1"),
        ({"protocol": 3}, "protocol: expected a name or a Protocol, or None, got 3"),
    ],
)
def test_wrong_arguments_are_explained(change: dict[str, Any], message: str, data: Path, model: Backbone) -> None:
    given: dict[str, Any] = {"video": data / "data" / "vid-_001.mp4", "question": "What?", "options": ("a", "b")}
    with pytest.raises(ConfigError, match=message):
        evalkit.ask(**({"model": model} | given | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "builtin"}, "model: expected what load_backbone gives, got 'builtin'"),
        ({"benchmark": 3}, "benchmark: expected a list of question sets, or a name, got 3"),
        ({"points": ["uniform"]}, r"points: expected a list of pairs such as \('uniform', 0.5\).*got \['uniform'\]"),
        ({"points": "uniform"}, "points: expected a list of pairs"),
        ({"points": {"uniform": "uniform"}, "ratios": 0.5}, "ratios: expected a list of numbers, got 0.5"),
        ({"points": {"uniform": "uniform"}, "ratios": ["x"]}, r"ratios: expected a list of numbers, got \['x'\]"),
        ({"adapters": "builtin/xcomp"}, "adapters: expected a mapping of methods' names to folders"),
        ({"results_dir": None}, "results_dir: expected a path, got None"),
        ({"root": 3}, "root: expected a path, or None, got 3"),
        ({"share": "false"}, "share: expected true or false, got 'false'"),
        ({"seed": True}, "seed: expected an integer from 0 on, got True"),
        ({"protocol": None}, "protocol: expected a name or a Protocol, got None"),
        ({"timing": "all"}, "timing: expected how many videos"),
        ({"reader": 3}, "reader: expected one of"),
    ],
)
def test_wrong_arguments_of_evaluate_are_explained(
    change: dict[str, Any], message: str, data: Path, model: Backbone, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"benchmark": "videomme", "points": [("uniform", 1.0)], "root": data}
    with pytest.raises(ConfigError, match=message):
        evalkit.evaluate(**({"model": model, "results_dir": tmp_path} | given | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, 3, ""])
def test_a_backbone_has_a_name(name: Any) -> None:
    with pytest.raises(ConfigError, match="name: expected a path, got"):
        evalkit.load_backbone(name)


def test_what_is_not_there_is_explained(data: Path, model: Backbone, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="gone"):
        evalkit.ask(model, data / "gone.mp4", "What?")
    with pytest.raises(ConfigError, match="expected a checkpoint folder"):
        evalkit.load_backbone("nowhere")
    with pytest.raises(ConfigError, match="dtype"):
        evalkit.load_backbone("builtin", dtype="float8")
    for points, message in (
        ([], "at least one method"),
        ([(ReTaKe(), 0.5), (ReTaKe(window=5), 0.5)], "two methods are called 'retake'"),
        ({"../a": "retake"}, "becomes part of a path"),
    ):
        with pytest.raises(ConfigError, match=message):
            evalkit.evaluate(model, "videomme", points, root=data, results_dir=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no benchmark is called"):
        evalkit.evaluate(model, "nothing", [("uniform", 1.0)], root=data, results_dir=tmp_path)
    with pytest.raises(AttributeError, match="nothing"):
        evalkit.nothing  # noqa: B018


def test_the_names_are_those_of_their_modules() -> None:
    from evalkit import method, types

    assert evalkit.Method is method.Method
    assert evalkit.VisualTokens is types.VisualTokens
    assert set(evalkit.__all__) <= set(dir(evalkit))
    assert all(getattr(evalkit, name) is not None for name in evalkit.__all__)
