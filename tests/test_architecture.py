"""The rooms of evalkit and the arrows between them, as design and docs draw them: no more and no fewer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from tests.support.module_graph import ROOT, circles, graph, imported, modules

# What every room may import (values, the contract with methods, errors, progress bars), and what that imports itself.
SHARED: Mapping[str, set[str]] = {
    "errors": set(),
    "ledger": set(),
    "atomic_write": set(),
    "child_process": {"errors"},
    "machine": set(),
    "sanitize": set(),
    "progress": set(),
    "plugins": {"errors"},
    "chunk_scores": set(),
    "encoder_view": {"errors"},
    "merging": {"errors"},
    "to_device": set(),
    "types": {"chunk_scores", "encoder_view", "errors", "ledger", "merging", "to_device"},
    "method": {"chunk_scores", "encoder_view", "errors", "types"},
}
# room -> the rooms that it imports from
ARROWS: Mapping[str, set[str]] = {
    "hub": set(),  # names and sizes of files on the Hugging Face hub
    "runs": set(),
    "data": {"hub"},
    "model": {"hub"},
    "analysis": {"runs", "data"},
    "trackers": {"analysis", "runs"},
    "engine": {"data", "model", "runs"},
    "tiny": {"data", "model"},
    "config": {"data", "engine", "model", "tiny"},
    "tune": {"config", "data", "engine", "model", "runs", "tiny"},
    "lmms_plugin": {"config", "data", "engine", "runs"},
    "api": {"config", "data", "engine", "runs"},
    "": {"api", "data", "engine"},  # the names of evalkit itself, each loaded when it is used
    "testing": {"data", "engine", "model", "tiny"},  # the contract of methods, for tests of other packages
    "commands": {"analysis", "config", "data", "engine", "hub", "model", "runs", "trackers"},
    "__main__": {"analysis", "commands", "data", "tiny", "tune"},
}
KNOW_HYDRA = {"config", "commands", "tune", "lmms_plugin"}  # beside run_eval.py
HEAVY = {"torch", "transformers", "lmms_eval", "pandas", "av", "datasets", "matplotlib", "scipy", "jinja2", "PIL"}
TRACKERS = {"tensorboard", "wandb", "mlflow"}


def room(module: str) -> str:
    """`engine` of evalkit.engine.answer; "" of evalkit itself."""
    return [*module.split("."), ""][1]


def test_the_arrows_are_those_of_the_plan() -> None:
    found: dict[str, set[str]] = {room(name): set() for name in modules()}
    for name, others in graph().items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    shared = {name: others for name, others in found.items() if name in SHARED}
    assert shared == SHARED
    between = {name: others - set(SHARED) for name, others in found.items() if name not in SHARED}
    assert between == ARROWS


def test_there_is_no_circle() -> None:
    """Between modules of one room neither, nor through imports in functions or for type checkers."""
    assert circles(graph()) == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}
    assert circles(graph) == [("b", "c"), ("d",)]


def test_evalkit_knows_no_method() -> None:
    for name, file in modules().items():
        assert not [other for other in imported(file) if other.split(".")[0] == "methods"], name


def test_hydra_stays_at_the_border() -> None:
    know = {room(name) for name, file in modules().items() if libraries(name) & {"hydra", "omegaconf"}}
    assert know == KNOW_HYDRA
    assert not {lib for name in modules("methods") for lib in libraries(name, "methods")} & {"hydra", "omegaconf"}


def libraries(name: str, package: str = "evalkit", *, top_level: bool = False) -> set[str]:
    file = modules(package)[name]
    return {other.split(".")[0] for other in imported(file, top_level=top_level)}


def test_shared_modules_import_nothing_heavy() -> None:
    for name in (*SHARED, "hub"):
        assert not libraries(f"evalkit.{name}", top_level=True) & HEAVY, name


def test_only_models_import_transformers() -> None:
    know = {room(name) for name in modules() if "transformers" in libraries(name)}
    assert know <= {"model", "tiny", "tune"}
    assert not [name for name in modules("methods") if "transformers" in libraries(name, "methods")]


def test_lmms_eval_is_imported_on_demand() -> None:
    theirs = "evalkit.lmms_plugin.model"  # the class that lmms-eval itself imports by name
    assert [name for name in modules() if "lmms_eval" in libraries(name, top_level=True)] == [theirs]


LIGHT = f"""
import runpy, sys, evalkit
assert not {HEAVY | TRACKERS | {"hydra", "omegaconf", "numpy", "yaml"}!r} & set(sys.modules)
assert [name for name in sys.modules if name.startswith("evalkit")] == ["evalkit"]
assert set(evalkit.__all__) <= set(dir(evalkit))
evalkit.Method, evalkit.Budget, evalkit.VideoError
assert "torch" not in sys.modules
starts = [("run_module", "evalkit", "--help"), ("run_path", "run_eval.py", "--help")]
for start, *words in [*starts, ("run_path", "run_eval.py", "share=maybe")]:
    code, sys.argv = 0, words
    try:
        getattr(runpy, start)(words[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code
    assert code == (2 if words[1] == "share=maybe" else 0), code
    print("HEAVY", sorted({HEAVY | TRACKERS!r} & set(sys.modules)))
"""


def test_evalkit_its_help_and_what_it_refuses_load_nothing_heavy() -> None:
    """What makes --help slow is imports; time itself is not asserted. One process will do: nothing is ever unloaded."""
    out = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=True)
    of_evalkit, of_run_eval, _, rest = out.stdout.split("HEAVY []\n")
    assert "usage" in of_evalkit.lower(), of_evalkit[-300:]
    assert "== Settings" in of_run_eval, of_run_eval[-300:]
    assert rest == ""
