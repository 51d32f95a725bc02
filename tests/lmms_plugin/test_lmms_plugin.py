"""evalkit as a model of lmms-eval: settings, requests, records; and their command line against run_eval.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from evalkit.commands import run
from evalkit.engine import records
from evalkit.errors import ConfigError
from evalkit.lmms_plugin import settings
from evalkit.lmms_plugin.budget import Records
from evalkit.lmms_plugin.requests import TaskProtocol, read
from evalkit.runs.folder import ANSWERS
from evalkit.types import BadRow, Question
from tests.support import lmms_eval_slice as theirs
from tests.support.answer_lines import MEASURED, counted
from tests.support.configs import composed
from tests.support.loop import DENSE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1800)  # lmms-eval starts in seconds, on a busy machine in minutes
NOT_COUNTED = (*MEASURED, "seconds_shared")  # the last depends on what is run beside it

# ---- settings


def test_the_words_compose_run_evals_configuration() -> None:
    words = "backbone=tiny_random,method=retake,ratio=0.25,method.window=5,sampling=fps,sampling.frames=8,share=false"
    ours = settings.composed(settings.parse_model_args(words))
    assert ours == composed(*words.split(","), "executor.workers=null")
    assert ours != composed(*words.replace("0.25", "0.5").split(","), "executor.workers=null")
    assert (ours.method.window, ours.ratio, ours.sampling.preset) == (5, 0.25, "fps")


def test_settings_may_be_values_of_python() -> None:
    chosen = {"backbone": "tiny", "method": "uniform", "ratio": 0.5, "seed": 3, "backbone.path": None, "share": True}
    assert settings.composed(chosen | {"backbone.path": "null"}) == settings.composed(chosen)
    cfg = settings.composed(chosen)
    assert (cfg.ratio, cfg.seed, cfg.backbone.path, cfg.share) == (0.5, 3, None, True)


FULL = "backbone=tiny,method=uniform,ratio=0.5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{FULL},methods=[uniform,retake]", "without lists"),
        ("backbone=tiny,method=uniform,retake,ratio=1", "without lists.*'retake'"),
        (f"{FULL},methods=[uniform]", "method=NAME"),
        (f"{FULL},ratios=[0.5]", "ratio=R"),
        ("backbone=tiny,method=uniform,ratio=[0.5]", "one value for ratio"),
        (f"{FULL},benchmark=mlvu", "--tasks"),
        (f"{FULL},protocol=official", "of the task"),
        (f"{FULL},fraems=8", "expected settings of backbone, method"),
        (f"{FULL},sampling.fraems=8", "sampling.fraems"),
        (f"{FULL},+sampling.fraems=8", "expected settings of"),
        (f"{FULL},seed=1,seed=2", "seed once"),
        (f"{FULL.replace('uniform', 'unifrom')}", "unifrom"),
        ("method=uniform", r"expected backbone=…, ratio=…"),
        ("", "backbone=…, method=…, ratio=…"),
    ],
)
def test_wrong_words_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.composed(settings.parse_model_args(text))


def test_lmms_eval_finds_the_model() -> None:
    """The entry point as pyproject.toml declares it; installed in the environment that runs the tests, too."""
    (found,) = (e for e in entry_points(group="lmms_eval.models") if e.name == "evalkit")
    assert found.value == "evalkit.lmms_plugin:manifests"
    assert f'evalkit = "{found.value}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# ---- requests


def request(visual: Any, **kwargs: Any) -> Any:
    wanted = {"max_new_tokens": 16, "until": ["\n\n"], "temperature": 0, "do_sample": False} | kwargs
    return SimpleNamespace(args=("Which?", wanted, visual, 3, "mlvu_dev", "test"))


DATA = {"mlvu_dev": {"test": [{}, {}, {}, {"video": "/videos/a.mp4"}]}}


def test_a_request_is_a_question_in_their_words() -> None:
    asked = read(request(lambda doc: [doc["video"]]), DATA)
    assert isinstance(asked.row, Question)
    assert (asked.row.id, asked.row.video_path) == ("mlvu_dev:3", Path("/videos/a.mp4"))
    assert asked.protocol.prompt(asked.row) == "Which?"
    assert (asked.protocol.stop, asked.protocol.max_new_tokens("mlvu")) == (("\n\n",), 16)
    assert asked.output_path is None
    assert read(request(lambda doc: [doc["video"]], until="\n"), DATA).protocol == TaskProtocol(16, ("\n",))


def test_a_video_that_is_not_there_is_a_row_that_cannot_be_asked() -> None:
    def stop(_: Any) -> None:
        sys.exit("video path:/a.mp4 does not exist")

    def deny(_: Any) -> None:
        raise AssertionError

    for visual in (stop, deny):
        row = read(request(visual), DATA).row
        assert isinstance(row, BadRow)
        assert row.id == "mlvu_dev:3"
        assert "HF_HOME" in row.message
    assert "/a.mp4 does not exist" in read(request(stop), DATA).row.message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("visual", "kwargs", "message"),
    [
        (lambda _: [b"pixels"], {}, "path of one video"),
        (lambda _: ["a.mp4", "b.mp4"], {}, "path of one video"),
        (lambda _: [], {}, "path of one video"),
        (lambda _: ["a.mp4"], {"do_sample": True}, "greedily"),
        (lambda _: ["a.mp4"], {"num_beams": 3}, "greedily"),
        (lambda _: ["a.mp4"], {"max_new_tokens": None}, "max_new_tokens=N"),
    ],
)
def test_tasks_that_cannot_be_run_are_explained(visual: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(request(visual, **kwargs), DATA)


def test_records_lie_in_the_output_folder(tmp_path: Path) -> None:
    class Task:
        args = SimpleNamespace(output_path=str(tmp_path / "out"))

        def doc_to_visual(self, doc: Any) -> list[str]:
            return [doc["video"]]

    inside, outside = read(request(Task().doc_to_visual), DATA), read(request(lambda d: [d["video"]]), DATA)
    assert inside.output_path == tmp_path / "out"
    with Records({"seed": 0}, tmp_path / "default") as budget:
        for asked in (inside, outside):
            budget.append(asked, records.failed(DENSE, asked.row, "broken"))
        for folder in ("out", "default"):  # on disk before the end
            (file,) = (tmp_path / folder).glob("*_budget_mlvu_dev.jsonl")
            (line,) = file.read_text().splitlines()
            assert json.loads(line)["error"] == "broken"
            (made,) = (tmp_path / folder).glob("*_budget.yaml")
            assert yaml.safe_load(made.read_text()) == {"seed": 0}


# ---- through lmms-eval


# one process for all that needs lmms-eval: importing it takes longer than what is asked of it
SCRIPT = """
import atexit, gc, json, runpy, sys
gc.disable()  # libraries make half a million objects, which stay
import torch
from lmms_eval import evaluator
from lmms_eval.tasks import TaskManager
from transformers import AutoModelForImageTextToText, AutoTokenizer, cache_utils
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl import modeling_qwen2_vl
from evalkit.errors import ConfigError
from evalkit.lmms_plugin.model import Evalkit

gc.freeze()
gc.enable()
atexit.register(gc.freeze)  # and go with the process
tasks, checkpoint, config = sys.argv[1:]
torch.set_num_threads(1)  # as backbone.threads does for the process: sums of other threads differ in their last bits

def bound():
    found = {("attention", name): id(f) for name, f in ALL_ATTENTION_FUNCTIONS.items() if name != OURS}
    for module in (modeling_qwen2_vl, cache_utils, torch.nn.functional):
        for name, value in vars(module).items():
            found[module.__name__, name] = id(value)
            if isinstance(value, type):
                found |= {(module.__name__, name, key): id(v) for key, v in vars(value).items() if callable(v)}
    return found

def baseline():
    model = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
    ids = AutoTokenizer.from_pretrained(checkpoint)("What comes next?", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return model(input_ids=ids).logits

from evalkit.model import attention
OURS = attention.register()
before, logits = bound(), baseline()
lm = Evalkit(**{"backbone": "tiny_random", "backbone.path": checkpoint, "method": "retake", "ratio": 0.25,
                "sampling.frames": 8, "results_dir": "here"})
manager = TaskManager(include_path=tasks, include_defaults=False)

def replies():
    lm.probe = torch.nn.Linear(1, 1)
    names = ["lvbench_slice"]
    done = evaluator.simple_evaluate(model=lm, tasks=names, task_manager=manager, limit=4, bootstrap_iters=0)
    return [s["filtered_resps"][0] for s in done["samples"]["lvbench_slice"]]

first, cleaned = replies(), not hasattr(lm, "probe")
second, after = replies(), bound()
same = torch.equal(logits, baseline())
right = modeling_qwen2_vl.Qwen2VLAttention.forward
modeling_qwen2_vl.Qwen2VLAttention.forward = lambda *a, **k: None
seen = before != bound()
modeling_qwen2_vl.Qwen2VLAttention.forward = right
refused = {}
for name, call in {"batch": lambda: Evalkit(batch_size=2), "loglikelihood": lambda: lm.loglikelihood([])}.items():
    try:
        call()
    except (ConfigError, SystemExit) as error:
        refused[name] = repr(error)
found = {"first": first, "second": second, "cleaned": cleaned, "kept": before == after, "rebinding seen": seen,
         "same": same, "refused": refused}
with open("twice.json", "w") as file:
    json.dump(found, file)

# then their command line, which would read the nearly two thousand files of their own tasks for every run
listed = TaskManager._get_task_and_group
TaskManager._get_task_and_group = lambda self, folder: listed(self, folder) if folder == tasks else {}
sys.argv = ["lmms_eval", "--config", config]
runpy.run_module("lmms_eval", run_name="__main__")
"""


@dataclass(frozen=True)
class Ran:
    """Both sides: two runs that finished, and lmms-eval's third with wrong settings; before them, SCRIPT's own."""

    slice_: theirs.Slice
    ours: dict[tuple[str, float, str, str], dict[str, Any]]  # method, ratio, format, question id
    samples: dict[str, dict[tuple[str, int], dict[str, Any]]]  # by method at 0.25: format, doc_id
    budgets: dict[str, dict[tuple[str, int], dict[str, Any]]]
    results: dict[str, dict[str, Any]]
    returncode: int
    stderr: str
    twice: dict[str, Any]
    twice_records: int


METHODS = ("uniform", "retake")


@pytest.fixture(scope="module")
def slice_(tmp_path_factory: pytest.TempPathFactory) -> theirs.Slice:
    return theirs.make(tmp_path_factory.mktemp("slice"))


@pytest.fixture(scope="module")
def ran(slice_: theirs.Slice, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("ran")
    words = ["backbone=tiny_random", f"backbone.path={checkpoint}", "sampling.frames=16"]
    outs = {method: root / method for method in METHODS}
    runs = {outs[m]: ",".join([*words, f"method={m}", "ratio=0.25"]) for m in METHODS}
    file = theirs.config(slice_, runs | {root / "wrong": "backbone=tiny,method=unifrom,ratio=0.25"})
    done = theirs.python(slice_, "-c", SCRIPT, str(slice_.tasks), str(checkpoint), str(file), cwd=root)
    assert all(list(out.rglob("*_results.json")) for out in outs.values()), done.stderr[-3000:]
    grid = [f"methods=[{','.join(METHODS)}]", "ratios=[0.25,0.5]", f"benchmark.root={slice_.root}"]
    run.run(composed(*words, *grid, f"results_dir={root / 'ours'}"))
    lines = [json.loads(x) for file in (root / "ours").rglob(ANSWERS) for x in file.read_text().splitlines()]
    return Ran(
        slice_=slice_,
        ours={(a["method"], a["ratio"], a["benchmark"], a["question_id"]): a for a in lines},
        samples={method: theirs.json_lines(out, "samples") for method, out in outs.items()},
        budgets={method: theirs.json_lines(out, "budget") for method, out in outs.items()},
        results={method: json.loads(next(out.rglob("*_results.json")).read_text()) for method, out in outs.items()},
        returncode=done.returncode,
        stderr=done.stderr,
        twice=json.loads((root / "twice.json").read_text()),
        twice_records=sum(len(file.read_text().splitlines()) for file in (root / "here").rglob("*_budget_*.jsonl")),
    )


def pairs(ran: Ran, method: str, ratio: float = 0.25) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(our answer, their record) of every document."""
    for name, questions in ran.slice_.questions.items():
        for doc_id, asked in enumerate(questions):
            yield ran.ours[method, ratio, name, asked.id], ran.budgets[method][name, doc_id]


def told(answer: dict[str, Any]) -> tuple[Any, ...]:
    return answer["text"], answer["prompt_sha"], counted(answer["ledger"], but=NOT_COUNTED)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_answers_and_budgets_are_those_of_run_eval(ran: Ran, method: str) -> None:
    both = list(pairs(ran, method))
    assert len(both) == len(ran.budgets[method]) == 18
    assert [told(ours) for ours, _ in both] == [told(record) for _, record in both]
    answered = [ours for ours, _ in both if ours["status"] != "failed"]
    assert len({a["text"] for a in answered}) > len(answered) / 2  # noise, but not one noise
    assert any(a["ledger"]["shared_prefix"] for a in answered)
    other = [(ours, record) for ours, record in pairs(ran, method, ratio=0.5) if record["ledger"]]
    assert all(
        counted(ours["ledger"], but=NOT_COUNTED) != counted(record["ledger"], but=NOT_COUNTED) for ours, record in other
    )
    assert any(ours["text"] != record["text"] for ours, record in other)


@pytest.mark.slow
def test_methods_differ(ran: Ran) -> None:
    """Two models of one process do not share what they found."""
    uniform, retake = (ran.budgets[method]["lvbench", 0]["ledger"] for method in METHODS)
    assert (uniform["frames_decoded"], retake["frames_decoded"]) == (4, 16)
    assert uniform["kv_tokens_per_layer"] == retake["kv_tokens_per_layer"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_their_samples_and_results(ran: Ran, method: str) -> None:
    """Replies, scores and token counts arrive in lmms-eval's own files."""
    for (name, doc_id), sample in ran.samples[method].items():
        ours = ran.ours[method, 0.25, name, ran.slice_.questions[name][doc_id].id]
        assert sample["filtered_resps"] == ours["text"]
        if ours["status"] == "failed":
            assert (sample["filtered_resps"], sample["token_counts"]) == ("", [None])
            continue
        (counts,) = sample["token_counts"]
        assert counts["input_tokens"] == ours["ledger"]["llm_tokens_fed"]
        assert 0 < counts["output_tokens"] <= 32
        (score,) = (value for key, value in sample.items() if key.endswith("_score"))
        right = score["pred_answer"] == score["answer"] if isinstance(score, dict) else score
        assert right == ours["correct"]
    results = ran.results[method]
    assert results["throughput"]["avg_ratio_achieved"] == pytest.approx(0.25)
    assert results["throughput"]["avg_failed_requests"] == 4
    docs = {task: (e["docs"], e["docs_with_token_counts"]) for task, e in results["efficiency"]["by_task"].items()}
    assert docs == {"videomme_slice": (6, 3), "mlvu_slice": (6, 5), "lvbench_slice": (6, 6)}


@pytest.mark.slow
def test_what_cannot_be_answered_is_recorded_and_said(ran: Ran) -> None:
    for method in METHODS:
        failed = {key: r["error"] for key, r in ran.budgets[method].items() if r["status"] == "failed"}
        assert set(failed) == {("videomme", 3), ("videomme", 4), ("videomme", 5), ("mlvu", 5)}
        assert all(error.startswith("VideoError") for key, error in failed.items() if key[0] == "videomme")
        assert "does not exist" in failed["mlvu", 5]
        assert all(r["ledger"] is None and r["text"] == "" for r in ran.budgets[method].values() if r["error"])
    assert ran.stderr.count("4 of 18 documents were not answered") == len(METHODS)


@pytest.mark.slow
def test_wrong_settings_end_their_command_line_with_2(ran: Ran) -> None:
    """After an Exception it would end with 0; what was finished before is kept."""
    assert ran.returncode == 2, ran.stderr[-2000:]
    assert "unifrom" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_an_object_is_evaluated_twice_and_rebinds_nothing(ran: Ran) -> None:
    """lmms-eval's clean() ran in between, and a model of transformers computes what it did before."""
    found = ran.twice
    assert len(found["first"]) == 4
    assert all(found["first"])
    assert found["second"] == found["first"]
    assert {key: found[key] for key in ("cleaned", "kept", "rebinding seen", "same")} == dict.fromkeys(
        ("cleaned", "kept", "rebinding seen", "same"), True
    )
    assert "--batch_size 1" in found["refused"]["batch"]
    assert found["refused"]["loglikelihood"] == "SystemExit(2)"
    assert ran.twice_records == 8  # without an output path
