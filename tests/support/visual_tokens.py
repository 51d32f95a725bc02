"""Random frames, and the visual tokens that a backbone makes of them."""

from __future__ import annotations

import numpy as np

from evalkit.testing.method_contract import visual

__all__ = ["noise", "visual"]


def noise(frames: int, height: int = 112, width: int = 112, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8 from a seed."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
