"""Questions that could not be answered, as rows of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from evalkit.engine import records
from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from evalkit.engine.encoded_video import PlannedVideo
    from evalkit.method import OperatingPoint
    from evalkit.types import Answer, Question

log = logging.getLogger(__name__)


def joined(planned: Iterable[PlannedVideo]) -> dict[OperatingPoint, list[Question]]:
    """The questions of each operating point."""
    found: dict[OperatingPoint, list[Question]] = {}
    for one in planned:
        found.setdefault(one.point, []).extend(one.questions)
    return found


def lost(
    pending: Mapping[OperatingPoint, Sequence[Question]], error: Exception
) -> Iterator[tuple[OperatingPoint, Answer]]:
    """Every pending question as a failed row; the log gets one line for all. Wrong settings are raised: they concern
    the whole run.
    """
    if isinstance(error, ConfigError):
        raise error
    message = f"{type(error).__name__}: {error}"
    rows = [(point, records.failed(point, q, message)) for point, questions in pending.items() for q in questions]
    (point, first), count = rows[0], len(rows)
    log.warning("%s, video %s, %s: %d not answered: %s", first.benchmark, first.video_id, point.name, count, error)
    log.debug("where it failed", exc_info=error)
    yield from rows
