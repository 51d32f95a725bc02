"""Question sets as they are distributed: annotation files of a folder in, `Benchmark` out. Nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.data.benchmarks import evidence_spans
from evalkit.data.benchmarks.fields import duration_bucket
from evalkit.data.benchmarks.files import is_generated
from evalkit.data.benchmarks.spec import BenchmarkSpec
from evalkit.errors import ConfigError, DataError
from evalkit.plugins import Registry
from evalkit.types import Benchmark

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.data.benchmarks.rows import Loaded

__all__ = ["BUILTIN", "REGISTRY", "BenchmarkSpec", "duration_bucket", "foreign_spec", "load"]

BUILTIN = "builtin"  # generated videos in the formats of several benchmarks, each in a folder of its name
REGISTRY: Registry[BenchmarkSpec] = Registry(
    "benchmarks",
    {name: f"evalkit.data.benchmarks.{name}:SPEC" for name in ("videomme", "mlvu", "lvbench")},
    check=lambda value: isinstance(value, BenchmarkSpec),
    named=True,
    expected="an evalkit.data.benchmarks.BenchmarkSpec",
)


def load(name: str, root: Path | None) -> list[Benchmark]:
    """The question sets under `root`: one for a benchmark's name; for builtin one for each format found there.

    A missing video is no error here, a row that cannot be asked is a `BadRow`. Raises ConfigError for an unknown name
    or no folder at all, DataError for a folder or an annotation file that is missing or malformed.
    """
    if name == BUILTIN:
        return _builtin(root)
    if name not in REGISTRY:
        raise ConfigError(f"no benchmark is called {name!r}; expected one of {REGISTRY.listed()}, or {BUILTIN}")
    return [_one(name, root)]


def foreign_spec(name: str) -> tuple[BenchmarkSpec, ...]:
    """The spec of a benchmark that another package brings; empty for evalkit's own, whose code is evalkit's."""
    entry = REGISTRY.entries.get(name)
    return (REGISTRY[name],) if entry is not None and entry.foreign else ()


def _builtin(root: Path | None) -> list[Benchmark]:
    if root is None:
        raise ConfigError("the built-in benchmarks need their folder: add benchmark.root=DIR")
    found = [name for name in REGISTRY if (root / name).is_dir()]
    if not found:
        *names, last = REGISTRY
        raise DataError(
            f"{root}: expected a folder {', '.join(names)} or {last} with generated videos, found none; "
            "run `python -m evalkit data make` first"
        )
    return [_one(name, root / name) for name in found]


def _one(name: str, root: Path | None) -> Benchmark:
    spec = REGISTRY[name]
    if root is None:
        raise ConfigError(f"{name} needs its data folder: add benchmark.root=DIR\n{spec.layout}")
    if not root.is_dir():
        came = "a file" if root.exists() else "nothing"
        raise DataError(f"{root}: expected the data folder of {spec.label}, found {came}\n{spec.layout}")
    loaded = spec.read(root)
    generated = is_generated(root)
    return Benchmark(
        name=name,
        label=f"generated videos ({spec.label} format)" if generated else spec.label,
        root=root,
        split=loaded.split,
        questions=evidence_spans.placed(loaded.questions, root),
        bad_rows=loaded.bad_rows,
        generated=generated,
        notes=loaded.notes if generated else (*loaded.notes, *_size_note(loaded, spec)),
    )


def _size_note(loaded: Loaded, spec: BenchmarkSpec) -> tuple[str, ...]:
    """Different sizes of one set are in print, so a table says when it is not the official one."""
    rows, official = len(loaded.questions) + len(loaded.bad_rows), next(iter(spec.question_sets), None)
    return () if official in (None, rows) else (f"{rows} rows; the official set has {official}",)
