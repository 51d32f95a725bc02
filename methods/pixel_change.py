"""How much a visual token's place changed since the cell before, by its pixels.

Shape letters: T temporal cells, P places per cell, S frames of a cell, F = T·S frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from evalkit.encoder_view import needed
from evalkit.method import Budget, Method
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from evalkit.encoder_view import Need


@dataclass(frozen=True, kw_only=True)
class ByChange(Method):
    """A method that compares features, or the pixels of frames."""

    change: Literal["features", "pixels"] = "features"

    @property
    def needs(self) -> frozenset[Need]:
        """The frames, for the pixel form."""
        return frozenset({"pixels"}) if self.change == "pixels" else frozenset()


def by_slot(tokens: VisualTokens, budget: Budget, method: Method) -> Tensor:
    """Sum of absolute differences between each frame of a cell and the frame at its slot of the cell before.

    (T − 1, P) float32, of pixels from 0 to 255, over rows, columns, channels and frames of a place.
    """
    frames_TS = _frames(tokens, budget, method)
    steps = (frames_TS[1:].float() - frames_TS[:-1].float()).abs()
    return _placed(steps, tokens.grid).sum((2, 3))


def last_to_first(tokens: VisualTokens, budget: Budget, method: Method) -> Tensor:
    """Mean absolute difference between the last frame of a cell and the first one of the cell before.

    (T − 1, P) float32, of pixels from 0 to 1.
    """
    frames_TS = _frames(tokens, budget, method)
    steps = (frames_TS[1:, -1:].float() / 255 - frames_TS[:-1, :1].float() / 255).abs()
    return _placed(steps, tokens.grid).mean((2, 3))


def _frames(tokens: VisualTokens, budget: Budget, method: Method) -> Tensor:
    """(T, S, height, width, 3) uint8."""
    frames = needed(tokens.encoder, "pixels", method)
    return frames.reshape(-1, budget.cell_frames, *frames.shape[1:])


def _placed(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(T, S, height, width, 3) -> (T, P, S, values of a place)."""
    cells, frames, height, width, channels = x.shape
    rows, columns = grid
    blocks = x.reshape(cells, frames, rows, height // rows, columns, width // columns, channels)
    return blocks.permute(0, 2, 4, 1, 3, 5, 6).reshape(cells, rows * columns, frames, -1)
