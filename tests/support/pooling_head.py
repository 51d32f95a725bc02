"""SigLIP's pooling head with given weights, in transformers' own class."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead


def pooling_head(weights: dict[str, Tensor], heads: int, eps: float) -> tuple[nn.Module, nn.Module]:
    """The norm before it, and the head, from tensors `post_layernorm.…` and `head.…`."""
    inner, width = weights["head.mlp.fc1.weight"].shape
    config = SiglipVisionConfig(
        hidden_size=width, intermediate_size=inner, num_attention_heads=heads, layer_norm_eps=eps
    )
    norm, head = nn.LayerNorm(width, eps=eps), SiglipMultiheadAttentionPoolingHead(config)
    for module, prefix in ((norm, "post_layernorm."), (head, "head.")):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return norm.eval(), head.eval()
