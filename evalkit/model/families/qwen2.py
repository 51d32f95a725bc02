"""Qwen2 (arXiv 2407.10671) as a plain language model that is fed visual features: RoPE, no vision tower of its own.

VideoChat-Flash and LLaVA put their encoder and projector in front of such a model.
"""

from __future__ import annotations

from typing import Any

from evalkit.model.decoder import Decoder
from evalkit.model.positions import RopePositions


class Qwen2(Decoder):
    """A Qwen2 checkpoint; its visual tokens come as features (N, D) that another model encoded."""

    positions_type = RopePositions

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        super().__init__(model, model.model, tokenizer)
