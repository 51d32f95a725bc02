"""SigLIP's pooling head, which LLaVA checkpoints leave out, from the checkpoint of SigLIP that has it.

Methods that need a summary of each frame (FastVID) read it; no feature depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from evalkit.errors import ConfigError
from evalkit.model.checkpoint import Checkpoint, locate, weight_files

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "vision_model."  # of the vision tower's tensors in google/siglip-* checkpoints
SETTING = "backbone.pooling_head"


@dataclass(frozen=True)
class PoolingHead:
    """The norm of a tower's last states, and what pools them."""

    norm: Any
    head: Any  # SiglipMultiheadAttentionPoolingHead


def build(tower: Any) -> PoolingHead:
    """With fresh weights, of the shape that belongs to a SiglipVisionModel, on its device and in its dtype."""
    from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

    weight = tower.embeddings.patch_embedding.weight
    with torch.device(weight.device):
        norm = torch.nn.LayerNorm(tower.config.hidden_size, eps=tower.config.layer_norm_eps)
        head = SiglipMultiheadAttentionPoolingHead(tower.config)
    return PoolingHead(norm.to(weight.dtype).eval(), head.to(weight.dtype).eval())


def load(tower: Any, path: str) -> PoolingHead:
    """The head of the SigLIP checkpoint at `path` (folder or hub id) for a SiglipVisionModel.

    Raises ConfigError where it is not there, has no head, or one of another size.
    """
    found, made = locate(path, setting=SETTING), build(tower)
    for prefix, module in (("post_layernorm.", made.norm), ("head.", made.head)):
        given = _tensors(found, PREFIX + prefix)
        wanted = module.state_dict()
        wrong = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
        if wrong:
            raise ConfigError(
                f"{SETTING}={path}: expected a SigLIP checkpoint with {PREFIX}{prefix}{wrong[0]} of shape "
                f"{tuple(wanted[wrong[0]].shape)}, as the backbone's tower has it; LLaVA's is that of "
                "google/siglip-so400m-patch14-384"
            )
        module.load_state_dict({name: given[name] for name in wanted})
    return made


def _tensors(found: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(found):
        try:
            with safe_open(file, framework="pt") as opened:
                names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 – no mapping
                tensors |= {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{SETTING}={found.name}: {file.name} cannot be read as safetensors ({error})") from error
    return tensors
