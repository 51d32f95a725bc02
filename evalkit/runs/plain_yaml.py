"""YAML files of run folders, which may come from anyone: read within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024  # a config.yaml has a few
VALUES = 100_000  # with every alias written out: ten lines of aliases to aliases stand for billions


def read(path: Path) -> Any:
    """The value of a YAML file. DataError for one that is no YAML or beyond the limits, KIB and VALUES."""
    with path.open("rb") as file:
        data = file.read(KIB * 1024 + 1)
    if len(data) > KIB * 1024:
        raise DataError(f"{path}: expected a file of at most {KIB} KiB, came a larger one. Restore it.")
    try:
        return _value(data.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise DataError(f"{path}: expected YAML as written by the run, but {reason}. Restore it.") from error


def _value(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > VALUES:
            raise ValueError(f"its aliases stand for more than {VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: Any, known: dict[int, float]) -> float:
    """Values below a node with every alias written out; without end where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = [child for item in inner for child in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]
