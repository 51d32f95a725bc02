"""What the configurations of families that are written here have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def expect(config: object, allowed: Mapping[str, Sequence[object]]) -> None:
    """ValueError unless each setting of config.json has one of the values of models that are built as ours is."""
    for name, expected in allowed.items():
        if getattr(config, name) not in expected:
            listed = " or ".join(map(str, expected))
            raise ValueError(f"expected {name} {listed} in config.json, got {getattr(config, name)!r}")
