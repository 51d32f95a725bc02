"""What a vision encoder's last block attends to, and its keys, from queries and keys that a forward has computed.

Shape letters: B cells, n patches of a cell, P visual tokens of a cell, H heads, d head width, C = H·d width of a patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from torch import Tensor


def received(queries_BHnd: Tensor, keys_BHnd: Tensor) -> Tensor:
    """Attention that each patch receives from all of its cell, mean over heads and queries, (B, n) float32; sum 1."""
    per_cell = []
    for queries, keys in zip(queries_BHnd, keys_BHnd, strict=True):  # one cell's n × n weights at a time
        logits = queries.float() * queries.shape[-1] ** -0.5 @ keys.float().transpose(1, 2)
        per_cell.append(logits.softmax(-1).mean((0, 1)))
    return torch.stack(per_cell)


def received_from_mean(queries_BHnd: Tensor, keys_BHPd: Tensor) -> Tensor:
    """Attention of the mean query of a cell to the tokens' mean keys, mean over heads, (B, P) float32; sum 1."""
    query = queries_BHnd.float().mean(2, keepdim=True) * queries_BHnd.shape[-1] ** -0.5
    found: Tensor = (query @ keys_BHPd.float().transpose(2, 3)).softmax(-1).mean((1, 2))
    return found


def pooled(hidden_BnC: Tensor, norm: Any, head: Any) -> tuple[Tensor, Tensor]:
    """SigLIP's pooling head on what its last norm makes of the hidden states.

    What the head's learned query attends to, mean over heads, (B, n); and the head's output, (B, C). Both float32.
    """
    states, attention = norm(hidden_BnC), head.attention
    heads, width = attention.num_heads, attention.embed_dim
    projected = linear(states, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    keys, values = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in projected.chunk(2, -1))  # (B, H, n, d)
    probe = head.probe.expand(len(states), -1, -1)  # (B, 1, C)
    query = linear(probe, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    query = query.reshape(len(states), 1, heads, -1).transpose(1, 2) * keys.shape[-1] ** -0.5  # (B, H, 1, d)
    weights = (query @ keys.transpose(2, 3)).softmax(-1)  # (B, H, 1, n)
    out = attention.out_proj((weights @ values).transpose(1, 2).flatten(2))
    out = out + head.mlp(head.layernorm(out))
    return weights.float().mean((1, 2)), out[:, 0].float()
