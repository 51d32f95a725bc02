"""A vision encoder with room for slices of four cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.model.vision_tower import VisionTower

if TYPE_CHECKING:
    import numpy as np
    import pytest
    import torch


def scarce(monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]) -> list[int]:
    """From now on larger slices raise `error`; the cells of every slice that is tried, as it is tried."""
    tried: list[int] = []
    encode = VisionTower._encode_slice

    def small(self: VisionTower, pixels: np.ndarray) -> torch.Tensor:
        tried.append(len(pixels) // 2)
        if len(pixels) > 8:
            raise error
        return encode(self, pixels)

    monkeypatch.setattr(VisionTower, "_encode_slice", small)
    return tried
