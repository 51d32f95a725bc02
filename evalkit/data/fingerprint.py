"""Is a video's file the one that was there before? Its size and samples of its bytes tell, without reading it whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENDS = 2**16  # bytes at the beginning and at the end, where containers have their headers and indices
SAMPLE, SAMPLES = 2**12, 14  # between them, evenly spread


def fingerprint(path: Path) -> str:
    """Size in bytes and a hash (16 hexadecimal digits) of a file. Raises OSError."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        digest.update(stream.read(ENDS))
        for number in range(1, SAMPLES + 1):
            stream.seek(number * size // (SAMPLES + 1))
            digest.update(stream.read(SAMPLE))
        stream.seek(max(0, size - ENDS))
        digest.update(stream.read(ENDS))
    return f"{size}-{digest.hexdigest()[:16]}"


def described(fingerprint: str, frames: int) -> str:
    """As an answer records it: with the number of frames."""
    return f"{fingerprint}-{frames}"


def unchanged(described: str, fingerprint: str) -> bool:
    """Whether a file with this fingerprint is the one that an answer describes."""
    return described.rpartition("-")[0] == fingerprint
