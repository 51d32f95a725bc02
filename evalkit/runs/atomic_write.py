"""Writing what came out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, content: str | bytes) -> Path:
    """Write a file whole, UTF-8 with plain line ends: a reader sees the old one or the new one, never half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return fresh.replace(path)
