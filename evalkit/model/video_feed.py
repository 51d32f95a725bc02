"""A video on its way into one cache: its visual tokens, and the separators between them, chunk by chunk.

Caches whose first chunk is the same, and is cut differently after each layer's attention, read it in one feed.
Shape letters: R rows of ids, N visual tokens, S tokens of a chunk, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from evalkit.chunk_scores import VideoPart
from evalkit.model.hooks import LayerHooks, VideoChunk
from evalkit.model.settling_hooks import SettlingHooks
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from evalkit.method import Budget, Method
    from evalkit.model.hooks import Observer
    from evalkit.model.positions import Positions
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.separators import Separators
    from evalkit.types import VisualTokens


class Loop(Protocol):
    """What a feed needs of a model's prefill loop (PrefillLoop)."""

    model: Any
    text: Any
    positions: Positions

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def separators(self, tokens: VisualTokens) -> Separators | None:
        """What stands between these visual tokens in the language model's sequence."""
        ...

    def embedded(self, ids: Sequence[int]) -> Tensor:
        """What the language model reads for token ids, (n, D)."""
        ...

    def record_video(self, state: PrefillState, tokens: VisualTokens, separators: Separators | None) -> None:
        """Record visual tokens and what stands between them as read."""
        ...

    def run(self, hooks: LayerHooks, embeds: Tensor) -> Tensor:
        """Feed embeds (1, n, D) under these hooks."""
        ...


class VideoFeed:
    """Visual tokens that a method has selected, for `state`, in chunks of `chunk_cells` temporal cells (None: all at
    once).

    `suffix_ids` will follow, for methods whose budget is that of the whole prompt, or which have this text fed behind
    each chunk; `observe` sees each layer's attention.
    """

    def __init__(
        self,
        loop: Loop,
        state: PrefillState,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        suffix_ids: Sequence[int] = (),
        observe: Observer | None = None,
    ) -> None:
        self.loop, self.state, self.tokens, self.method, self.budget = loop, state, tokens, method, budget
        self.suffix_ids, self.observe = suffix_ids, observe
        self.separators = loop.separators(tokens)
        self._between = 0 if self.separators is None else len(self.separators)
        self._before = max(state.lengths)
        self._prompt = self._before + len(tokens) + self._between + len(suffix_ids)
        self._ids = loop.positions.video_ids(state.next_id, tokens, self.separators)  # (R, n), separators included
        self._share = min(1.0, budget.ratio * budget.dense_tokens / len(tokens))
        self._cells = len(tokens.cell_seconds) if tokens.span is None else tokens.span
        self.chunks = list(chunks(tokens, method.chunks(self._cells, budget) or chunk_cells))
        self._shares = method.shares(tokens, [len(index) for index in self.chunks], self._share, self._prompt)
        self._done = 0  # chunks that have been read
        self._reserved = False
        loop.record_video(state, tokens, self.separators)

    def read(self) -> None:
        """Feed all that is left."""
        while self._done < len(self.chunks):
            self.read_next()

    def read_next(self, alike: Sequence[VideoFeed] = ()) -> None:
        """Feed the next chunk, into the caches of `alike`, too, which have read the same and are to read the same.

        What they have in common is computed once, and counts in full for each.
        """
        self._reserve()
        hooks = self._hooks()
        hooks.alike = [other._hooks() for other in alike]
        self.loop.run(hooks, self._embeds(hooks)[None])
        for feed, own in zip((self, *alike), (hooks, *hooks.alike), strict=True):
            if isinstance(own, SettlingHooks):
                own.settle()
            feed._done += 1
        for feed in alike:
            feed.state = feed.state.copied()  # they wait: without the room of what was cut

    def _reserve(self) -> None:
        """Make room for all that is left, once, and no earlier than it is read for this cache alone."""
        if not self._reserved:
            left = self.chunks[self._done :]
            share = self._share if self.method.overrides("evict") else 1.0
            passing = max(map(len, left)) + len(self.suffix_ids)
            self.state.reserve(self._between + int(sum(map(len, left)) * share), passing)
            self._reserved = True

    def _hooks(self) -> LayerHooks:
        """Of the next chunk."""
        index = self.chunks[self._done]
        separators = None if self.separators is None else self.separators.beside(index)
        chunk = VideoChunk(
            tokens=self.tokens.keep(index),
            separators=separators,
            method=self.method,
            budget=self.budget,
            max_keep=_max_keep(index, self._share),
            prompt_tokens=self._prompt,
            cells_left=self._cells - 1 - int(self.tokens.slot[index[-1]]),
        )
        where = index if self.separators is None else self.separators.positions_beside(index)
        ids, loop = self._ids[:, where], self.loop
        if self.method.overrides("settle"):
            return self._settling_hooks(chunk, ids, left=self._ids.shape[1] - 1 - int(where[-1]))
        return LayerHooks(loop.text.layers, loop.positions, self.state, ids, chunk=chunk, observe=self.observe)

    def _settling_hooks(self, chunk: VideoChunk, ids: Tensor, *, left: int) -> SettlingHooks:
        """Of a chunk at ids (R, n), with the text that its method wants behind it; `left` entries come after it."""
        part = VideoPart(
            number=self._done,
            share=self._shares[self._done],
            video_share=self._share,
            before=self._before,
            left=left,
            suffix=len(self.suffix_ids),
            prompt_tokens=self._prompt,
        )
        loop, chunk, guide = self.loop, replace(chunk, part=part), self.method.guide(part)
        if guide is not None and not 0 < guide.tokens <= len(self.suffix_ids):
            guide = None  # there is no text, as where a video is prefilled alone
        if guide is not None:
            self.state.record_guide(guide.tokens)
            text = loop.positions.text_ids(self.state.next_id, len(self.suffix_ids))[:, -guide.tokens :]
            offset = int(text[0, 0] - ids[0, -1]) - 1 if guide.offset is None else guide.offset
            ids, chunk = torch.cat([ids, text - offset], 1), replace(chunk, text=(0, guide.tokens))
        return SettlingHooks(loop.text.layers, loop.positions, self.state, ids, chunk=chunk, guide=guide)

    def _embeds(self, hooks: LayerHooks) -> Tensor:
        """What is fed under these hooks, (n, D)."""
        assert hooks.chunk is not None
        separators, model = hooks.chunk.separators, self.loop.model
        features = to_device(hooks.chunk.tokens.features, self.loop.device, model.dtype)
        video = features if separators is None else separators.interleave(features)
        if not isinstance(hooks, SettlingHooks) or hooks.guide is None:
            return video
        return torch.cat([video, self.loop.embedded(self.suffix_ids[-hooks.guide.tokens :])])


def _max_keep(index: Tensor, share: float) -> int:
    """Tokens that a budget of `share` leaves of the chunk at `index`: what rounding leaves over goes to the next."""
    before, after = (int(share * fed + 1e-9) for fed in (int(index[0]), int(index[-1]) + 1))
    return after - before


def chunks(tokens: VisualTokens, cells: float | tuple[int, ...] | None) -> Iterator[Tensor]:
    """Positions (ascending) of the tokens in each run of `cells` temporal slots, or of so many each; None: of all.

    Reference traces cut inside a cell where their number of cells is odd; then `cells` has a fraction.
    """
    if cells is None:
        yield torch.arange(len(tokens))
        return
    places = tokens.grid[0] * tokens.grid[1]
    if isinstance(cells, tuple):
        group = torch.searchsorted(torch.tensor(cells).cumsum(0), tokens.slot, right=True)
    else:
        group = (tokens.slot * places + tokens.place) // max(1, int(cells * places))
    for value in dict.fromkeys(group.tolist()):
        yield (group == value).nonzero()[:, 0]
