"""What questions and operating points on one video have in common: passes over its cells, and what was looked at there.

Shape letters: H query heads, G key/value heads, S tokens of a feed, d head width, L layers, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evalkit.model.flops import OpCounts
from evalkit.model.hooks import StopForward
from evalkit.model.window_attention import AlikeWindows, alike
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.model.hooks import Observer
    from evalkit.model.positions import Positions
    from evalkit.model.prefill_state import PrefillState

    # prefix, cells, layers, until, and what `prune` leaves
    PassKey = tuple[tuple[int, ...], tuple[int, ...], range, tuple[int, ...] | None, tuple[object, ...]]
    Windows = tuple[tuple[int, int], ...]


@dataclass
class Trace:
    """What was seen of one layer's attention: keys and queries before rotation, and the visual tokens among them."""

    queries: list[Tensor] = field(default_factory=list)  # (H, S, d) each
    keys: list[Tensor] = field(default_factory=list)  # (G, S, d) each
    tokens: list[VisualTokens] = field(default_factory=list)  # without features


@dataclass(frozen=True)
class Pass:
    """Prefix and cells, read: ready for any question."""

    state: PrefillState
    n_tokens: int  # that were fed
    keys: dict[int, Tensor]  # per layer: (G, prefix + visual, d) before rotation
    tokens: dict[int, VisualTokens]  # per layer, without features; one object for layers that see the same tokens
    op_counts: OpCounts  # that it took
    _windows: dict[tuple[int, Windows], list[AlikeWindows]] = field(default_factory=dict, repr=False)

    def prefix(self, layer: int) -> int:
        """Tokens before the video."""
        return self.keys[layer].shape[1] - len(self.tokens[layer])

    def windows(self, positions: Positions, layer: int, windows: Sequence[tuple[int, int]]) -> list[AlikeWindows]:
        """Windows over a layer's tokens by their layout, which depends on no question."""
        tokens = self.tokens[layer]
        key = (id(tokens), tuple((start, stop) for start, stop in windows))  # an id of an object that this pass holds
        if key not in self._windows:
            self._windows[key] = alike(positions, tokens, windows, self.prefix(layer))
        return self._windows[key]


@dataclass(frozen=True)
class Looked:
    """What one question looked at in the windows of one pass, and what that took beside the pass."""

    weights: Tensor  # (L, W, width) float64, or (1, 1, n)
    n_tokens: int  # that were fed
    op_counts: OpCounts
    seconds: float


@dataclass(frozen=True)
class SharedPasses:
    """For all operating points of one model on one set of frames; nothing in it depends on an operating point."""

    passes: dict[PassKey, Pass] = field(default_factory=dict)
    looked: dict[tuple[object, ...], Looked] = field(default_factory=dict)  # by pass, question and windows


def traced(layers: range) -> tuple[dict[int, Trace], Observer]:
    """Traces of `layers`, and the observer that fills them and stops each feed in the last of them."""
    traces = {i: Trace() for i in layers}

    def observe(i: int, queries: Tensor, keys: Tensor, visual: VisualTokens | None) -> None:
        if i in traces:
            traces[i].keys.append(keys)
            if visual is None:
                traces[i].queries.append(queries)
            else:
                # no view of the features: it would keep all of them
                bare = replace(visual, features=visual.features.new_empty(len(visual), 0), deepstack=None)
                traces[i].tokens.append(bare)
        if i == layers[-1]:
            raise StopForward

    return traces, observe
