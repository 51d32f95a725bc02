"""A question after its video: fed to the prefilled cache, replied to, and taken back.

Questions on one cache are read in one feed where that gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.engine import accounting, records
from evalkit.engine.encoded_video import Replied
from evalkit.engine.stage_times import Clock
from evalkit.errors import DataError
from evalkit.model import option_margin, reply_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.data.protocols import Protocol
    from evalkit.engine.encoded_video import PrefilledVideo
    from evalkit.engine.prompts import Prompts
    from evalkit.engine.stage_times import Meter
    from evalkit.model.tails import Tail
    from evalkit.types import Answer, Question


@dataclass(frozen=True)
class ReadQuestion:
    """A question that was read with others, its part of the seconds that this took (by tokens), and of its reply what
    was read ahead with other replies.
    """

    tail: Tail
    seconds: float
    reply: Sequence[Tail] = ()
    reply_seconds: float = 0.0


def read_together(
    prefilled: PrefilledVideo, questions: Sequence[Question], prompts: Prompts, meter: Meter
) -> dict[str, ReadQuestion]:
    """By id, those of `questions` that are read in one feed; what is missing is fed in its turn."""
    backbone = prefilled.backbone
    asked = {one.id: ids for one in questions if (ids := _suffix_ids(prefilled, one, prompts)) is not None}
    if len(asked) < 2 or prefilled.hidden is not None or not backbone.reads_together:
        return {}
    start = meter.now()
    tails = backbone.read_tails(prefilled.state, list(asked.values()))
    each = (meter.now() - start) / sum(map(len, asked.values()))
    read = [ReadQuestion(tail, each * len(tail.token_ids)) for tail in tails]
    return dict(
        zip(asked, _with_replies(prefilled, read, questions[0].benchmark, prompts.protocol, meter), strict=True)
    )


def _with_replies(
    prefilled: PrefilledVideo, read: Sequence[ReadQuestion], benchmark: str, protocol: Protocol, meter: Meter
) -> list[ReadQuestion]:
    """Questions with what can be read ahead of their replies."""
    backbone, state = prefilled.backbone, prefilled.state
    limit = protocol.max_new_tokens(benchmark)
    if limit < 2 or not backbone.replies_together:
        return list(read)
    start = meter.now()
    found = reply_ahead.read_ahead(backbone, state, [one.tail for one in read], limit, protocol.stop)
    each = (meter.now() - start) / max(1, sum(map(len, found)))
    return [replace(one, reply=own, reply_seconds=each * len(own)) for one, own in zip(read, found, strict=True)]


def _suffix_ids(prefilled: PrefilledVideo, question: Question, prompts: Prompts) -> Sequence[int] | None:
    """Ids after the video; None where a question has a reply already, or cannot be asked, as is seen in its turn."""
    if question.id in prefilled.replies:
        return None
    try:
        prompt = prompts.text(prefilled.backbone, question, prefilled.encoded)
        return prompts.ids(prefilled.backbone, prompt, question.benchmark, prefilled.encoded)[1]
    except DataError:
        return None


def replied(
    prefilled: PrefilledVideo, question: Question, prompts: Prompts, meter: Meter, read: ReadQuestion | None = None
) -> Replied:
    """Feed a question, unless it was read with others, and decode the reply; the state is as it was before."""
    backbone, state, protocol = prefilled.backbone, prefilled.state, prompts.protocol
    prompt = prompts.text(backbone, question, prefilled.encoded)
    prefix_ids, suffix_ids = prompts.ids(backbone, prompt, question.benchmark, prefilled.encoded)
    clock, mark = Clock(meter), state.mark()
    try:
        with clock.stage("prefill"):
            if prefilled.hidden is not None:
                hidden = prefilled.hidden
            elif read is not None:
                hidden = backbone.append_tail(state, read.tail)
            else:
                hidden = backbone.prefill_text(state, suffix_ids)
            logits = backbone.score_next(state, hidden)
            first = backbone.choose(state, logits)
        clock.spent["prefill"] += 0.0 if read is None else read.seconds
        visual, before = tuple(state.visual), state.op_counts
        with clock.stage("generate"):
            limit = protocol.max_new_tokens(question.benchmark)
            ids = backbone.generate(state, first, limit, protocol.stop, ahead=() if read is None else read.reply)
        clock.spent["generate"] += 0.0 if read is None else read.reply_seconds
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


def answer(
    prefilled: PrefilledVideo, question: Question, prompts: Prompts, meter: Meter, read: ReadQuestion | None = None
) -> Answer:
    """One operating point's answer. Operating points that share a cache share the reply, which counts in full."""
    found = prefilled.replies.get(question.id)
    if found is None:
        found = prefilled.replies[question.id] = replied(prefilled, question, prompts, meter, read)
    backbone, protocol = prefilled.backbone, prompts.protocol
    gold, reply = protocol.gold(question), protocol.read(question, found.text)
    if wrong := reply.contradiction(gold):
        raise DataError(f"protocol={protocol.name}: {wrong}; correct its read() or gold()")
    return records.answered(
        prefilled.point,
        question,
        prefilled.encoded.video,
        prompt=found.prompt,
        text=found.text,
        gold=gold,
        reply=reply,
        ledger=accounting.ledger(
            backbone,
            prefilled,
            n_text_tokens=found.n_text_tokens,
            visual=found.visual,
            clock=found.clock,
            operations=accounting.flops(backbone, prefilled, found.before, found.generated),
            own_flops=accounting.own_flops(backbone, prefilled, found.before, found.generated),
        ),
        kept=prefilled.kept,
        repeated=found.repeated,
        margin=found.margin,
        stand_ins=prefilled.encoded.stand_ins,
    )
