"""Which module of evalkit imports which, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def modules(package: str = "evalkit") -> dict[str, Path]:
    """Name -> file of every module of a package of this repository."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


def imported(file: Path, *, top_level: bool = False, by_name: bool = False) -> Iterator[str]:
    """What a file imports, as it is written; inside functions and for type checkers, too, unless `top_level`.

    `by_name`: also what a registry or import_module names in a text, as `evalkit.data.readers.*`.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif by_name and isinstance(node, ast.JoinedStr) and (place := _named(node)):
            yield f"{place}.*"


def _named(node: ast.JoinedStr) -> str:
    """`evalkit.data.readers` of import_module(f"evalkit.data.readers.{name}")."""
    first = node.values[0] if node.values else None
    text = first.value if isinstance(first, ast.Constant) else ""
    return text.removesuffix(".") if isinstance(text, str) and text.startswith("evalkit.") and text[-1] == "." else ""


@cache
def graph(*, by_name: bool = False) -> dict[str, frozenset[str]]:
    """Module of evalkit -> modules of evalkit that it imports, anywhere in its file."""
    return {name: frozenset(_resolved(imported(file, by_name=by_name))) - {name} for name, file in modules().items()}


def _resolved(names: Iterable[str]) -> Iterator[str]:
    known = modules()
    for name in names:
        package, _, last = name.rpartition(".")
        if last == "*":
            yield from (other for other in known if other.rpartition(".")[0] == package)
        elif name in known:
            yield name
        elif package in known:
            yield package


def reached(start: Iterable[str]) -> set[str]:
    """Modules that are reached by imports from those of `start`: packages above them and what is named in registries
    included, but not the package evalkit itself, whose names are loaded on demand.
    """
    todo, found, imports = list(start), set[str](), graph(by_name=True)
    while todo:
        name = todo.pop()
        if name not in found and name != "evalkit":
            found.add(name)
            todo += [name.rpartition(".")[0], *imports[name]]
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
