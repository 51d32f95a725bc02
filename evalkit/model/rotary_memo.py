"""A rotary embedding's cosines and sines, kept by the ids that they were made of.

The same ids come again: a video's layout in every layer and for every question, a question's own for operating points.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    CosSin = tuple[Tensor, Tensor]

MOST_BYTES = 2**24  # that are kept; what came last is used last
FIXED = ("default", "linear", "yarn", "llama3")  # frequencies that do not depend on what was read before


class RotaryMemo:
    """What a model's rotary module gives, made once while it is kept."""

    def __init__(self, rotary: Any) -> None:
        self._fixed = getattr(rotary, "rope_type", None) in FIXED
        self._kept: OrderedDict[tuple[object, ...], CosSin] = OrderedDict()
        self._bytes = 0

    def __call__(self, x: Tensor, ids: Tensor, make: Callable[[], CosSin]) -> CosSin:
        """cos and sin for ids (R, S), in the dtype and on the device of `x`: kept, or what `make` makes.

        Ids that only a GPU knows are looked up nowhere: the CPU would wait for them.
        """
        if not self._fixed or ids.device.type != "cpu":
            return make()
        # a tensor of inference mode may not be part of a forward of training
        key = (ids.numpy().tobytes(), len(ids), x.dtype, x.device, torch.is_inference_mode_enabled())
        if key not in self._kept:
            self._keep(key, make())
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple[object, ...], made: CosSin) -> None:
        self._kept[key] = made
        self._bytes += _size(made)
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(pair: CosSin) -> int:
    return sum(one.nbytes for one in pair)
