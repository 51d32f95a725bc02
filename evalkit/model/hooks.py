"""Hang a method's verbs on the decoder layers for one feed, and take them off again.

One `Feed` lives for one call of the language model. Before each layer it narrows the hidden states (`prune`) and hands
the layer the rotary embedding of the ids that hold there; after each layer's attention it cuts the cache (`evict`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.model.flops import OpCounts
from evalkit.types import LayerChunk, VisualTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from evalkit.model.decoder import Decoder
    from evalkit.model.prefill_state import PrefillState

    # layer, queries (H, S, d) and keys (G, S, d) before rotation, the visual tokens they belong to (None: text)
    Observer = Callable[[int, Tensor, Tensor, VisualTokens | None], None]


class StopForward(Exception):  # noqa: N818 – no error: how an observer ends a feed
    """Raised by an observer that has seen its last layer: what comes after it is not computed."""


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x` (heads, S, d) with cos and sin (S, d), halves paired as Qwen does."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def check_index(index: Tensor, length: int, verb: str) -> Tensor:
    """The contract of every verb that keeps tokens: a non-empty, ascending, unique long index inside the chunk."""
    wrong = (
        index.ndim != 1
        or index.dtype != torch.long
        or len(index) == 0
        or int(index[0]) < 0
        or int(index[-1]) >= length
        or bool((index[1:] <= index[:-1]).any())
    )
    if wrong:
        raise MethodError(
            f"{verb}() must return ascending, unique positions (long, 1-D, not empty) in [0, {length}); "
            f"{index.dtype = }, {tuple(index.shape) = }, {index[:8].tolist() = }"
        )
    return index


class LayerHooks:
    """One feed of text (`tokens` None) or of one video chunk."""

    def __init__(
        self,
        decoder: Decoder,
        context: PrefillState,
        positions: Tensor,
        *,
        decoding: bool = False,
        method: Method | None = None,
        tokens: VisualTokens | None = None,
        budget: Budget | None = None,
        max_keep: int = 0,
        prompt_tokens: int = 0,
        observe: Observer | None = None,
    ) -> None:
        self.decoder, self.context = decoder, context
        self.layers: list[Any] = list(decoder.text.layers)
        self.positions = positions  # (R, n) ids of the tokens still alive, in the uncompressed layout
        self.renumbered = False  # from the layer at hand on, ids count the entries of each layer
        self.decoding, self.method, self.tokens, self.budget = decoding, method, tokens, budget
        self.max_keep, self.prompt_tokens, self.observe = max_keep, prompt_tokens, observe
        self.full = int(positions.shape[1])
        self.projected: dict[str, Tensor] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on inside the block and off after it, whatever happens."""
        handles = []
        try:
            for i, layer in enumerate(self.layers):
                handles.append(layer.register_forward_pre_hook(self._before(i), with_kwargs=True))
                if self.observe is not None or self._overrides("evict"):
                    handles += self._watch(i, layer.self_attn)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _overrides(self, verb: str) -> bool:
        if self.method is None or self.tokens is None:
            return False
        return getattr(type(self.method), verb) is not getattr(Method, verb)

    def _before(self, i: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden: Tensor = args[0]
            if self._overrides("prune"):
                hidden = self._prune(i, hidden)
            ids = self._ids_at(i)
            if ids is not self.positions or ids.shape[1] != self.full:
                kwargs = {**kwargs, "position_embeddings": self.decoder.rotary(hidden, ids)}
            self.context.positions[i] = torch.cat([self.context.positions[i], ids], dim=1)
            size, length = int(ids.shape[1]), int(self.context.positions[i].shape[1])
            self.context.op_counts += OpCounts(projected=size, pairs=size * length, transformed=size)
            if self.tokens is not None:
                self.context.visual[i] += size
                self.context.count(self.tokens.cell)
            return (hidden, *args[1:]), kwargs

        return hook

    def _prune(self, i: int, hidden: Tensor) -> Tensor:
        assert self.method is not None
        assert self.tokens is not None
        assert self.budget is not None
        left = self.method.prune(i, len(self.layers), self.tokens, self.budget)
        if left is None:
            return hidden
        self.context.op_counts += OpCounts(extra=left.flops)
        index = check_index(left.index, len(self.tokens), f"{type(self.method).__name__}.prune")
        self.renumbered |= self.decoder.renumbers if left.renumber is None else left.renumber
        self.tokens, self.positions = self.tokens.keep(index), self.positions[:, index]
        return hidden[:, index.to(hidden.device)]

    def _ids_at(self, i: int) -> Tensor:
        """Ids that hold at layer i. Where its ids were re-forged, time goes on from its last stored id.

        Renumbered tokens take the ids after the last stored one, without gaps, and so does all that follows them.
        While decoding all three rows move by that shift, in prefill the temporal row alone: the released ReTaKe code
        does so (its decoding ids are one expanded row). With `align_text` text moves as a whole there, too.
        """
        stored = self.context.positions[i]
        if self.renumbered:
            self.context.reindexed[i] = self.context.align_text = True
            start = int(stored[:, -1].max()) + 1 if stored.shape[1] else 0
            return self.decoder.text_ids(start, self.positions.shape[1])
        if not self.context.reindexed[i]:
            return self.positions
        whole = self.decoding or (self.context.align_text and self.tokens is None)
        # squeezed times may end before the last row or column does; equal rows must pass both
        last = stored.max() if whole and not self.decoding else stored[0, -1]
        shift = int(last) + 1 - int(self.positions[0, 0])
        ids = self.positions.clone()
        ids[: 3 if whole else 1] += shift
        return ids

    def _watch(self, i: int, attention: Any) -> list[Any]:
        """Keep the un-rotated projections of a layer, and cut its cache once its attention has run."""

        def remember(name: str) -> Any:
            return lambda _module, _args, out: self.projected.__setitem__(name, out)

        return [
            attention.q_proj.register_forward_hook(remember("q")),
            attention.k_proj.register_forward_hook(remember("k")),
            attention.register_forward_hook(lambda module, _args, _out: self._attended(i, module)),
        ]

    def _attended(self, i: int, attention: Any) -> None:
        queries, keys = (self._heads(self.projected.pop(name), attention) for name in "qk")
        if self.observe is not None:
            self.observe(i, queries, keys, self.tokens)
        if self._overrides("evict"):
            self._evict(i, queries, keys)

    def _evict(self, i: int, queries: Tensor, keys: Tensor) -> None:
        assert self.method is not None
        assert self.tokens is not None
        size = int(keys.shape[1])
        chunk = LayerChunk(
            layer=i,
            layers=len(self.layers),
            queries=queries,
            keys=keys,
            positions=self.context.positions[i][:, -size:],
            rotate=self._rotate,
            protected=self.tokens.protected,
            max_keep=max(1, self.max_keep * size // self.full),
            prompt_tokens=self.prompt_tokens,
        )
        keep = self.method.evict(chunk)
        if keep is None:
            return
        index = check_index(keep.index, size, f"{type(self.method).__name__}.evict").cpu()
        new = None if keep.positions is None else self._rotate(keys[:, index.to(keys.device)], keep.positions)[None]
        self.context.cut_chunk(i, size, index, new, keep.positions)
        self.context.op_counts += OpCounts(extra=keep.flops)
        self.context.count(self.tokens.cell, -1)
        self.context.count(self.tokens.cell[index])
        self.context.reindexed[i] = self.context.reindexed[i] or keep.positions is not None
        self.context.align_text = self.decoder.aligns_text if keep.align_text is None else keep.align_text
        self.context.visual[i] -= size - len(index)

    @staticmethod
    def _heads(projected: Tensor, attention: Any) -> Tensor:
        """(1, S, heads·d) -> (heads, S, d)."""
        _, size, _ = projected.shape
        return projected.view(size, -1, int(attention.head_dim)).transpose(0, 1)

    def _rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = self.decoder.rotary(x, positions)
        return rotate(x, cos[0], sin[0])
