"""Writing a file whole: a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It takes the place of `path` at the end of the block; an error removes it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield fresh
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def replace(path: Path, content: str | bytes) -> Path:
    """Write a file whole, UTF-8 with plain line ends."""
    with replacing(path) as fresh:
        fresh.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path
