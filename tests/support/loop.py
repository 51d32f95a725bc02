"""A small loop for tests: one generated clip, a few questions, a protocol without lmms-eval's import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.data.protocols.base import Average, PromptContext, Protocol, official_micro
from evalkit.data.sampling import Sampling
from evalkit.engine.answer import Engine
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.method import Method, OperatingPoint
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.prefill_state import PrefillState
from evalkit.types import Answer, Question, Reply


def replied(decoder: Decoder, context: PrefillState, tail: list[int], count: int) -> list[int]:
    """Feed the ids of a tail and decode greedily."""
    return decoder.generate(context, decoder.next_token(context, decoder.prefill_text(context, tail)), count)


class PlainProtocol(Protocol):
    """The question's text is the prompt; a reply's first letter counts."""

    name = "plain"
    version = "0"
    stop = ()
    subtitles = False

    def prompt(self, question: Question, shown: PromptContext | None = None) -> str:
        return f"{question.text}\n{' '.join(question.options)}"

    def max_new_tokens(self, benchmark_name: str) -> int:
        return 6

    def read(self, question: Question, text: str) -> Reply:
        letter = text.strip()[:1] or None
        return Reply(letter=letter, correct=letter == question.answer)

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        return official_micro(rows)


def question(video: Path, number: int, **changes: Any) -> Question:
    fields: dict[str, Any] = {
        "benchmark": "mlvu",
        "id": f"q{number}",
        "video_id": video.name,
        "video_path": video,
        "text": ["How many objects appear?", "Which place is shown?", "What comes next?"][number % 3] + "!" * number,
        "options": ("one", "two"),
        "answer": "A",
        "groups": {"task_type": ("count",)},
        "row": {},
    }
    return Question(**{**fields, **changes})


def engine(backbone: Qwen2VL, *, frames: int = 32, **changes: Any) -> Engine:
    sampling = Sampling(preset="lmms_eval", frames=frames, min_pixels=28 * 28, max_pixels=112 * 112)
    looks = {key: changes.pop(key) for key in ("encode_cells", "reader", "seed") if key in changes}
    return Engine(
        frame_encoder=FrameEncoder(backbone=backbone, sampling=sampling, **looks), protocol=PlainProtocol(), **changes
    )


def answer(
    engine: Engine, points: list[OperatingPoint], questions: list[Question]
) -> dict[tuple[str, float, str], Answer]:
    """Answers by method, ratio and question."""
    return {
        (point.name, point.ratio, a.question_id): a for point, a in engine.answers(dict.fromkeys(points, questions))
    }


def said(answer: Answer) -> tuple[Any, ...]:
    """What must not depend on sharing, chunks or order: all but seconds and peak memory."""
    spent = answer.ledger
    assert spent is not None, answer.error
    return (
        answer.text,
        answer.letter,
        answer.correct,
        answer.prompt_sha,
        spent.frames_decoded,
        spent.cells,
        spent.tokens_encoded,
        spent.tokens_selected,
        spent.llm_tokens_fed,
        spent.kv_tokens_per_layer,
        spent.kv_bytes,
        spent.ratio_achieved,
        answer.kept,
    )


DENSE = OperatingPoint("dense", Method(), 1.0)
