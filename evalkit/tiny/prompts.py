"""The token ids around a video, exactly as evaluation builds them from lmms-eval's prompts and the chat template."""

from __future__ import annotations

from functools import lru_cache

from evalkit.tiny import tokenizer
from evalkit.tiny.videos.questions import Choice, lettered

BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"
FORMATS = ("videomme", "mlvu", "lvbench")
STYLES = {"videomme": "{}. ", "mlvu": "({}) ", "lvbench": "({}) "}
FIRST_LINE = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
LAST_LINES = {
    "videomme": "\n\nAnswer with the option's letter from the given choices directly.",
    "mlvu": "\n\nOnly give the best option.\nBest option: (",
    "lvbench": "\nAnswer the question with the option letter",
}


def prompt(choice: Choice, benchmark: str) -> str:
    """The user's text for a question in a benchmark's format (protocol `lmms_eval`)."""
    first = FIRST_LINE if benchmark == "videomme" else ""
    options = "\n".join(lettered(choice.options, STYLES[benchmark]))
    return f"{first}{choice.question.text}\n{options}{LAST_LINES[benchmark]}"


def prefix_ids() -> list[int]:
    """Ids before the video."""
    return list(_encode(BEFORE))


def suffix_ids(choice: Choice, benchmark: str) -> list[int]:
    """Ids after the video, up to the reply."""
    return list(_lines("<|vision_end|>" + prompt(choice, benchmark) + AFTER))


def question_ids(text: str) -> list[int]:
    """Ids of a question alone, after the video: what stage 1 begins with."""
    return list(_encode("<|vision_end|>" + text))


@lru_cache(maxsize=1)
def vocab() -> dict[str, int]:
    """Token id of every token, by its plain text."""
    built = tokenizer.build()
    return {built.decode([i]): i for i in range(len(built))}


def _lines(text: str) -> list[int]:
    """As `_encode`, line by line, so that lines that recur are encoded once."""
    newline = vocab()["\n"]
    ids: list[int] = []
    for i, line in enumerate(text.split("\n")):
        ids += ([newline] if i else []) + list(_encode(line))
    return ids


@lru_cache(maxsize=65536)
def _encode(text: str) -> tuple[int, ...]:
    return tuple(_core().encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=1)
def _core():  # type: ignore[no-untyped-def]  # tokenizers has no type information
    return tokenizer.build().backend_tokenizer
