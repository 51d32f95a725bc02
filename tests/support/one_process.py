"""Python commands one after the other in one process of their own: loading torch and transformers takes it longest.

The process is forked from the one from which workers are, which has loaded libraries of others and nothing of ours. So
it finds evalkit where its own environment says, as `python` would. What libraries read of the environment when they are
loaded, they have read.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Told(NamedTuple):
    """What one command left."""

    code: int
    out: str


def run(
    commands: Mapping[str, Sequence[str]], folder: Path, environment: Mapping[str, str]
) -> tuple[dict[str, Told], str]:
    """Each command as the arguments of `python`: `-c CODE`, `-m MODULE …` or `FILE …`; `**` finds files.

    By the names of the commands what each left, and what all said on stderr; a command that crashes is the last one.
    """
    from evalkit.engine.executor import forking  # here, as the forked process finds its own

    forking.start()
    with tempfile.TemporaryDirectory() as kept:
        words = [list(command) for command in commands.values()]
        arguments = (words, str(folder), dict(environment), kept)
        process = multiprocessing.get_context("forkserver").Process(target=_run, args=arguments)
        process.start()
        process.join()
        codes = [int(code) for code in _text(kept, "codes").split()]
        told = [Told(code, _text(kept, str(place))) for place, code in enumerate(codes)]
        return dict(zip(commands, told, strict=False)), _text(kept, "stderr")


def _text(folder: str, name: str) -> str:
    file = Path(folder, name)
    return file.read_text(encoding="utf-8") if file.exists() else ""


# ---- in the forked process


def _run(commands: Sequence[list[str]], folder: str, environment: Mapping[str, str], kept: str) -> None:
    gc.freeze()  # nothing of what was loaded is garbage: what is looked through is copied
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    _redirected(2, Path(kept, "stderr"))
    for place, words in enumerate(commands):
        _redirected(1, Path(kept, str(place)))
        sys.path[:] = ["", *own, *installed]
        code = _ended(words)
        sys.stdout.flush()
        with Path(kept, "codes").open("a") as codes:
            codes.write(f"{code}\n")


def _redirected(stream: int, file: Path) -> None:
    to = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, stream)
    os.close(to)


def _ended(words: list[str]) -> int:
    """The exit code of a command."""
    sys.argv = [path for word in words for path in glob(word, recursive=True) or [word]]  # noqa: PTH207 – as a shell
    try:
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})  # noqa: S102 – a test's own
        elif words[0] == "-m":
            del sys.argv[0]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
