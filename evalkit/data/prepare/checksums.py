"""Checksums of question sets."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks import files

if TYPE_CHECKING:
    from evalkit.types import Benchmark


def sha256(value: Any) -> str:
    """Checksum of plain values."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def ids_sha256(benchmark: Benchmark) -> str:
    """Checksum of the question ids, whatever their order."""
    return sha256(sorted(q.id for q in benchmark.questions))


def rows_sha256(benchmark: Benchmark) -> str:
    """Checksum of what is asked and of the groups, whatever the order of the rows; never of paths."""
    rows = sorted(benchmark.questions, key=lambda q: q.id)
    return sha256([[q.id, q.video_id, q.text, q.options, q.answer, sorted(q.groups.items())] for q in rows])


def stamp(benchmark: Benchmark) -> Any:
    """GENERATED.json of a generated set: seed and version; None for real data or a stamp that cannot be read."""
    try:
        return json.loads((benchmark.root / files.GENERATED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
