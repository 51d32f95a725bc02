"""Visual tokens of one set of frames, encoded slice by slice as the frames come."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from evalkit.encoder_view import EncoderView
from evalkit.engine.encoded_clips import EncodedClips
from evalkit.model.encoder_reader import untimed

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.model.encoder_reader import Timed
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import FramePlan

log = logging.getLogger(__name__)


@dataclass
class SliceSize:
    """Cells of a slice of the vision encoder; where memory has run out, smaller ones for the rest of the run."""

    cells: int


class SliceEncoder:
    """Takes a plan's frames in their order; holds those of one slice and the features of the slices before.

    The encoder treats cells one by one, so that slices change nothing. A plan that repeats or reorders frames is held
    whole, as a cell may need any of them.
    """

    def __init__(
        self,
        backbone: VideoLLM,
        plan: FramePlan,
        size: SliceSize,
        needs: frozenset[Need] = frozenset(),
        timed: Timed = untimed,
        clips: EncodedClips | None = None,
    ) -> None:
        """`size` of a slice; what methods need of the encoder is read beside the features. `clips`: those that have
        been encoded for other plans.
        """
        self._backbone, self._plan, self._size, self._needs = backbone, plan, size, needs
        self._clips = EncodedClips() if clips is None else clips
        read, grid = needs - {"pixels"}, backbone.token_grid(plan.height, plan.width)
        self._reader = backbone.reader(read, grid, timed) if read else None
        self.slots = list(plan.slots)
        # the last clip is filled up; Qwen's processor fills up the last cell in this way, too
        self.slots += self.slots[-1:] * (-len(self.slots) % backbone.clip_frames)
        self.seconds: list[float] = []  # of the frames that have come
        self.reused = 0  # clips that had been encoded for another plan
        count = max(1, size.cells * backbone.cell_frames // backbone.clip_frames)
        self._slice = min(count * backbone.clip_frames, len(self.slots))  # frames
        self._whole = plan.order is not None or "pixels" in needs  # all frames are held to the end
        held = len(plan.indices) if self._whole else self._slice
        self._pixels = np.empty((held, plan.height, plan.width, 3), np.uint8)
        self._done = 0  # slots
        self._features: Tensor | None = None
        self._deepstack: Tensor | None = None

    def hold(self, pixels: np.ndarray, seconds: float) -> None:
        """The next frame (height, width, 3) uint8, and when it is shown. A `full` slice must be encoded before."""
        self._pixels[len(self.seconds) - self._first] = pixels
        self.seconds.append(seconds)

    @property
    def full(self) -> bool:
        """Whether the frames that have come make up the next slice; one that is all of them waits for other plans'."""
        # asked after every frame: what is mostly false comes first
        return len(self.seconds) == self._done + self._slice < len(self.slots) and not self._whole

    @property
    def _first(self) -> int:
        """The frame that is held first."""
        return 0 if self._whole else self._done

    def encode_next(self) -> None:
        """Encode the next slice."""
        if self.full:
            self._encode(self._pixels)
        else:
            slots = self.slots[self._done : self._done + self._slice]
            self._encode(self._pixels[[slot - self._first for slot in slots]])

    def features(self) -> tuple[Tensor, Tensor | None]:
        """Features (T·P, D) and deepstack features of all cells, once every frame has come."""
        while self._done < len(self.slots):
            self.encode_next()
        if not self._needs:
            del self._pixels
        assert self._features is not None
        return self._features, self._deepstack

    def view(self, features: Tensor) -> EncoderView | None:
        """What methods need of the encoder, once there are `features`; None where nothing is needed."""
        if not self._needs:
            return None
        cells = len(self.slots) // self._backbone.cell_frames
        view = EncoderView() if self._reader is None else self._reader.view(features, cells)
        if "pixels" in self._needs:
            view = replace(view, pixels=torch.from_numpy(self._pixels[self.slots]))
        return view

    def _encode(self, pixels: np.ndarray) -> None:
        keys = self._keys(len(pixels))
        missing = len(self._clips.missing(keys))
        if self._reader is None:
            features, deepstack = self._clips.encode(keys, pixels, self._in_memory)
        else:  # it reads while each of them is encoded
            missing, (features, deepstack) = len(keys), self._in_memory(pixels)
        self._clips.encoded += missing
        self.reused += len(keys) - missing
        self._features, features = self._placed(self._features, features, len(pixels))
        if deepstack is not None:
            self._deepstack, deepstack = self._placed(self._deepstack, deepstack, len(pixels))
        self._clips.add(keys, (features, deepstack))
        self._done += len(pixels)

    def _keys(self, frames: int) -> list[tuple[int, ...]]:
        """The next `frames` slots' frame numbers, clip by clip."""
        size, indices = self._backbone.clip_frames, self._plan.indices
        numbers = [indices[slot] for slot in self.slots[self._done : self._done + frames]]
        return [tuple(numbers[i : i + size]) for i in range(0, frames, size)]

    def _placed(self, whole: Tensor | None, part: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """The features of all slots with those of the `frames` slots after the ones that are done, and these alone."""
        if frames == len(self.slots):
            return part, part
        if whole is None:
            whole = part.new_empty(len(self.slots) * len(part) // frames, *part.shape[1:])
        start = self._done * len(part) // frames
        placed = whole[start : start + len(part)]
        placed[:] = part
        return whole, placed

    def _in_memory(self, pixels: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Encode, in smaller slices where memory runs out."""
        while True:
            try:
                with nullcontext() if self._reader is None else self._reader.attached():
                    return self._backbone.encode_with_deepstack(pixels, slice_cells=self._size.cells)
            except (RuntimeError, MemoryError) as error:
                if self._size.cells == 1 or not out_of_memory(error):
                    raise
                self._size.cells //= 2
                log.warning("out of memory in the vision encoder: from here on slices of %d cells", self._size.cells)


def out_of_memory(error: Exception) -> bool:
    """CUDA has an exception of its own for it; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)
