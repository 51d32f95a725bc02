"""Qwen3-VL (arXiv 2511.21631), dense: deepstack features, and M-RoPE with the time of each cell as text before it.

What transformers calls interleaved M-RoPE – which frequency belongs to which row of ids – is the checkpoint's own
rotary module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.normalization import SIGLIP_MEAN, SIGLIP_STD
from evalkit.model.positions import Positions, TimestampMRopePositions
from evalkit.model.separators import Separators
from evalkit.model.vision_tower import DeepstackVisionTower
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from evalkit.types import VisualTokens


class Qwen3VL(Qwen2VL):
    """A dense Qwen3-VL checkpoint behind the engine's few calls."""

    positions_type: ClassVar[type[Positions]] = TimestampMRopePositions
    tower_type = DeepstackVisionTower
    vision: DeepstackVisionTower
    released_backbone = "qwen3_vl_8b"
    mean: ClassVar[Sequence[float]] = SIGLIP_MEAN
    std: ClassVar[Sequence[float]] = SIGLIP_STD

    @property
    def projectors(self) -> tuple[torch.nn.Module, ...]:
        """The merger, and those of the deepstack features."""
        return (*super().projectors, *self.model.model.visual.deepstack_merger_list)

    def prompt(
        self, text: str, *, video: bool, system: str | None = None, prefill: str = ""
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the video: without the template's vision tokens, which each cell has of its own.

        Source: Qwen's processor, in transformers before 5.10; since then a second pair is left around the whole video.
        """
        return super().prompt(text, video=False, system=system, prefill=prefill)

    def separators(self, tokens: VisualTokens) -> Separators:
        """The time of each slot in words and a vision start before its tokens, a vision end behind them; all of it
        stays, whatever is dropped.
        """
        first = torch.cat([torch.tensor([True]), tokens.slot[1:] != tokens.slot[:-1]]).nonzero()[:, 0]
        last = torch.cat([first[1:], torch.tensor([len(tokens)])]) - 1
        ids: list[int] = []
        anchor: list[int] = []
        behind: list[bool] = []
        for begin, end, seconds in zip(
            first.tolist(), last.tolist(), tokens.shown_seconds[tokens.slot[first]].tolist(), strict=True
        ):
            before = [*self._time_ids(seconds), self.model.config.vision_start_token_id]
            ids += [*before, self.model.config.vision_end_token_id]
            anchor += [begin] * len(before) + [end]
            behind += [False] * len(before) + [True]
        token_ids = torch.tensor(ids)
        return Separators(
            embeds=self.text.embed_tokens(to_device(token_ids, self.device)),
            anchor=torch.tensor(anchor),
            behind=torch.tensor(behind),
            with_row=torch.zeros(len(ids), dtype=torch.bool),
            ids=token_ids,
        )

    def _time_ids(self, seconds: float) -> list[int]:
        """A time as the processor writes it; none where the checkpoint has no tokenizer."""
        if self.tokenizer is None:
            return []
        return list(self.tokenizer(f"<{seconds:.1f} seconds>", add_special_tokens=False)["input_ids"])

    def encode_with_deepstack(self, pixels: np.ndarray, *, slice_cells: int) -> tuple[Tensor, Tensor]:
        """Features (T·P, D) and deepstack features (T·P, L, D)."""
        return self.vision.encode_with_deepstack(pixels, slice_cells=slice_cells)
