"""Hooks for a feed of the whole prompt: `prune` may look at attention and states, and cut again before a layer's MLP.

Shape letters: R rows of ids, S tokens that a layer sees, K of them that its MLP sees, D width, H query heads, d head
width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from evalkit.errors import MethodError
from evalkit.model.flops import OpCounts
from evalkit.model.hooks import LayerHooks
from evalkit.model.prune_view import LayerView, NoView, Row, by_head, last_before_rotation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evalkit.model.live_tokens import LiveTokens


class WholePromptHooks(LayerHooks):
    """One feed of prefix, video and question: a `chunk` with its `text`, into an empty state."""

    _last: tuple[int, Tensor] | None = None  # the layer whose attention ran last, its last query (H, 1, d), unrotated
    _size: int = 0  # S of that attention
    _alive: Tensor | None = None  # (K,) long: which of those S are alive since; None: all
    _narrowed: Tensor | None = None  # (1, K, D): states after the attention of a layer that cuts before its MLP
    _added: Tensor | None = None  # (1, K, D): what that MLP adds

    def _hooked(self, i: int, layer: Any) -> list[Any]:
        handles = super()._hooked(i, layer)
        assert self.chunk is not None
        if self.chunk.method.overrides("prune"):
            attention = layer.self_attn
            handles.append(last_before_rotation(attention, "q").register_forward_hook(self._asked(i, attention)))
            if self.chunk.method.between:
                handles += self._narrowing(i, layer)
        return handles

    def _before(self, i: int) -> Any:
        narrow = super()._before(i)
        assert self.chunk is not None
        if not self.chunk.method.sees_later(i, len(self.layers)):
            return narrow

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            args, kwargs = narrow(module, args, kwargs)
            return args, {**kwargs, "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=args[0].device)}

        return hook

    # ---- what was attended to

    def _asked(self, i: int, attention: Any) -> Any:
        """Keep the last token's query of layer i."""

        def hook(_module: nn.Module, _args: Any, out: Tensor) -> None:
            self._last, self._size, self._alive = (i, by_head(out[:, -1:], attention)), out.shape[1], None

        return hook

    def _last_row(self) -> Row:
        assert self._last is not None
        i, query = self._last
        keys, ids = self.state.layers[i].keys[0], self.state.positions[i]
        if keys.shape[1] != self._size:
            raise MethodError("prune() read view.last_attention() after evict() had cut the cache of that layer")
        return Row(self.positions.rotate(query, ids[:, -1:]), keys, self._alive)

    def _view(self, i: int, hidden: Tensor, live: LiveTokens, *, between: bool) -> LayerView | NoView:
        return LayerView(
            live=live,
            hidden=hidden,
            layer=self.layers[i],
            positions=self.positions,
            ids=self._ids_at(i),
            last=None if self._last is None else self._last_row,
            between=between,
        )

    # ---- between attention and MLP

    def _narrowing(self, i: int, layer: Any) -> list[Any]:
        """A layer adds its MLP's output to states of all S tokens; where only K go on, the sum is made here instead."""

        def before_mlp(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            hidden, index = self._pruned(i, args[0], between=True)
            if index is None:
                return None
            self._alive, self._narrowed = index, hidden
            self.state.count(OpCounts(transformed=len(index) - args[0].shape[1]))
            return (hidden, *args[1:])

        def after_mlp(_module: nn.Module, _args: Any, out: Tensor) -> Tensor | None:
            if self._narrowed is None:
                return None
            self._added = out
            return out[:, :1]  # of a shape that the layer can add to all S

        def after_layer(_module: nn.Module, _args: Any, _out: Tensor) -> Tensor | None:
            if self._narrowed is None or self._added is None:
                return None
            out = self._narrowed + self._added
            self._narrowed = self._added = None
            return out

        return [
            layer.post_attention_layernorm.register_forward_pre_hook(before_mlp),
            layer.mlp.register_forward_hook(after_mlp),
            layer.register_forward_hook(after_layer),
        ]
