"""Checksums of question sets, and those of the sets in print."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks import files

if TYPE_CHECKING:
    from evalkit.types import Benchmark


@dataclass(frozen=True, kw_only=True)
class Known:
    """The rows of a set in print. Another layout of it has other ids: `content` binds only where `ids` agree."""

    ids: str  # `ids_sha256`
    content: str  # `rows_sha256`


KNOWN: dict[str, tuple[Known, ...]] = {
    "videomme": (),  # its rows may not be passed on, so nobody has had them at hand here
    "mlvu": (
        Known(  # source: the official JSON files, JUNJIE99/MLVU at fd060c10
            ids="c55efb38f066a0ed6e4e41591c03346ea868089dae4b5b56ee4dd690808a603c",
            content="e08fc6b28dd817fd093a269a90283fa22ca25c190ca646eb50502e1f2c0851c7",
        ),
    ),
    "lvbench": (
        Known(  # source: lvbench_clean.json of VideoChat-Flash at 2f8e2f57
            ids="e79702d8d21996ec7102cfebbc908de47724c02df12998ca84edeeea568d1400",
            content="14a9af17b3c9265d8c3d1f588a1802bb1fcee3fd141825380167d7a8483aff97",
        ),
    ),
}


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
    """What a generated set says of its making; None for real data or a stamp that cannot be read."""
    try:
        return json.loads((benchmark.root / files.GENERATED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
