"""Adapters for a checkpoint, as tuning would leave them: some of its weights, changed."""

from __future__ import annotations

from pathlib import Path

import torch

from evalkit.model import adapter
from evalkit.model.load import load

LAYER = "model.language_model.layers.1.self_attn.q_proj.weight"
MERGER = "model.visual.merger.mlp.2.weight"


def tuned(checkpoint: Path, folder: Path, *names: str) -> Path:
    """A folder with these weights of a checkpoint, each with noise on it that changes replies."""
    weights = load(str(checkpoint), device="cpu").model.state_dict()
    noise = torch.Generator().manual_seed(len(names))
    own = {
        name: weights[name] + weights[name].std() * torch.randn(weights[name].shape, generator=noise) for name in names
    }
    adapter.save_weights(own, folder, {"backbone": "tiny"})
    return folder
