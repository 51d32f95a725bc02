"""What one answer cost, counted when it has been given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.ledger import Flops, Ledger

if TYPE_CHECKING:
    from evalkit.engine.encoded_video import PrefilledVideo
    from evalkit.engine.stage_times import Clock
    from evalkit.model.flops import OpCounts
    from evalkit.model.video_llm import VideoLLM


def flops(backbone: VideoLLM, prefilled: PrefilledVideo, before: OpCounts, generated: OpCounts) -> Flops:
    """Operations of each stage; `before` is everything that was computed before the answer's second token."""
    chosen = 0 if prefilled.selected is None else prefilled.selected.flops
    return Flops(
        encode=prefilled.encode_flops,
        select=backbone.flops(prefilled.selection_op_counts) + chosen,
        prefill=backbone.flops(before),
        generate=backbone.flops(generated),
    )


def own_flops(backbone: VideoLLM, prefilled: PrefilledVideo, before: OpCounts, generated: OpCounts) -> int:
    """Operations of an answer that no other question about the video needs; the state is back at the question's mark.

    The question itself and the reply; under a query-aware method also the video's prefill and the choice of tokens,
    without the passes over the video that came before any question; and encoding, where it chooses frames.
    """
    if not prefilled.point.method.query_aware:
        return backbone.flops(before - prefilled.state.op_counts + generated)
    chosen = 0 if prefilled.selected is None else prefilled.selected.flops
    choice = prefilled.selection_op_counts - prefilled.reused_op_counts
    own_frames = prefilled.encoded.tokens if prefilled.point.method.needs_frame_scores else None
    encoded = 0 if own_frames is None else backbone.encode_flops(len(own_frames.cell_seconds), own_frames.grid)
    return backbone.flops(choice + before + generated) + chosen + encoded


def ledger(
    backbone: VideoLLM,
    prefilled: PrefilledVideo,
    *,
    n_text_tokens: int,
    visual: tuple[int, ...],
    clock: Clock,
    operations: Flops,
    own_flops: int,
) -> Ledger:
    """What a question cost: `n_text_tokens` fed, `visual` KV entries in each layer when its answer began.

    `clock` has the seconds of the question and the reply, `own_flops` are operations that no other question needs.
    """
    encoded, dense = prefilled.encoded, prefilled.budget.dense_tokens
    method = prefilled.point.method
    alone = [*encoded.clocks] if method.needs_frame_scores else []
    own = clock.seconds(*alone, prefilled.clock) if method.query_aware else clock.seconds()
    selected = 0 if prefilled.selected is None else len(prefilled.selected)
    merged = None if prefilled.selected is None else prefilled.selected.merged
    return Ledger(
        frames_decoded=len(encoded.plan.indices),
        cells=0 if encoded.tokens is None else len(encoded.tokens.cell_seconds),
        tokens_dense=dense,
        tokens_encoded=0 if encoded.tokens is None else len(encoded.tokens),
        tokens_selected=selected,
        tokens_represented=selected if merged is None else int(merged.source.bincount().count_nonzero()),
        llm_tokens_fed=n_text_tokens
        + selected
        + prefilled.state.separators_fed
        + prefilled.state.guides_fed
        + prefilled.selection_tokens,
        kv_tokens_per_layer=visual,
        kv_separators_per_layer=tuple(prefilled.state.separators) if prefilled.state.separators_fed else (),
        kv_bytes=sum(visual) * backbone.kv_entry_bytes,
        ratio_nominal=prefilled.point.ratio,
        ratio_achieved=sum(visual) / (len(visual) * dense),
        shared_prefix=prefilled.shared,
        peak_bytes=max(encoded.peak_bytes, clock.meter.peak_bytes()),
        seconds_shared=encoded.shared,
        seconds=clock.seconds(*encoded.clocks, prefilled.clock),
        flops=operations,
        own_seconds=round(own.total, 6),
        own_flops=own_flops,
    )
