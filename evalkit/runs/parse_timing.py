"""The lines of timing.jsonl, checked: an operating point measured alone and warm, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.ledger import Timing
from evalkit.runs.fields import need, need_number, optional, optional_number
from evalkit.runs.parse_ledger import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(rows: Iterable[tuple[str, dict[str, Any]]]) -> tuple[Timing, ...]:
    """The measurements of one run from the lines of its timing.jsonl, each with its place in the file.

    Those that belong to the last line's: under the same conditions, and of as many videos. The last one of a question
    counts; failed ones are left out. Raises DataError for a malformed line.
    """
    found = [_timing(row, where) for where, row in rows]
    own = [t for t in found if (t.videos, t.conditions) == (found[-1].videos, found[-1].conditions)]
    last = {timing.question_id: timing for timing in own}
    return tuple(last[name] for name in sorted(last) if last[name].status == "ok")


def _timing(row: dict[str, Any], where: str) -> Timing:
    status = need(row, "status", str, where)
    stages = optional(row, "seconds", dict, where)
    if status not in ("ok", "failed") or (status == "ok") != (stages is not None):
        raise DataError(f"{where}: expected status ok with seconds, or failed with null; came {status = }. Remove it.")
    return Timing(
        status=status,
        ratio=float(need_number(row, "ratio", where)),
        error=optional(row, "error", str, where),
        duration_s=optional_number(row, "duration_s", where),
        seconds=None if stages is None else seconds(stages, f"{where}: seconds"),
        peak_bytes=optional_number(row, "peak_bytes", where, (int,)),
        own_seconds=optional_number(row, "own_seconds", where),
        videos=need_number(row, "videos", where, (int,)),
        conditions=need(row, "conditions", dict, where),
        **{key: need(row, key, str, where) for key in ("benchmark", "video_id", "question_id", "method")},
    )
