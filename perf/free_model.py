"""A run of evalkit whose frames, features and layers cost nothing: what is left is the harness."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from evalkit.data.decoding.source import FrameSource, FrameStream
from evalkit.data.video import SizedFrame, wanted_sizes
from evalkit.engine.answer import Engine
from evalkit.engine.setup import EngineSetup
from evalkit.engine.stage_times import Meter
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import FramePlan, Video

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.data.decoding.source import Now
    from evalkit.model.hooks import LayerHooks


class NoVideo(FrameSource):
    """Black frames at once."""

    def probed(self, path: Path) -> Video:
        """Five minutes at 2 frames a second."""
        return Video(path=path, duration_s=300.0, fps=2.0, frames=600, height=128, width=128)

    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        """Of every plan."""
        return Black(video, plans, now)


class Black(FrameStream):
    """One array for all frames of a size; making them is the decoding, here as elsewhere."""

    def __init__(self, video: Video, plans: Sequence[FramePlan], now: Now) -> None:
        start, sizes = now(), wanted_sizes(plans)
        black = {size: np.zeros((*size[:2], 3), np.uint8) for size in frozenset().union(*sizes.values())}
        self._left = iter(
            [
                SizedFrame(index, index, video.shown_at(index), {size: black[size] for size in found})
                for index, found in sorted(sizes.items())
            ]
        )
        self.seconds = now() - start

    def __next__(self) -> SizedFrame:
        return next(self._left)


class Free(Qwen2VL):
    """A model that computes nothing: features are zeros, and a reply is the letter A."""

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """Zeros of the right shape."""
        rows, columns = self.token_grid(*pixels.shape[1:3])
        return torch.zeros(len(pixels) // self.cell_frames * rows * columns, self.text.config.hidden_size)

    @cached_property
    def reads_together(self) -> bool:
        """Questions are fed one by one, as where they cannot be fed together."""
        return False

    def run(self, hooks: LayerHooks, embeds: Tensor) -> Tensor:
        """Entries are counted, and that is all."""
        for layer in range(self.layers):
            hooks.state.append(layer, hooks.ids, cells=None if hooks.live is None else hooks.live.cells)
        return torch.tensor([float(hooks.decoding)])

    @cached_property
    def _said(self) -> Tensor:
        """Logits (2, V) of the first token and of the next."""
        logits = torch.zeros(2, self.text.config.vocab_size)
        logits[0, self.letter_ids[0][0]] = logits[1, self.tokenizer.eos_token_id] = 1.0
        return logits

    def logits(self, hidden: Tensor) -> Tensor:
        """The letter, then the end."""
        return self._said[int(hidden)]


class CpuMeter(Meter):
    """Counts the process's CPU seconds in place of wall seconds."""

    def now(self) -> float:
        """CPU seconds so far."""
        return time.process_time()


class FreeSetup(EngineSetup):
    """An engine on that model."""

    @cached_property
    def source(self) -> FrameSource:
        """Of black frames."""
        return NoVideo()

    @cached_property
    def engine(self) -> Engine:
        """As that of a run."""
        found = self.backbone.model
        encoder = self.frame_encoder(Free(found.model, found.tokenizer))
        return Engine(
            frame_encoders=lambda adapters: dict.fromkeys(adapters, encoder),
            protocol=self.protocol,
            chunk_cells=self.backbone.chunk_cells,
            gauge=CpuMeter(self.backbone.torch_device),
            source=self.source,
        )
