"""Python commands one after the other in one process of its own: loading torch and transformers takes it longest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_RUN = """
import json, runpy, sys
from glob import glob
for words in json.loads(sys.argv[1]):
    code, sys.argv = 0, [path for word in words for path in glob(word, recursive=True) or [word]]
    try:
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
        elif words[0] == "-m":
            del sys.argv[0]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    print(f"\\n== {code}", flush=True)
"""


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
    command = [sys.executable, "-c", _RUN, json.dumps(list(commands.values()))]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    parts = re.split(r"\n== (\d+)\n", done.stdout)
    told = [Told(int(code), out) for out, code in zip(parts[:-1:2], parts[1::2], strict=True)]
    return dict(zip(commands, told, strict=False)), done.stderr
