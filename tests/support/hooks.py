"""Forward hooks that are registered on a model."""

from __future__ import annotations

from evalkit.model.decoder import Decoder


def hooks(backbone: Decoder) -> int:
    """How many there are on all modules of the backbone."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.model.modules())
