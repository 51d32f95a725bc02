"""Wrong settings end with 2 and one line that says what was expected, before a run folder or a model exists."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evalkit.__main__ import main
from evalkit.commands import run
from evalkit.commands.run_eval import STARTING
from evalkit.config import build as run_settings
from evalkit.errors import ConfigError
from evalkit.lmms_plugin import settings as plugin
from tests.support.configs import composed
from tests.support.run_eval import run_eval

ROOT = Path(__file__).parents[2]
TWICE = "methods=[{from: uniform, name: x}, {from: retake, name: x}]"

# what Hydra itself refuses, or lets pass although nothing reads it
COMPOSING = {
    "backbone=nope": "backbone: expected one of llava_onevision_7b, llava_video_7b, qwen2_5_vl_7b",
    "backbone=3": "expected the name of a choice after",
    "~backbone": "backbone: expected one of",
    "benchmark=nope": "benchmark: expected one of builtin, lvbench, mlvu, videomme (evalkit); got 'nope'",
    "sampling=": "retake, videochat_flash (evalkit); got ''",
    "experiment=nope": "experiment: expected one of builtin_report, ci",
    "executor=nope": "executor: expected one of local, ray (evalkit); got 'nope'",
    "+executor.threads=3": "no setting executor.threads; expected one of address, deadline, gpus_per_worker",
    "method=nope": "method: expected one of adaretake, aks",
    "ratois=[1]": "no setting ratois (did you mean ratios?); expected one of backbone, benchmark",
    "+ratois=[1]": "no setting ratois (did you mean ratios?)",
    "backbone.chunk_cell=3": "no setting backbone.chunk_cell (did you mean backbone.chunk_cells?)",
    "+backbone.chunk_cell=3": "no setting backbone.chunk_cell (did you mean backbone.chunk_cells?)",
    "+sampling.fraems=3": "sampling: ",
    "ratios=[1": "expected key=value, a list as key=[a,b], all of it quoted in a shell; got 'ratios=[1'",
    "ratios=1,0.5": "Ambiguous value",
    "results_dir=${nowhere}": "nowhere",
}
SWEEP, METHODS = "method=uniform,nope", "method: expected one of adaretake, aks"


def common(results: Path) -> tuple[str, str]:
    """Settings of each start; a process of workers would load its libraries although nothing is answered."""
    return f"results_dir={results}", "executor.workers=1"


def one_line(text: str) -> bool:
    """Beside the line by which a job begins."""
    return len(text.strip().removeprefix(f"{STARTING}\n").splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("word", [*COMPOSING, SWEEP])
def test_what_cannot_be_composed_is_explained(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its exit code and stderr."""
    sweep, told = (["--multirun"], METHODS) if word == SWEEP else ([], COMPOSING[word])
    code, stderr = run_eval(*sweep, *common(tmp_path), word), capsys.readouterr().err
    assert (code, "Traceback" in stderr, told in stderr) == (2, False, True), f"{code}, {stderr}"
    assert one_line(stderr), stderr
    assert not list(tmp_path.rglob("config.yaml"))


ENDS = {
    "backbone=nope": "ConfigError: backbone: expected one of",
    "share=maybe": "ConfigError: share: expected true or false, got 'maybe'",
    "-m ratio=half,0.5": "ConfigError: ratio: expected a number in (0, 1], got 'half'",
}


def expect_two_and_one_line(code: int, stderr: str, words: str, results: Path) -> None:
    lines = stderr.splitlines()
    assert code == 2, stderr
    assert lines[-1].startswith(ENDS[words]), stderr
    assert one_line(stderr) or words.startswith("-m")  # a sweep says which job it is at
    assert "Traceback" not in stderr
    assert not list(results.rglob("answers.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("words", ENDS)
def test_the_command_ends_with_two_and_one_line(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_eval(*words.split(), *common(tmp_path))
    expect_two_and_one_line(code, capsys.readouterr().err, words, tmp_path)


@pytest.mark.slow
def test_so_it_does_as_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "run_eval.py", "share=maybe", f"results_dir={tmp_path}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    expect_two_and_one_line(ended.returncode, ended.stderr, "share=maybe", tmp_path)


NO_CUDA = [("backbone.device=cuda", "sees no CUDA device")] if not torch.cuda.is_available() else []
VALUES = [
    (TWICE, "each name once, got x more than once"),
    ("methods=[uniform, retake, uniform]", "each name once, got uniform"),
    ("methods=[]", r"methods: expected a list such as .* got \[\]"),
    ("methods=uniform", "methods: expected a list such as .* or one method as method=…; got 'uniform'"),
    ("methods=[3]", "methods: expected names among adaretake, aks"),
    ("methods=[{name: x}]", "methods: expected names among adaretake, aks"),
    ("ratios=[]", r"ratios: expected a list such as .* got \[\]"),
    ("ratios=abc", "ratios: expected a list such as .* got 'abc'"),
    ("ratios=0.5", "ratios: expected a list such as .* or one ratio as ratio=…; got 0.5"),
    ("ratios=[true]", r"ratio: expected a number in \(0, 1\], got True"),
    ("ratio=nan", r"ratio: expected a number in \(0, 1\], got nan"),
    ("methods=[{from: uniform, name: ../../x}]", "method: expected a name .* got '../../x'"),
    ("methods=[{from: uniform, name: ..}]", "method: expected a name"),
    ("methods=[{from: uniform, name: ''}]", "method: expected a name"),
    ("methods=[{from: retake, window: abc}]", "method retake: window: expected an integer, got 'abc'"),
    ("methods=[{from: retake, window: 2.5}]", "method retake: window: expected an integer, got 2.5"),
    ("methods=[{from: retake, kv_ratio: true}]", "method retake: kv_ratio: expected a number or null, got True"),
    ("methods=[{from: retake, pivots: all}]", "method retake: pivots: expected one of strict, released, got 'all'"),
    ("methods=[{from: xcomp, reforge: 1}]", "method xcomp: there is no field reforge; expected one of"),
    ("methods=[{from: retake, wndow: 3}]", r"no field wndow \(did you mean window\?\); expected one of pivots"),
    ("results_dir=3", r"results_dir: expected a folder, one of digits alone as \./3, got 3"),
    ("backbone.name=../x", "backbone.name: expected a name .* got '../x'"),
    ("backbone.name=null", "backbone.name: expected a name .* got None"),
    ("benchmark.name=/tmp/x", "benchmark.name: expected a name .* got '/tmp/x'"),
    ("benchmark.name=other", "no benchmark is called 'other'"),
    ("subset=../x", "subset: expected one of full"),
    ("backbone.chunk_cells=0", "backbone.chunk_cells: expected an integer from 1 on, got 0"),
    ("backbone.chunk_cells=1.5", "backbone.chunk_cells: expected an integer from 1 on, got 1.5"),
    ("backbone.chunk_cells=true", "backbone.chunk_cells: expected an integer from 1 on, got True"),
    ("backbone.encode_cells=0", "backbone.encode_cells: expected an integer from 1 on, got 0"),
    ("backbone.encode_cells=many", "backbone.encode_cells: expected an integer from 1 on, got 'many'"),
    ("backbone.threads=0", "backbone.threads: expected an integer from 1 on, or null, got 0"),
    ("seed=-1", "seed: expected an integer from 0 on, got -1"),
    ("seed=abc", "seed: expected an integer from 0 on, got 'abc'"),
    ("share=maybe", "share: expected true or false, got 'maybe'"),
    ("dry_run=maybe", "dry_run: expected true or false, got 'maybe'"),
    ("reader=eyes", "reader: expected one of pyav"),
    ("backbone.dtype=int4", "backbone.dtype: expected one of float32"),
    ("backbone.rope=yarn5", "backbone.rope: expected one of none, yarn4"),
    ("executor.workers=0", "executor.workers: expected an integer from 1 on, or null, got 0"),
    ("executor.workers=many", "executor.workers: expected an integer from 1 on, or null, got 'many'"),
    ("executor.name=nope", "executor.name: expected one of local, ray, got 'nope'"),
    ("backbone.device=cuda:77", "backbone.device=cuda:77"),
    ("backbone.device=foo", "backbone.device: expected auto, cpu, cuda or cuda:N, got 'foo'"),
    ("backbone.device=cuda:x", "backbone.device: expected auto, cpu, cuda or cuda:N, got 'cuda:x'"),
    *NO_CUDA,
]


@pytest.mark.slow
@pytest.mark.parametrize(("override", "told"), VALUES, ids=[override for override, _ in VALUES])
def test_values_are_checked_before_anything_exists(override: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "mlvu").mkdir(parents=True)
    cfg = composed(f"results_dir={tmp_path / 'results'}", f"benchmark.root={tmp_path / 'data'}", override)
    with pytest.raises(ConfigError, match=told) as caught:
        run.run(cfg)
    assert one_line(str(caught.value))
    assert not (tmp_path / "results").exists()


def test_what_is_right_passes(tmp_path: Path) -> None:
    """Negative control: the same start with settings at the edges of what is allowed."""
    edges = ["backbone.chunk_cells=1", "backbone.encode_cells=1", "backbone.threads=null", "seed=0", "ratios=[1]"]
    cfg = composed(*edges, "methods=[{from: uniform, name: a-b_c.9}, uniform]", "backbone.device=cpu")
    (first, second) = run_settings.points(cfg)
    assert (first.name, second.name, first.ratio) == ("a-b_c.9", "uniform", 1.0)
    with pytest.raises(Exception, match="expected a folder videomme, mlvu or lvbench"):  # the next thing that is wrong
        run.run(composed(*edges, f"benchmark.root={tmp_path}"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["backbone=nope"], "backbone: expected one of llava_onevision_7b"),
        (["stepz=1"], "no setting stepz (did you mean steps?)"),
        (["+stepz=1"], "no setting stepz (did you mean steps?)"),
        (["lora.targets=[q"], "expected key=value"),
        (["backbone.device=foo"], "expected auto, cpu, cuda or cuda:N, got 'foo'"),
        (["backbone.encode_cells=0"], "backbone.encode_cells: expected an integer from 1 on, got 0"),
        (["backbone.name=../x"], "backbone.name: expected a name"),
        (["method.name=../x"], "method.name: expected a name"),
        (["seed=abc"], "seed: expected an integer from 0 on, got 'abc'"),
        (["accumulate=0"], "accumulate: expected an integer from 1 on, got 0"),
        (["projector=maybe"], "projector: expected true or false, got 'maybe'"),
        (["ratio=[1]"], "ratio: expected a number in (0, 1]"),
        (["builtin.cells=8"], "builtin.cells: expected a list of integers"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_tune(words: list[str], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    assert main(["tune", "method=lpcomp", "data=builtin", "steps=1", f"out={out}", *words]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert told in line
    assert one_line(line)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("backbone=nope", "--model_args: backbone: expected one of llava_onevision_7b"),
        ("sampling=", "--model_args: sampling: expected one of builtin"),
        ("backbone.nam=x", "--model_args: there is no setting backbone.nam (did you mean backbone.name?)"),
        ("sampling.frames=(", "--model_args: expected key=value"),
        ("backbone.device=foo", "--model_args: backbone.device: expected auto, cpu"),
        ("backbone.chunk_cells=0", "--model_args: backbone.chunk_cells: expected an integer from 1 on, got 0"),
        ("share=maybe", "--model_args: share: expected true or false"),
        ("seed=1.5", "--model_args: seed: expected an integer from 0 on, got 1.5"),
        ("method.name=../x", "method: expected a name"),
    ],
)
def test_arguments_of_the_model_of_lmms_eval(text: str, told: str) -> None:
    chosen = {**plugin.parse_model_args("backbone=tiny,method=uniform,ratio=0.5"), **plugin.parse_model_args(text)}
    with pytest.raises(ConfigError) as caught:
        run_settings.points(plugin.composed(chosen))
    assert told in str(caught.value)
    assert one_line(str(caught.value))
