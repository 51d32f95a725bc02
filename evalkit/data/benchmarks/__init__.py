"""Question sets as they are distributed: annotation files of a folder in, `Benchmark` out. Nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.data.benchmarks import evidence_spans, lvbench, mlvu, videomme
from evalkit.data.benchmarks.fields import duration_bucket
from evalkit.data.benchmarks.files import is_generated
from evalkit.errors import ConfigError, DataError
from evalkit.types import Benchmark

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.data.benchmarks.rows import Loaded

FORMATS = {"videomme": videomme, "mlvu": mlvu, "lvbench": lvbench}

__all__ = ["FORMATS", "duration_bucket", "load"]


def load(name: str, root: Path | None) -> list[Benchmark]:
    """The question sets under `root`: one for videomme, mlvu or lvbench; up to three for builtin.

    A missing video is no error here, a row that cannot be asked is a `BadRow`. Raises ConfigError for an unknown name
    or no folder at all, DataError for a folder or an annotation file that is missing or malformed.
    """
    if name == "builtin":
        return _builtin(root)
    if name not in FORMATS:
        raise ConfigError(f"no benchmark is called {name!r}; known are {', '.join([*FORMATS, 'builtin'])}")
    return [_one(name, root)]


def _builtin(root: Path | None) -> list[Benchmark]:
    if root is None:
        raise ConfigError("the built-in benchmarks need their folder: add benchmark.root=DIR")
    found = [name for name in FORMATS if (root / name).is_dir()]
    if not found:
        raise DataError(
            f"{root}: expected a folder videomme, mlvu or lvbench with generated videos, found none; "
            "run `python -m evalkit data make` first"
        )
    return [_one(name, root / name) for name in found]


def _one(name: str, root: Path | None) -> Benchmark:
    layout = FORMATS[name]
    if root is None:
        raise ConfigError(f"{name} needs its data folder: add benchmark.root=DIR\n{layout.TREE}")
    if not root.is_dir():
        came = "a file" if root.exists() else "nothing"
        raise DataError(f"{root}: expected the data folder of {layout.LABEL}, found {came}\n{layout.TREE}")
    loaded = layout.read(root)
    generated = is_generated(root)
    return Benchmark(
        name=name,
        label=f"generated videos ({layout.LABEL} format)" if generated else layout.LABEL,
        root=root,
        split=loaded.split,
        questions=evidence_spans.placed(loaded.questions, root),
        bad_rows=loaded.bad_rows,
        generated=generated,
        notes=loaded.notes if generated else (*loaded.notes, *_size_note(loaded, layout.OFFICIAL_ROWS)),
    )


def _size_note(loaded: Loaded, official: int) -> tuple[str, ...]:
    """Different sizes of one set are in print, so a table says when it is not the official one."""
    rows = len(loaded.questions) + len(loaded.bad_rows)
    return () if rows == official else (f"{rows} rows; the official set has {official}",)
