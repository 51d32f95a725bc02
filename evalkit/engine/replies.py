"""A question after its video: fed to the prefilled cache, replied to, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.engine import accounting, records
from evalkit.engine.encoded_video import Replied
from evalkit.engine.stage_times import Clock
from evalkit.model import option_margin

if TYPE_CHECKING:
    from evalkit.engine.encoded_video import PrefilledVideo
    from evalkit.engine.prompts import Prompts
    from evalkit.engine.stage_times import Meter
    from evalkit.types import Answer, Question


def replied(prefilled: PrefilledVideo, question: Question, prompts: Prompts, meter: Meter) -> Replied:
    """Feed a question and decode the reply; the state is as it was before."""
    backbone, state, protocol = prefilled.backbone, prefilled.state, prompts.protocol
    prompt = prompts.text(backbone, question, prefilled.encoded)
    prefix_ids, suffix_ids = prompts.ids(backbone, prompt, question.benchmark, prefilled.encoded)
    clock, mark = Clock(meter), state.mark()
    try:
        with clock.stage("prefill"):
            hidden = prefilled.hidden if prefilled.hidden is not None else backbone.prefill_text(state, suffix_ids)
            logits = backbone.score_next(state, hidden)
            first = backbone.choose(state, logits)
        visual, before = tuple(state.visual), state.op_counts
        with clock.stage("generate"):
            limit = protocol.max_new_tokens(question.benchmark)
            ids = backbone.generate(state, first, limit, protocol.stop)
        generated = state.op_counts - before
    finally:
        state.rewind(mark)
    return Replied(
        prompt=prompt,
        text=backbone.tokenizer.decode(ids, skip_special_tokens=True),
        repeated=records.is_repeated(ids, limit),
        margin=option_margin.margin(logits, backbone.letter_ids, protocol.gold(question), len(question.options)),
        n_text_tokens=len(prefix_ids) + len(suffix_ids) + max(0, len(ids) - 1),  # the last one is not fed
        visual=visual,
        before=before,
        generated=generated,
        clock=clock,
    )


def answer(prefilled: PrefilledVideo, question: Question, prompts: Prompts, meter: Meter) -> Answer:
    """One operating point's answer. Operating points that share a cache share the reply, which counts in full."""
    found = prefilled.replies.get(question.id)
    if found is None:
        found = prefilled.replies[question.id] = replied(prefilled, question, prompts, meter)
    backbone, protocol = prefilled.backbone, prompts.protocol
    return records.answered(
        prefilled.point,
        question,
        prefilled.encoded.video,
        prompt=found.prompt,
        text=found.text,
        gold=protocol.gold(question),
        reply=protocol.read(question, found.text),
        ledger=accounting.ledger(
            backbone,
            prefilled,
            n_text_tokens=found.n_text_tokens,
            visual=found.visual,
            clock=found.clock,
            operations=accounting.flops(backbone, prefilled, found.before, found.generated),
            own_flops=accounting.own_flops(backbone, prefilled, found.before, found.generated),
        ),
        kept=accounting.kept(prefilled),
        repeated=found.repeated,
        margin=found.margin,
        stand_ins=prefilled.encoded.stand_ins,
    )
