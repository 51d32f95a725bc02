"""A small engine for tests: a few questions on one clip, and a protocol that needs no lmms-eval."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from evalkit.data.protocols.base import Average, PromptContext, Protocol, official_micro
from evalkit.data.sampling import Sampling
from evalkit.engine.answer import Engine
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.method import Method, OperatingPoint
from evalkit.model.video_llm import VideoLLM
from evalkit.types import Answer, FrameScores, Question, Reply

MARGIN = 2e-3  # between margins that differ by rounding alone; they are told to four decimals


class FirstLetterProtocol(Protocol):
    """The question's text is the prompt; a reply's first letter counts."""

    name = "plain"
    version = "0"
    stop = ()
    subtitles = False

    def __init__(self, new_tokens: int = 6) -> None:
        self.new_tokens = new_tokens

    def prompt(self, question: Question, context: PromptContext | None = None) -> str:
        """Text and options."""
        return f"{question.text}\n{' '.join(question.options)}"

    def max_new_tokens(self, benchmark_name: str) -> int:
        """Six tokens, unless told otherwise."""
        return self.new_tokens

    def read(self, question: Question, text: str) -> Reply:
        """The first character that is no white space."""
        letter = text.strip()[:1] or None
        return Reply(letter=letter, correct=letter == question.answer)

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """Percent right."""
        return official_micro(rows)


def question(video: Path, number: int, **changes: Any) -> Question:
    """Question `number` on a video file, with other fields where `changes` name them."""
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
        "frame_scores": scores(range(160), seed=number),
    }
    return Question(**{**fields, **changes})


def scores(frames: range, *, seed: int = 0) -> FrameScores:
    """Scores of frames for a question, drawn at random."""
    draw = Random(seed)
    return FrameScores(at=tuple(frames), scores=tuple(draw.random() for _ in frames))


def size(backbone: VideoLLM) -> tuple[int, int]:
    """Height and width of a frame of 4 x 4 visual tokens, or the one that the backbone takes."""
    side = backbone.pixels_per_token
    if side is None:
        assert backbone.frame_size is not None
        return backbone.frame_size
    return 4 * side, 4 * side


def engine(backbone: VideoLLM, *, frames: int = 32, new_tokens: int = 6, **changes: Any) -> Engine:
    """An engine that samples `frames` frames of at most 4 x 4 visual tokens and replies in `new_tokens` tokens."""
    height, width = size(backbone)
    sampling = Sampling(preset="lmms_eval", frames=frames, min_pixels=height * width // 16, max_pixels=height * width)
    encoding = {key: changes.pop(key) for key in ("encode_cells", "reader", "seed") if key in changes}
    encoder = FrameEncoder(backbone=backbone, sampling=sampling, **encoding)
    return Engine(
        frame_encoders=lambda adapters: dict.fromkeys(adapters, encoder),
        protocol=FirstLetterProtocol(new_tokens),
        **changes,
    )


def answer(
    engine: Engine, points: list[OperatingPoint], questions: list[Question]
) -> dict[tuple[str, float, str], Answer]:
    """Answers by method, ratio and question."""
    return {
        (point.name, point.ratio, a.question_id): a for point, a in engine.answers(dict.fromkeys(points, questions))
    }


def answer_key(answer: Answer) -> tuple[Any, ...]:
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
        spent.kv_separators_per_layer,
        spent.kv_bytes,
        spent.ratio_achieved,
        answer.kept,
    )


def exact_key(answer: Answer) -> tuple[Any, ...]:
    """The same, and the margin between the options, which other chunks leave only up to rounding.

    Two caches that differ may well give one short text, but hardly one margin.
    """
    return (*answer_key(answer), answer.margin)


def alike(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same up to the rounding that other chunks bring."""
    if answer_key(one) != answer_key(other):
        return False
    if one.margin is None or other.margin is None:
        return one.margin == other.margin
    return abs(one.margin - other.margin) <= MARGIN


DENSE = OperatingPoint("dense", Method(), 1.0)
