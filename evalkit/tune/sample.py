"""What one forward of tuning reads: videos of one size, and questions about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.types import FramePlan, Frames, Video


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sequence, or several of one shape: B videos, Q questions about each, A suffix tokens, P prefix tokens."""

    prefix_ids: Tensor  # (P,) long: ids before the video
    suffix_ids: Tensor  # (B, Q, A) long: ids after it, padded at the end
    targets: Tensor  # (B, Q, A) long: the token that follows each; -100 where none is learned
    seen: tuple[tuple[Video, FramePlan, Frames], ...]  # B
    target_shares: Tensor | None = None  # (B, T, P, P) of objective=states: tune.builtin.target_shares
    uncompressed: bool = False  # True: no token is dropped


def collate(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Samples come one at a time: several are not padded together, their losses are accumulated."""
    (sample,) = samples
    return {"sample": sample}
