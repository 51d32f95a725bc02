"""What the vision encoder can tell a method beside its features; a method declares what it needs (`Method.needs`).

Shape letters: N visual tokens, T temporal cells, F frames, K width of a key vector, G width of a summary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from evalkit.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal["attention", "pooled_attention", "keys", "summary", "pixels"]
PER_TOKEN = ("attention", "pooled_attention", "keys")


@dataclass(frozen=True, kw_only=True)
class EncoderView:
    """What was declared, None elsewhere. Attention and keys are those of the last block that is run.

    A token of several patches has the mean of its patches; where patches are pooled to tokens, what is here is pooled
    as the features are.
    """

    # (N,) float32: attention that a token receives from all patches of its cell, mean over heads and queries
    attention: Tensor | None = field(default=None, repr=False)
    # (N,) float32: attention of one query that stands for the whole cell, mean over heads: that of the encoder's
    # pooling head where it has one, else the mean of all queries, against the mean of each token's keys
    pooled_attention: Tensor | None = field(default=None, repr=False)
    keys: Tensor | None = field(default=None, repr=False)  # (N, K) float32: before rotation, mean over heads
    # (T, G) float32: a vector of the whole cell, the pooling head's output; without one the mean of the cell's features
    summary: Tensor | None = field(default=None, repr=False)
    pixels: Tensor | None = field(default=None, repr=False)  # (F, height, width, 3) uint8: the frames of all cells

    def keep(self, index: Tensor) -> EncoderView:
        """Of the tokens at `index`; what belongs to cells and frames stays whole."""
        narrowed = {name: getattr(self, name) for name in PER_TOKEN}
        return replace(self, **{name: x[index.to(x.device)] for name, x in narrowed.items() if x is not None})

    def only(self, needs: frozenset[Need]) -> EncoderView | None:
        """What is among `needs`; None where nothing is."""
        return EncoderView(**{name: getattr(self, name) for name in sorted(needs)}) if needs else None


def needed(view: EncoderView | None, name: Need, method: object) -> Tensor:
    """One part of a view. MethodError where it is not there, as tokens did not come from an encoder that was asked."""
    found: Tensor | None = None if view is None else getattr(view, name)
    if found is None:
        raise MethodError(
            f"{type(method).__name__}.select() needs {name!r} of the vision encoder, which these visual tokens do not "
            "carry; the engine computes what a method's `needs` names"
        )
    return found
