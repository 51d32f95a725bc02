"""Apply a method's verbs to the decoder layers during one feed, and take the hooks off again.

One `LayerHooks` lives for one call of the language model. Before each layer it adds the visual tokens' deepstack
features of the layer below (where a family has them), narrows the hidden states (`prune`) and hands the layer the
rotary embedding of the ids that hold there; after each layer's attention it cuts the cache (`evict`). What is in the
cache, and at which ids, is counted by the prefill state alone.
Shape letters: R rows of ids, n tokens of the feed, S of them that a layer sees, K kept, H query heads, G key heads, d
head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.model.flops import OpCounts
from evalkit.model.live_tokens import LiveTokens, check_index
from evalkit.model.prune_view import NO_VIEW, LayerView, NoView, by_head, last_before_rotation
from evalkit.to_device import to_device
from evalkit.types import CachedVideo, Evicted, LayerChunk, VisualTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from evalkit.chunk_scores import VideoPart
    from evalkit.model.positions import Positions
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.separators import Separators

    # layer, queries (H, S, d) and keys (G, S, d) before rotation, the visual tokens they belong to (None: text);
    # of a video chunk the visual tokens' alone, without the separators that are fed with them
    Observer = Callable[[int, Tensor, Tensor, VisualTokens | None], None]


class StopForward(Exception):  # noqa: N818 – no error: how a feed ends early
    """What comes after it is not computed: an observer has seen its last layer, or all of a chunk was dropped."""


@dataclass(frozen=True, kw_only=True)
class VideoChunk:
    """Visual tokens that are fed at once, what stands between them, and the method that may drop some of them."""

    tokens: VisualTokens
    separators: Separators | None = None
    method: Method
    budget: Budget
    max_keep: int  # tokens of the chunk that the budget leaves
    prompt_tokens: int  # of the whole prompt
    text: tuple[int, int] = (0, 0)  # tokens of the prompt that are fed with it, before and after
    cells_left: int = 0  # temporal cells of the video that come after it
    part: VideoPart | None = None  # for a method that has `settle`


class LayerHooks:
    """One feed of text (`chunk` None) or of one video chunk, whose tokens have `ids` (R, n) in the uncompressed
    layout. `observe` sees each layer's attention. `alike`: hooks of other caches for the same chunk, which is cut there
    as their own methods or budgets say; they are not attached.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        positions: Positions,
        state: PrefillState,
        ids: Tensor,
        *,
        chunk: VideoChunk | None = None,
        decoding: bool = False,
        observe: Observer | None = None,
    ) -> None:
        self.layers, self.positions, self.state, self.ids = layers, positions, state, ids
        self.chunk, self.decoding, self.observe = chunk, decoding, observe
        self.live = None if chunk is None else LiveTokens.of(chunk.tokens, chunk.separators, ids, chunk.text)
        self.alike: Sequence[LayerHooks] = ()
        self._projected: dict[str, Tensor] = {}
        self._known: dict[str, Tensor] = {}  # of the layer at hand: what its methods need only compute once
        # layer, what stays, cells (S,) of what it stays of, and whether ids go on without a gap
        self._unrecorded: list[tuple[int, Evicted, Tensor, bool]] = []
        self._rotary: tuple[Tensor, tuple[Tensor, Tensor]] | None = None  # cos and sin of the ids asked for last

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on inside the block and off after it, whatever happens."""
        handles: list[Any] = []
        try:
            for i, layer in enumerate(self.layers):
                handles += self._hooked(i, layer)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooked(self, i: int, layer: Any) -> list[Any]:
        """The hooks on layer i."""
        handles = [layer.register_forward_pre_hook(self._before(i), with_kwargs=True)]
        if self.observe is not None or (self.chunk is not None and self.chunk.method.overrides("evict")):
            handles += self._watch(i, layer.self_attn)
        return handles

    # ---- before a layer

    def _before(self, i: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden = self._pruned(i, self._deepened(i, args[0]))[0]
            if hidden.shape[1] == 0:  # nothing of the chunk is left
                raise StopForward
            ids = self._ids_at(i)
            if ids is not self.ids:
                kwargs = {**kwargs, "position_embeddings": self._rotary_at(hidden, ids)}
            self._record(i, ids)
            return (hidden, *args[1:]), kwargs

        return hook

    def _record(self, i: int, ids: Tensor) -> None:
        """Layer i is about to add entries at ids (R, S) to its cache."""
        if self.live is None:
            self.state.append(i, ids)
        else:
            self.state.append(i, ids, cells=self.live.cells, renumbered=self.live.renumbered)
        for other in self.alike:
            other._record(i, other._ids_at(i))

    def _rotary_at(self, hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for ids (R, S), which are often those of the layer below."""
        if self._rotary is None or not torch.equal(self._rotary[0], ids):
            self._rotary = ids, self.positions.rotary(hidden, ids)
        return self._rotary[1]

    def _deepened(self, i: int, hidden: Tensor) -> Tensor:
        """The output of layer i - 1 with that level of the visual tokens' deepstack features added."""
        levels = None if self.live is None else self.live.tokens.deepstack
        if self.live is None or levels is None or not 1 <= i <= levels.shape[1]:
            return hidden
        return self.live.with_visual(hidden, levels[:, i - 1])

    def _pruned(self, i: int, hidden: Tensor, *, between: bool = False) -> tuple[Tensor, Tensor | None]:
        """Hidden states (1, n, D) without those of the tokens that are dropped here, and which stay; None: all."""
        if self.chunk is None or self.live is None or not self.chunk.method.overrides("prune"):
            return hidden, None
        view = self._view(i, hidden, self.live, between=between)
        pruned = self.live.prune(self.chunk.method, i, len(self.layers), self.chunk.budget, self.positions, view)
        self.state.count(OpCounts(extra=view.flops))
        if pruned is None:
            return hidden, None
        self.state.count(OpCounts(extra=pruned.flops))
        left = hidden[:, to_device(pruned.index, hidden.device)]
        return left if pruned.states is None else self.live.replaced(left, pruned.states), pruned.index

    def _view(self, i: int, hidden: Tensor, live: LiveTokens, *, between: bool) -> LayerView | NoView:
        """What `prune` may look at."""
        return NO_VIEW

    def _ids_at(self, i: int) -> Tensor:
        """Ids (R, S) that hold at layer i; `self.ids` itself where they are as in the uncompressed layout."""
        if self.live is None:
            return self.state.ids_after_reindexing(i, self.ids, text=True, decoding=self.decoding)
        if self.live.renumbered:
            return self.positions.text_ids(self.state.next_free_id(i), len(self.live))
        return self.state.ids_after_reindexing(i, self.live.ids, text=self.positions.moves_together)

    # ---- after a layer's attention

    def _watch(self, i: int, attention: Any) -> list[Any]:
        """Keep a layer's queries and keys before rotation until its attention has run."""

        def remember(name: str) -> Any:
            return lambda _module, _args, out: self._projected.__setitem__(name, out)

        return [
            *(last_before_rotation(attention, name).register_forward_hook(remember(name)) for name in "qk"),
            attention.register_forward_hook(lambda module, _args, _out: self._attended(i, module)),
        ]

    def _attended(self, i: int, attention: Any) -> None:
        queries, keys = (by_head(self._projected.pop(name), attention) for name in "qk")
        if self.live is None:
            if self.observe is not None:
                self.observe(i, queries, keys, None)
            return
        if self.observe is not None:
            self.observe(i, self.live.visual(queries), self.live.visual(keys), self.live.tokens)
        self._known = {}
        for other in self.alike:  # they take the whole chunk, before it is cut here
            other._take(i, self, queries, keys)
        if self.chunk is not None and self.chunk.method.overrides("evict"):
            self._evict(i, self.chunk, self.live, queries, keys)

    def _take(self, i: int, fed: LayerHooks, queries: Tensor, keys: Tensor) -> None:
        """Take the chunk's entries in layer i from the cache into which it was `fed`, and cut them as wanted here."""
        assert self.chunk is not None
        assert self.live is not None
        layer, size = fed.state.layers[i], len(self.live)
        self.state.layers[i].update(layer.keys[:, :, -size:], layer.values[:, :, -size:])
        self._known = fed._known
        self._evict(i, self.chunk, self.live, queries, keys)

    def _evict(self, i: int, chunk: VideoChunk, live: LiveTokens, queries: Tensor, keys: Tensor) -> None:
        if chunk.method.rechooses:
            self._rechoose(i, chunk, live, queries, keys)
            return
        evicted = chunk.method.evict(self._layer_chunk(i, chunk, live, queries, keys))
        if evicted is None:
            return
        if not isinstance(evicted, Evicted):
            raise MethodError(f"{type(chunk.method).__name__}.evict() must return an Evicted, it has no settle()")
        if evicted.index.device.type == "cpu" or live.layout is not None:  # among separators the CPU counts
            evicted = _on_cpu([evicted])[0]
            index = check_index(evicted.index, len(live.tokens), _verb(chunk.method))
            evicted = replace(evicted, index=live.entries(index))
        self._cut(i, live, keys, evicted)

    def _cut(self, i: int, live: LiveTokens, keys: Tensor, evicted: Evicted, *, closes_gap: bool = True) -> None:
        """Of this feed's entries in layer i, separators included, keep those of `evicted`, at its new ids."""
        index, ids = evicted.index, evicted.positions
        if live.layout is not None and ids is not None:
            old = self.state.positions[i][:, -len(live) :][:, index]
            ids = self.positions.with_separators(old, live.layout.visual[index], ids)
        on_device = to_device(index, keys.device)
        new = None if ids is None else self.positions.rotate(keys.index_select(1, on_device), ids)[None]
        self.state.cut(i, len(live), on_device, new)
        self._unrecorded.append((i, replace(evicted, positions=ids), live.cells, closes_gap))
        if index.device.type == "cpu":
            self.record_evictions()

    def record_evictions(self) -> None:
        """Record what layers have evicted whose index the device alone knew: in one copy, when all of them have run."""
        on_cpu = _on_cpu([evicted for _, evicted, _, _ in self._unrecorded])
        for evicted, (i, found, cells, closes_gap) in zip(on_cpu, self._unrecorded, strict=True):
            if evicted is not found:
                assert self.chunk is not None
                check_index(evicted.index, len(cells), _verb(self.chunk.method))
            align_text = self.positions.aligns(evicted)
            self.state.record_eviction(i, evicted, cells, align_text=align_text, closes_gap=closes_gap)
        self._unrecorded.clear()

    def _rechoose(self, i: int, chunk: VideoChunk, live: LiveTokens, queries: Tensor, keys: Tensor) -> None:
        name = type(chunk.method).__name__
        if chunk.cells_left and live.layout is not None and not bool(live.layout.visual.all()):
            raise MethodError(
                f"{name} treats the cache as frames of equal length: it is not defined on a backbone that has newlines "
                "or times between visual tokens"
            )
        layer, size = self.state.layers[i], self.state.extend_video(i, live.tokens.cell)
        cached = CachedVideo(
            keys=layer.keys[0, :, -size:],
            values=layer.values[0, :, -size:],
            grid=live.tokens.grid,
            spatial=live.tokens.spatial,
            cells_left=chunk.cells_left,
            max_cells=chunk.budget.cells_at(chunk.budget.ratio),
        )
        evicted = chunk.method.evict(replace(self._layer_chunk(i, chunk, live, queries, keys), cached=cached))
        if evicted is None:
            return
        if not isinstance(evicted, Evicted):
            raise MethodError(f"{name}.evict() must return an Evicted, as it chooses anew among all of the video")
        index = evicted.index.cpu()
        for row in index if index.ndim == 2 else [index]:
            check_index(row, size, f"{name}.evict")
        on_device = to_device(evicted.index, keys.device)
        self.state.rechoose(i, index, on_device=on_device, flops=evicted.flops)

    def _layer_chunk(self, i: int, chunk: VideoChunk, live: LiveTokens, queries: Tensor, keys: Tensor) -> LayerChunk:
        ids, size = self.state.positions[i][:, -len(live) :], len(live.tokens)
        return LayerChunk(
            layer=i,
            layers=len(self.layers),
            queries=live.visual(queries),
            keys=live.visual(keys),
            positions=ids if live.layout is None else ids[:, live.layout.visual],
            rotate=self.positions.rotate,
            protected=live.tokens.protected,
            max_keep=max(1, chunk.max_keep * size // len(chunk.tokens)),
            prompt_tokens=chunk.prompt_tokens,
            known=self._known,
        )


def _verb(method: Method) -> str:
    return f"{type(method).__name__}.evict"


def _on_cpu(found: Sequence[Evicted]) -> list[Evicted]:
    """The same with index and ids on the CPU, itself where they are; one copy for them all."""
    far = [x for one in found for x in (one.index, one.positions) if x is not None and x.device.type != "cpu"]
    if not far:
        return list(found)
    copied = torch.split(torch.cat([x.flatten() for x in far]).cpu(), [x.numel() for x in far])
    near = {id(x): flat.view(x.shape) for x, flat in zip(far, copied, strict=True)}
    return [
        replace(one, index=near.get(id(one.index), one.index), positions=near.get(id(one.positions), one.positions))
        for one in found
    ]
