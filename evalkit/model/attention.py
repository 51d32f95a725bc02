"""Causal attention of a chunk that follows a cache, registered under a name of its own.

transformers builds one mask for all layers from the first layer's cache length. With a cache length of its own in every
layer that mask is wrong, and under an unknown attention name it is None, which stock sdpa reads as "the chunk stands
alone". This function needs no mask: it aligns the causal triangle to the lower right corner by itself.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evalkit.model.tails import TailFeed

NAME = "evalkit_causal_lower_right"
SMALL = 2**20  # entries of a mask that is kept for the next layer
STEPS = 64, 512  # rows and earlier entries by which kept masks differ


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    tails: TailFeed | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend from a chunk's S queries (1, H, S, d) to all L keys (1, G, L, d), of which the last S are the chunk's own.

    A mask that is given (several questions in one sequence, in tuning) takes the place of the causal triangle. Returns
    the output as (1, S, H, d), as transformers expects, and no weights. `tails`: several questions are fed, whose keys
    alone are given; each attends to the cache and to itself.
    """
    if tails is not None:
        layer: Any = module.layer_idx
        return tails.attend(partial(_attended, scaling=scaling), layer, query, key, value), None
    return _attended(query, key, value, attention_mask, scaling=scaling), None


def _attended(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, *, scaling: float | None
) -> Tensor:
    chunk, length = query.shape[2], key.shape[2]
    bias, alone = attention_mask, attention_mask is None and chunk == length  # then both corners are the same
    if attention_mask is None and 1 < chunk < length:
        bias = _causal(chunk, length, query.device, query.dtype)
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=bias, is_causal=alone, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous()


def _causal(chunk: int, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Each of the last `chunk` tokens sees what is before it, and itself."""
    if device.type == "cpu":  # where torch's own object below would make the very same mask
        return _small_mask(chunk, length, dtype) if chunk * length <= SMALL else _mask(chunk, length)
    from torch.nn.attention.bias import causal_lower_right  # brings torch's compiler: seconds of every start

    bias: Tensor = causal_lower_right(chunk, length)  # by which flash attention needs no mask
    return bias


def _mask(chunk: int, length: int) -> Tensor:
    return torch.ones(chunk, length, dtype=torch.bool).tril(length - chunk)


def _small_mask(chunk: int, length: int, dtype: torch.dtype) -> Tensor:
    """As the kernel turns a bool mask into one to be added: a part of one that serves feeds of about this size."""
    before = length - chunk
    rows, columns = -(-chunk // STEPS[0]) * STEPS[0], -(-before // STEPS[1]) * STEPS[1]
    return _kept_mask(rows, columns, dtype)[:chunk, columns - before :][:, :length]


@lru_cache(maxsize=16)
def _kept_mask(rows: int, before: int, dtype: torch.dtype) -> Tensor:
    """For as many rows after so many entries."""
    with torch.inference_mode(False):  # it may serve a forward of training next
        length = before + rows
        return torch.zeros(rows, length, dtype=dtype).masked_fill_(~_mask(rows, length), -torch.inf)


def register() -> str:
    """Make the function known to transformers and return the name to load a model with."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    return NAME
