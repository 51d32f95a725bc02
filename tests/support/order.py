"""In which order files of tests are begun: what takes longest first, so that all processes end about together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# seconds each on one core, falling; files that are not here take less
LONGEST = ("tests/test_regression.py",)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort collected tests; those of one file stay in their order, and so do the other files."""
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.location[0], len(places)))
