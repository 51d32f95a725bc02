"""Which module of evalkit imports which, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"evalkit(\.\w+)+:\w+")


@cache
def modules(package: str = "evalkit") -> dict[str, Path]:
    """Name -> file of every module of a package of this repository."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


@cache
def imported(file: Path, *, top_level: bool = False) -> tuple[str, ...]:
    """What a file imports, as it is written; inside functions and for type checkers, too, unless `top_level`."""
    return tuple(_imported(ast.parse(file.read_text(encoding="utf-8")), top_level))


def _imported(tree: ast.Module, top_level: bool) -> Iterator[str]:
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(file: Path) -> Iterator[str]:
    """Modules that a registry of evalkit.plugins loads when they are chosen: "evalkit.data.readers.pyav:read"."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ENTRY.fullmatch(node.value):
            yield node.value.partition(":")[0]


@cache
def graph() -> dict[str, frozenset[str]]:
    """Module of evalkit -> modules of evalkit that it imports, anywhere in its file."""
    return {name: frozenset(_resolved(imported(file))) - {name} for name, file in modules().items()}


def _resolved(names: Iterable[str]) -> Iterator[str]:
    known = modules()
    for name in names:
        package = name.rpartition(".")[0]
        if name in known:
            yield name
        elif package in known:
            yield package


def reached(start: Iterable[str]) -> set[str]:
    """Modules that run when those of `start` are imported, or that they choose by name.

    Packages above them are included; not the package evalkit itself, whose names are loaded on demand.
    """
    todo, found = list(start), set[str]()
    while todo:
        name = todo.pop()
        if name not in found and name != "evalkit":
            found.add(name)
            todo += [name.rpartition(".")[0], *graph()[name], *named(modules()[name])]
    return found


def is_empty(name: str) -> bool:
    """Whether a module is a docstring and nothing else."""
    return len(ast.parse(modules()[name].read_text(encoding="utf-8")).body) <= 1


def circles(imports: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Modules that import each other by any way round."""
    behind = {name: _behind(name, imports) for name in imports}
    return sorted({tuple(sorted(m for m in behind[n] if n in behind[m])) for n in imports if n in behind[n]})


def _behind(start: str, imports: Mapping[str, Iterable[str]]) -> set[str]:
    todo, found = list(imports[start]), set[str]()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += imports[name]
    return found
