"""The text before one video, which operating points share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.engine.stage_times import Clock
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.video_llm import VideoLLM


@dataclass(frozen=True)
class ReadPrefix:
    """Text before a video, read by one model."""

    state: PrefillState
    seconds: float


class Prefixes:
    """The text before one video, which each model reads once."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, tuple[int, ...]], ReadPrefix] = {}

    def state_after(self, backbone: VideoLLM, ids: Sequence[int], clock: Clock) -> PrefillState:
        """A state of the caller's own; the prefix counts in full on each clock."""
        key = (id(backbone), tuple(ids))
        if key not in self._read:
            start = clock.meter.now()
            state = backbone.new_state()
            backbone.prefill_text(state, ids)
            self._read[key] = ReadPrefix(state, clock.meter.now() - start)
        clock.spent["prefill"] += self._read[key].seconds
        return self._read[key].state.copied()
