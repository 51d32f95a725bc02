"""What one answer spent and rested on, counted when it has been given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.ledger import Flops, Ledger
from evalkit.types import KeptOverTime

if TYPE_CHECKING:
    from evalkit.engine.encoded_video import Prefix
    from evalkit.engine.stage_times import Clock
    from evalkit.model.families.qwen2_vl import Qwen2VL
    from evalkit.model.flops import OpCounts


def flops(backbone: Qwen2VL, prefix: Prefix, prefilled: OpCounts, generated: OpCounts) -> Flops:
    """Operations of each stage; `prefilled` is the work on everything before the answer's second token."""
    tokens = prefix.encoded.tokens
    return Flops(
        encode=0 if tokens is None else backbone.encode_flops(len(tokens.cell_seconds), tokens.grid),
        select=backbone.flops(prefix.asking) + (0 if prefix.selected is None else prefix.selected.flops),
        prefill=backbone.flops(prefilled),
        generate=backbone.flops(generated),
    )


def ledger(
    backbone: Qwen2VL, prefix: Prefix, *, words: int, visual: tuple[int, ...], clock: Clock, operations: Flops
) -> Ledger:
    """What a question spent: `words` text tokens fed, `visual` entries per layer when its answer began."""
    encoded, dense = prefix.encoded, prefix.budget.dense_tokens
    selected = 0 if prefix.selected is None else len(prefix.selected)
    return Ledger(
        frames_decoded=len(encoded.plan.indices),
        cells=0 if encoded.tokens is None else len(encoded.tokens.cell_seconds),
        tokens_dense=dense,
        tokens_encoded=0 if encoded.tokens is None else len(encoded.tokens),
        tokens_selected=selected,
        llm_tokens_fed=words + selected + prefix.asked,
        kv_tokens_per_layer=visual,
        kv_bytes=sum(visual) * backbone.kv_entry_bytes,
        ratio_nominal=prefix.point.ratio,
        ratio_achieved=sum(visual) / (len(visual) * dense),
        shared_prefix=prefix.shared,
        peak_bytes=max(encoded.peak_bytes, clock.meter.peak_bytes()),
        seconds_shared=encoded.shared,
        seconds=clock.seconds(*encoded.clocks, prefix.clock),
        flops=operations,
    )


def kept(prefix: Prefix) -> KeptOverTime | None:
    """What is left of each cell in the cache; text that follows changes nothing of it."""
    tokens, context = prefix.encoded.tokens, prefix.context
    if tokens is None:
        return None
    cells = [t for t, held in enumerate(context.visual_per_cell.tolist()) if held]
    return KeptOverTime(
        seconds=tuple(round(float(tokens.cell_seconds[t]), 3) for t in cells),
        tokens=tuple(round(int(context.visual_per_cell[t]) / len(context.layers), 2) for t in cells),
        cells=tuple(cells),
    )
