"""What a method's `prune` may look at: computed from the layers at hand when it is read, and counted.

Shape letters: S tokens of the feed that are alive, n visual ones of them, D width, H query heads, G key heads, d head
width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.errors import MethodError
from evalkit.model.window_attention import attention

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import Tensor

    from evalkit.model.live_tokens import LiveTokens
    from evalkit.model.positions import Positions


class NoView:
    """The view where no layer runs, or where the feed does not hold the whole prompt."""

    between, memo, flops = False, None, 0

    @property
    def states(self) -> Tensor:
        """There are none."""
        raise _nothing("states")

    def last_attention(self) -> Tensor:
        """There is none."""
        raise _nothing("last_attention()")

    def next_attention(self) -> Tensor:
        """There is none."""
        raise _nothing("next_attention()")


NO_VIEW = NoView()


def _nothing(what: str) -> MethodError:
    return MethodError(
        f"prune() read view.{what}, which there is only where prefix, video and question are fed at once; "
        "declare it: whole: ClassVar[bool] = True. Such a method cannot be tuned, and cannot call "
        "attention_from_question()"
    )


@dataclass(frozen=True)
class Row:
    """The last token's query in one layer's attention, and the keys that it saw, both rotated."""

    query: Tensor  # (H, 1, d)
    keys: Tensor  # (G, S', d)
    alive: Tensor | None = None  # (S,) long: which of the S' keys are alive by now; None: all

    def weights(self) -> tuple[Tensor, int]:
        """Attention (S,) of the entries that are alive, and the operations that it took."""
        found = attention(self.query, self.keys, None)
        flops = 2 * self.query.numel() * self.keys.shape[1]
        return (found if self.alive is None else found[self.alive.to(found.device)]), flops


@dataclass
class LayerView:
    """A call of `prune` in a feed that holds the whole prompt."""

    live: LiveTokens
    hidden: Tensor  # (1, S, D)
    layer: Any  # the module that comes next
    positions: Positions
    ids: Tensor  # (R, S): of what is alive, as the layer would use them
    last: Callable[[], Row] | None  # of the attention that ran last; None: before the first layer
    between: bool
    flops: int = field(default=0, init=False)

    @property
    def memo(self) -> object:
        """See `evalkit.method.PruneView`."""
        return self.live.memo

    @property
    def states(self) -> Tensor:
        """See `evalkit.method.PruneView`."""
        return self.live.visual(self.hidden)[0]

    def last_attention(self) -> Tensor:
        """See `evalkit.method.PruneView`."""
        if self.last is None:
            raise MethodError("prune() read view.last_attention() before layer 0, when no attention has run")
        return self._visual(self.last())

    def next_attention(self) -> Tensor:
        """See `evalkit.method.PruneView`."""
        normed = self.layer.input_layernorm(self.hidden)
        query, key = (project(self.layer.self_attn, name, x) for name, x in (("q", normed[:, -1:]), ("k", normed)))
        width = self.hidden.shape[-1]
        self.flops += 2 * width * (query.numel() + key.numel())
        rotated = (self.positions.rotate(x, ids) for x, ids in ((query, self.ids[:, -1:]), (key, self.ids)))
        return self._visual(Row(*rotated))

    def _visual(self, row: Row) -> Tensor:
        weights, flops = row.weights()
        self.flops += flops
        return self.live.visual(weights[:, None])[:, 0].float().cpu()


def last_before_rotation(attention: Any, name: str) -> Any:
    """The module whose output are queries ("q") or keys ("k") before rotation: Qwen3 normalises what is projected."""
    return getattr(attention, f"{name}_norm", getattr(attention, f"{name}_proj"))


def project(attention: Any, name: str, x: Tensor) -> Tensor:
    """Queries ("q") or keys ("k") of states (1, S, D) before rotation, (heads, S, d)."""
    projected = getattr(attention, f"{name}_proj")(x)
    norm = getattr(attention, f"{name}_norm", None)  # Qwen3 normalises them
    if norm is not None:
        projected = norm(projected.view(1, x.shape[1], -1, int(attention.head_dim)))
    return by_head(projected, attention)


def by_head(projected: Tensor, attention: Any) -> Tensor:
    """(1, S, heads·d) or (1, S, heads, d) -> (heads, S, d)."""
    return projected.reshape(projected.shape[1], -1, int(attention.head_dim)).transpose(0, 1)
