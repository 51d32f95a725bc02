"""Hooks for a video chunk whose eviction is settled when all layers have run, and for the text that is fed behind it.

After a layer's attention that text, the guide, leaves the layer's cache again, and the chunk's keys take their new ids;
after the last layer the method says what of the chunk stays in each layer.
Shape letters: R rows of ids, S visual tokens of the chunk, Q tokens of the guide, n entries of the feed, L layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from evalkit.chunk_scores import Scored
from evalkit.errors import MethodError
from evalkit.model.hooks import LayerHooks
from evalkit.model.live_tokens import check_index
from evalkit.to_device import to_device
from evalkit.types import Evicted

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.chunk_scores import Guide
    from evalkit.model.hooks import VideoChunk
    from evalkit.model.live_tokens import LiveTokens
    from evalkit.types import LayerChunk


class SettlingHooks(LayerHooks):
    """One feed of a `chunk` whose `text` is that of the `guide` behind it."""

    def __init__(self, *args: Any, guide: Guide | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guide = guide
        self._scores: dict[int, Tensor] = {}

    def _ids_at(self, i: int) -> Tensor:
        """As elsewhere, and the guide goes on after the chunk in time: text has the same id in all rows."""
        ids = super()._ids_at(i)
        if self.guide is None or self.live is None or ids is self.live.ids:
            return ids
        ids = ids.clone()
        ids[1:, -self.guide.tokens :] = ids[0, -self.guide.tokens :]
        return ids

    def _layer_chunk(self, i: int, chunk: VideoChunk, live: LiveTokens, queries: Tensor, keys: Tensor) -> LayerChunk:
        behind = self._own(live)
        return replace(
            super()._layer_chunk(i, chunk, live, queries, keys),
            part=chunk.part,
            guide=queries[:, behind:],
            guide_positions=self.state.positions[i][:, -len(live) :][:, behind:],
        )

    def _own(self, live: LiveTokens) -> int:
        """Entries of the chunk, separators included: what stands before the guide."""
        return len(live) - (0 if self.guide is None else self.guide.tokens)

    def _evict(self, i: int, chunk: VideoChunk, live: LiveTokens, queries: Tensor, keys: Tensor) -> None:
        found = chunk.method.evict(self._layer_chunk(i, chunk, live, queries, keys))
        if found is None and (self.guide is None or self.guide.stays):
            return
        index = torch.arange(self._own(live))
        if found is None:
            self._cut(i, live, keys, Evicted(index=index))
            return
        name = f"{type(chunk.method).__name__}.evict()"
        if not isinstance(found, Scored) or found.scores.shape != (len(live.tokens),):
            raise MethodError(f"{name} must return a Scored of {len(live.tokens)} scores, as it has settle()")
        self._scores[i] = found.scores
        evicted = Evicted(index=index, positions=found.positions, flops=found.flops)
        self._cut(i, live, keys, evicted, closes_gap=found.closes_gap)

    def settle(self) -> None:
        """After the last layer: cut each layer's cache to what the method leaves of the chunk."""
        chunk, live = self.chunk, self.live
        if not self._scores or chunk is None or live is None or chunk.part is None:
            return
        name, layers = type(chunk.method).__name__, len(self.layers)
        if len(self._scores) != layers:
            raise MethodError(f"{name}.evict() must return scores for all {layers} layers, or for none")
        scores = torch.stack([self._scores[i] for i in range(layers)]).cpu()
        settled = chunk.method.settle(scores, chunk.part)
        if len(settled) != layers:
            raise MethodError(f"{name}.settle() must return an index for each of {layers} layers, got {len(settled)}")
        own = self._own(live)
        for i, chosen in enumerate(settled):
            index = live.entries(check_index(chosen.cpu(), len(live.tokens), f"{name}.settle"))
            index = index[index < own]  # the guide has left
            evicted = Evicted(index=index)
            self.state.cut(i, own, to_device(index, self.state.layers[i].keys.device), None)
            self.state.record_eviction(i, evicted, live.cells[:own], align_text=self.positions.aligns(evicted))
