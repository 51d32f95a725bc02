"""How much memory a released checkpoint needs at a number of frames, from its published sizes alone.

An estimate for choosing a machine: weights, the KV cache of the dense run (every sampled frame, every token, every
layer) and the visual features that wait for their prefill. Activations of the vision encoder and of a prefill chunk,
decoded frames and text come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from evalkit.errors import ConfigError

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # per value


@dataclass(frozen=True, kw_only=True)
class PublishedSizes:
    """`published` in a file of conf/backbone: what its repository says, and its tokens under the preset it brings."""

    licence: str
    parameters: int
    layers: int
    kv_heads: int
    head_dim: int
    width: int  # of the language model, and of a visual feature
    feature_levels: int = 1  # features of that width for each token: with Qwen3-VL's deepstack features four
    cell_frames: int  # frames of a temporal cell
    cell_tokens: int  # visual tokens of a cell, at most
    video_tokens: int | None = None  # of all cells, where the preset shares so many among them
    least_cell_tokens: int = 0  # and no cell gets fewer
    cell_separators: int = 0  # tokens that stand beside a cell's: newlines, its time as text

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PublishedSizes:
        """From YAML. ConfigError for a field that is missing or unknown."""
        needed = {field.name for field in fields(cls)}
        try:
            return cls(**settings)
        except TypeError as error:
            raise ConfigError(f"backbone.published: expected {', '.join(sorted(needed))}; {error}") from error

    def tokens(self, frames: int) -> tuple[int, int]:
        """Visual tokens and separators of a dense run with `frames` frames, at most."""
        cells = -(-frames // self.cell_frames)
        each = self.cell_tokens
        if self.video_tokens is not None:
            each = min(each, max(self.least_cell_tokens, self.video_tokens // cells))
        return cells * each, cells * self.cell_separators

    def bytes_needed(self, frames: int, dtype: str) -> int:
        """Weights, KV cache and features of a dense run with `frames` frames, estimated; see above for what is not in.

        ConfigError for an unknown dtype.
        """
        if dtype not in BYTES:
            raise ConfigError(f"backbone.dtype: expected one of {', '.join(BYTES)}, got {dtype!r}")
        visual, between = self.tokens(frames)
        cache = (visual + between) * self.layers * 2 * self.kv_heads * self.head_dim
        features = visual * self.width * self.feature_levels
        return BYTES[dtype] * (self.parameters + cache + features)
