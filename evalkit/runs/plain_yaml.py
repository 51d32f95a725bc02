"""YAML files of run folders, which may come from anyone: read within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024  # a config.yaml has a few
VALUES = 100_000  # with every alias written out: ten lines of aliases to aliases stand for billions
DEPTH = 100  # of values in each other: the parser in C calls itself for each, and would crash where there are many

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # by libyaml in a tenth of the time, where PyYAML has it


def read(path: Path) -> Any:
    """The value of a YAML file. DataError for one that is no YAML or beyond the limits, KIB, VALUES and DEPTH."""
    with path.open("rb") as file:
        data = file.read(KIB * 1024 + 1)
    if len(data) > KIB * 1024:
        raise DataError(f"{path}: expected a file of at most {KIB} KiB, came a larger one. Restore it.")
    try:
        return _value(data.decode("utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: expected YAML as written by the run, but {reason}. Restore it.") from error


def _value(text: str) -> Any:
    _check_depth(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > VALUES:
            raise ValueError(f"its aliases stand for more than {VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise ValueError(f"its values are nested more than {DEPTH} deep")


def _size(node: Any, known: dict[int, float]) -> float:
    """Values below a node with every alias written out; without end where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = [child for item in inner for child in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]
