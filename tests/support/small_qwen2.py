"""A random Qwen2 of six layers, random visual tokens for it, and a prompt around them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.method import Budget
from evalkit.model import attention
from evalkit.model.families.qwen2 import Qwen2
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp

HEAD, TAIL = [1, 2, 3, 4, 5], [6, 7, 8, 9]  # ids before and after the video


def plain(**settings: Any) -> Qwen2ForCausalLM:
    """A small random Qwen2, of six layers unless told otherwise, with transformers' own attention."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "vocab_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 0}
    # large weights: what is seen, and from where, shows in the logits
    config = Qwen2Config(**(sizes | settings), initializer_range=0.3, attn_implementation="eager")
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config).eval()


def attached(stock: Qwen2ForCausalLM) -> Qwen2:
    """The same weights with evalkit's attention."""
    # a copy: the name of the attention is written into the configuration
    model = Qwen2ForCausalLM._from_config(copy.deepcopy(stock.config), attn_implementation=attention.register())
    model.load_state_dict(stock.state_dict())
    return Qwen2(model.eval())


def frames(count: int = 5, grid: tuple[int, int] = (2, 2), width: int = 32) -> VisualTokens:
    """Random visual tokens of `count` frames, one frame a cell."""
    size = count * grid[0] * grid[1]
    features = torch.randn(size, width, generator=torch.Generator().manual_seed(1))
    return VisualTokens.dense(features, seconds=range(count), grid=grid)


def limits(tokens: VisualTokens, layers: int, ratio: float = 1.0) -> Budget:
    """The budget of these tokens, one frame a cell."""
    cells = len(tokens.cell_seconds)
    return Budget.encoded(cells, tokens.grid, ratio=ratio, layers=layers, cell_frames=1, pixels_per_token=1)


@dataclass(frozen=True, kw_only=True)
class Prefix(LPComp):
    """The first of each cell instead of the last: a mistake."""

    def stays(self, count: int, places: int) -> Tensor:
        return super().stays(count, places).flip(0)
