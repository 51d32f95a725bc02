"""ReTaKe's evaluation (arXiv 2412.20504; SCZwangxiao/video-ReTaKe at e268c32c): prompts of scripts/utils/build_*.py,
reader of retake/infer_eval.py, averages of retake/dataset_utils.py; greedy, 128 new tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.data.protocols import letters, subtitles
from evalkit.data.protocols.base import Average, PromptContext, macro, micro, official_macro, official_micro
from evalkit.data.protocols.official import SUBTITLES
from evalkit.data.protocols.table_protocol import TableProtocol, first_match, lettered, mlvu_parts
from evalkit.data.protocols.task import Task
from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

    from evalkit.types import Question

ANSWER = "Answer with the option's letter from the given choices directly."
SUBTITLE_TOKENS = 10_000  # of question and subtitles together
_NEW_TOKENS = 128


def _videomme(question: Question) -> str:
    return "\n".join([question.row["question"], "Options:", *question.row["options"], ANSWER])


def _videomme_subtitles(question: Question, context: PromptContext) -> str:
    """The whole file, its end cut off where question and subtitles are longer than 10,000 tokens."""
    asked, listed = _videomme(question), subtitles.all_lines(subtitles.cues(question))
    listed = _cut(listed, "<video>" + asked, context.tokenizer)  # they count their placeholder's tokens too
    return f"{SUBTITLES}\n{listed}\n{asked}" if listed else asked


def _cut(listed: str, asked: str, tokenizer: Any) -> str:
    if tokenizer is None:
        raise ConfigError("protocol=retake_subtitles cuts subtitles by tokens: it needs a checkpoint with a tokenizer")
    ids = tokenizer(listed)["input_ids"]
    over = len(tokenizer(asked)["input_ids"]) + len(ids) - SUBTITLE_TOKENS
    return str(tokenizer.decode(ids[:-over], skip_special_tokens=True)) if over > 0 else listed


def _mlvu(question: Question) -> str:
    text, candidates = mlvu_parts(question)
    return f"{text}\nOptions:\n" + lettered(candidates, "{}. {}.\n") + ANSWER


def _lvbench(question: Question) -> str:
    """Their replacements in the row's text: only the last option ends with a full stop."""
    text: str = question.row["question"].replace("\n(A)", "\nOptions:\nA.")
    for letter in "BCD":
        text = text.replace(f"\n({letter})", f"\n{letter}.")
    return f"{text}.\n{ANSWER}"


def _mean_of_durations(rows: Average) -> dict[str, float]:
    return {"mean of durations": macro(rows, "duration"), "micro (official)": micro(rows)}


VIDEOMME = Task(
    ask=_videomme,
    ask_with_subtitles=_videomme_subtitles,
    letter=letters.retake,
    averages=_mean_of_durations,
    max_new_tokens=_NEW_TOKENS,
    scoring_note="an unreadable reply is wrong",
)
MLVU = Task(
    ask=_mlvu,
    letter=letters.retake,
    gold=first_match,
    leaves_out=lambda gold, text, letter: gold == "",
    averages=official_macro,
    max_new_tokens=_NEW_TOKENS,
    scoring_note=(
        "an unreadable reply is wrong; of two equal right options the first one counts; "
        "rows without a right option are excluded"
    ),
)
LVBENCH = Task(
    ask=_lvbench,
    letter=letters.retake,
    averages=official_micro,
    max_new_tokens=_NEW_TOKENS,
    scoring_note="an unreadable reply is wrong; a question with several types counts in each",
)
PROTOCOL = TableProtocol(name="retake", version="1")
