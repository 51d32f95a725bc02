"""What a cache keeps of each temporal cell of its video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.types import KeptOverTime

if TYPE_CHECKING:
    from evalkit.model.prefill_state import PrefillState
    from evalkit.types import FramePlan, Video, VisualTokens


def kept(
    state: PrefillState,
    video: Video,
    plan: FramePlan,
    tokens: VisualTokens,
    selected: VisualTokens | None,
    cell_frames: int,
) -> KeptOverTime:
    """What is left of each cell of the encoded `tokens` in the cache; text that follows changes nothing of it."""
    entries, shown = state.visual_per_cell.tolist(), tokens.cell_seconds.tolist()
    cells = [cell for cell, count in enumerate(entries) if count > 1e-9]
    slots, layers = plan.slots, len(state.layers)
    # the last cell may have fewer frames of its own: its last one is repeated
    ends = [plan.indices[slots[min((cell + 1) * cell_frames, len(slots)) - 1]] for cell in cells]
    return KeptOverTime(
        seconds=tuple([round(shown[cell], 3) for cell in cells]),
        tokens=tuple([round(entries[cell] / layers, 2) for cell in cells]),
        cells=tuple(cells),
        last_seconds=tuple([round(video.shown_at(frame), 3) for frame in ends]),
        merged=_merged_into(selected, cells),
    )


def _merged_into(selected: VisualTokens | None, cells: list[int]) -> tuple[int, ...] | None:
    """How many encoded tokens the tokens of each of `cells` stand for; None where nothing was merged."""
    if selected is None or selected.merged is None:
        return None
    counts = selected.cell.bincount(selected.merged.counts(len(selected)).double(), minlength=max(cells, default=0) + 1)
    return tuple(int(counts[cell]) for cell in cells)
