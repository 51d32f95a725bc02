"""Every command in README and docs is run, or held against the program that it calls."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from evalkit.config import build
from evalkit.errors import EvalkitError
from evalkit.types import Benchmark
from tests.support import doc_commands
from tests.support.documents import NEEDS, PAGES, ROOT, Block, blocks, inline_commands

pytestmark = pytest.mark.slow

OURS = [page for page in PAGES if page.startswith("docs/") or page in ("README.md", "CONTRIBUTING.md")]
SHELL = [block for page in PAGES for block in blocks(page, "sh", "bash", "shell")]
RUN = [block for block in SHELL if block.page in OURS and not block.needs]
CHECKED = [block for block in SHELL if block not in RUN]
PYTHON = [block for page in OURS for block in blocks(page, "python")]


@pytest.mark.parametrize("block", [*SHELL, *PYTHON], ids=str)
def test_needs_are_known_words(block: Block) -> None:
    assert block.needs <= NEEDS


def test_some_blocks_are_really_run() -> None:
    assert {block.page for block in RUN} >= {"docs/first_steps.md"}
    assert len(CHECKED) > len(RUN)


@pytest.mark.parametrize("block", CHECKED, ids=str)
def test_a_command_that_needs_something_is_one_that_exists(block: Block) -> None:
    assert block.commands
    for command in block.commands:
        doc_commands.check(command)


@pytest.mark.parametrize("page", OURS)
def test_commands_in_running_text(page: str) -> None:
    for command in inline_commands(page):
        doc_commands.check(command)


@pytest.mark.parametrize(
    "command",
    [
        ["python", "run_eval.py", "backbone=qwen3_vl"],
        ["python", "run_eval.py", "sampling.fames=8"],
        ["python", "run_eval.py", "methods=[unifrm]"],
        ["python", "run_eval.py", "-m", "method=uniform,retke", "ratio=1.0,0.5"],
        ["python", "-m", "evalkit", "reprot", "results"],
        ["python", "-m", "evalkit", "report", "results", "--thumb", "no"],
        ["python", "-m", "evalkit", "tune", "method=lpcomp", "learning_rate=1"],
        ["make", "evla"],
        ["pip", "install", "evalkit[wanb]"],
        ["conda", "install", "evalkit"],
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_noticed(command: list[str]) -> None:
    with pytest.raises((AssertionError, HydraException, OmegaConfBaseException, EvalkitError)):
        doc_commands.check(command)


def few(loaded: Callable[[DictConfig], list[Benchmark]]) -> Callable[[DictConfig], list[Benchmark]]:
    """Question sets as a configuration has them, cut to those about four videos."""

    def cut(cfg: DictConfig) -> list[Benchmark]:
        chosen = [(one, islice(one.by_video().values(), 4)) for one in loaded(cfg)]
        return [replace(one, questions=tuple(chain.from_iterable(asked))) for one, asked in chosen]

    return cut


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_blocks_that_need_nothing_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they are read: later ones use what earlier ones wrote. Runs ask about few of the videos."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(build, "question_sets", few(build.question_sets))
    for block in RUN:
        for command in block.commands:
            assert doc_commands.run(command) == 0, f"{block}: {command}"
    assert (checkout / "results" / "report.html").exists()


@pytest.mark.slow
def test_a_block_runs_in_a_shell(checkout: Path) -> None:
    (block,) = (block for block in RUN if "dry_run=true" in block.text)
    path = os.pathsep.join((str(checkout / "bin"), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_runs(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, str(block), "exec", dont_inherit=True)
    if not block.needs:
        monkeypatch.chdir(checkout)
        exec(code, {"__name__": __name__})  # noqa: S102 – our own documents
