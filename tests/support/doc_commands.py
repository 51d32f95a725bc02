"""Commands from the documents: run, or held against the programs that they call."""

from __future__ import annotations

import re
import tomllib
from argparse import Namespace
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from evalkit.__main__ import main, parser
from evalkit.config import build
from evalkit.config.choices import CONF
from evalkit.data import protocols
from evalkit.lmms_plugin import settings as plugin
from tests.support.documents import ROOT
from tests.support.run_eval import run_eval

PROGRAMS = ("ruff", "mypy", "pre-commit", "ray")  # known, and none of ours: no options are checked


def check(command: list[str]) -> None:
    """Fails where a program, option, setting, target or file of the command does not exist."""
    if re.match(r"[A-Z_]+=\$\(", command[0]):
        return  # a variable for the next command
    start = next(i for i, word in enumerate(command) if not re.fullmatch(r"[A-Z_]+=\S+", word))
    program, *rest = command[start:]
    program = program.removeprefix(".venv/bin/")
    match [program, *rest]:
        case ["python" | "python3", "-m", module, *rest]:
            _module(module, rest)
        case ["python" | "python3", "run_eval.py", *rest]:
            composes("config", [word for word in rest if word != "--help"])
        case ["python" | "python3", script, *rest]:
            _script(ROOT / script, rest)
        case ["evalkit", *rest]:
            _evalkit(rest)
        case ["accelerate", "launch", "-m", module, *rest]:
            _module(module, rest)
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{re.escape(t)}:", makefile, re.M) for t in targets if "=" not in t), targets
        case ["pip", "install", *rest]:
            _pip(rest)
        case _:
            assert program in PROGRAMS, f"a command that no test knows: {command}"


def run(command: list[str]) -> int:
    """The exit code of evalkit's own commands, in this process alone, which has their libraries loaded."""
    match command:
        case ["python", "-m", "evalkit", *rest]:
            return main(rest)
        case ["python", "run_eval.py", *rest]:
            return run_eval(*rest, "executor.workers=1")
        case _:
            raise AssertionError(f"expected a command of evalkit, or a first line that says what it needs: {command}")


def _module(module: str, rest: list[str]) -> None:
    match module:
        case "evalkit":
            _evalkit(rest)
        case "lmms_eval":
            chosen = plugin.parse_model_args(rest[rest.index("--model_args") + 1])
            assert build.points(plugin.composed(chosen))
        case "pip":
            assert rest[0] == "install"
            _pip(rest[1:])
        case "pytest":
            assert all((ROOT / word).exists() for word in rest if word.startswith("tests")), rest
        case _ if module.startswith("evalkit."):
            assert find_spec(module), f"no such module: {module}"
            assert all((ROOT / word).exists() for word in rest), rest
        case _:
            assert module == "venv", f"a module that no test knows: {module}"


def _evalkit(rest: list[str]) -> None:
    if rest[:1] == ["run"]:
        composes("config", rest[1:])
        return
    if all(re.fullmatch("[a-z]+", word) for word in rest):  # the command's name alone, as in running text
        assert _parsed([*rest, "--help"]) == 0, f"python -m evalkit {' '.join(rest)}: no such command"
        return
    parsed = _parsed(rest)
    assert isinstance(parsed, Namespace), f"python -m evalkit {' '.join(rest)}: refused"
    if rest[:1] == ["tune"]:
        composes("tune", parsed.settings)


def _parsed(words: list[str]) -> Namespace | int | str | None:
    """The arguments, or the code with which the parser ends the program."""
    try:
        return parser().parse_args(words)
    except SystemExit as end:
        return end.code


def _script(script: Path, rest: list[str]) -> None:
    source = script.read_text(encoding="utf-8")
    assert all(f'"{word}"' in source for word in rest if word.startswith("--")), rest


def _pip(rest: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"\[(\w+)\]", " ".join(rest))
    assert set(extras) <= set(project["optional-dependencies"]), extras


def composes(name: str, words: list[str]) -> None:
    """Every job of these overrides composes, and names methods, ratios, a sampling and a protocol that exist."""
    overrides = OverridesParser.create().parse_overrides([word for word in words if word not in ("-m", "--multirun")])
    choices = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in overrides
    ]
    for job in product(*choices):
        _composes(name, tuple(map(str, job)))


@cache
def _composes(name: str, job: tuple[str, ...]) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose(name, overrides=list(job))
    assert build.points(cfg)
    assert build.sampling(cfg).frames > 0
    if name == "config":
        protocols.get(cfg.protocol)
