"""Floating-point operations in closed form: what a pass counted, times what the architecture does with it.

Counted as torch's flop counter does: matrix products alone, two operations for a multiply-add, and attention as the
whole rectangle of queries × keys that the kernel is given (what lies behind the causal mask inside a chunk included).
Norms, activations, rotations and other elementwise work are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OpCounts:
    """What went through a decoder, summed over its layers, which are all alike."""

    projected: int = 0  # tokens through the projections of attention
    pairs: int = 0  # query × key pairs of attention
    transformed: int = 0  # tokens through the MLP
    scored: int = 0  # hidden states scored against the vocabulary
    extra: int = 0  # operations of a method's own matrix products

    # field by field, as they are added twice in every layer of every feed
    def __add__(self, other: OpCounts) -> OpCounts:
        return OpCounts(
            projected=self.projected + other.projected,
            pairs=self.pairs + other.pairs,
            transformed=self.transformed + other.transformed,
            scored=self.scored + other.scored,
            extra=self.extra + other.extra,
        )

    def __sub__(self, other: OpCounts) -> OpCounts:
        return OpCounts(
            projected=self.projected - other.projected,
            pairs=self.pairs - other.pairs,
            transformed=self.transformed - other.transformed,
            scored=self.scored - other.scored,
            extra=self.extra - other.extra,
        )


def decoder_costs(config: Any) -> tuple[int, ...]:
    """Operations of one count of each of OpCounts' fields in a Qwen2-style decoder: grouped-query attention and a
    gated MLP.
    """
    width, heads, groups = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    head = getattr(config, "head_dim", None) or width // heads
    projections = 2 * width * head * (heads + 2 * groups) + 2 * heads * head * width  # query, key, value; output
    mlp = 3 * 2 * width * config.intermediate_size  # gate, up, down
    return int(projections), int(4 * heads * head), int(mlp), int(2 * width * config.vocab_size), 1


def decoder(costs: tuple[int, ...], op_counts: OpCounts) -> int:
    """Operations of `op_counts`, at so many for each count."""
    return sum(int(count) * cost for count, cost in zip(vars(op_counts).values(), costs, strict=True))


def vision_cell(config: Any, segments: list[list[int]], width: int, mlp: int, out: int, mergers: int = 1) -> int:
    """Operations of one temporal cell in a Qwen vision tower.

    `segments`: per block, the lengths in patches of the pieces that attend within themselves; `width` of a patch's
    state, `mlp` operations of a block's MLP on one patch, `out` width of a feature; `mergers` of the same shape.
    """
    patches = sum(segments[0])
    pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
    projections = 2 * 4 * width * width  # query, key, value, output
    blocks = sum(patches * (projections + mlp) + sum(4 * n * n * width for n in pieces) for pieces in segments)
    merged = width * config.spatial_merge_size**2
    merger = patches // config.spatial_merge_size**2 * 2 * merged * (merged + out)
    return int(patches * 2 * pixels * width + blocks + mergers * merger)


def windows(rows: int, columns: int, side: int) -> list[int]:
    """Areas of the windows that a grid of `rows` × `columns` is cut into, `side` long, smaller at the far edges."""
    return [a * b for a in _cut(rows, side) for b in _cut(columns, side)]


def _cut(length: int, side: int) -> list[int]:
    return [min(side, length - start) for start in range(0, length, side)]
