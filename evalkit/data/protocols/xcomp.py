"""XComp's evaluation (arXiv 2604.14149, at 61feb11a), which is VideoChat-Flash's (at 2f8e2f57):
lmms-eval_videochat/lmms_eval/tasks/{videomme,mlvu_mc,lvbench}/utils.py; greedy, 16 new tokens.

The sentence with the video's length and number of frames that their model writes before each question belongs to that
model, not to the tasks; it is not here.

Differs: empty replies are left out of one average over all questions, where theirs weighs each task's average by all
its rows. Their log's 66.67 on MLVU is this average, 3 points above the official one. With subtitles, the text around
the whole SRT file follows the template that the rest of the prompt comes from; it was not checked against their code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evalkit.data.protocols import letters, subtitles
from evalkit.data.protocols.base import Average, PromptContext, macro, micro, official_micro
from evalkit.data.protocols.official import SELECT, SUBTITLES
from evalkit.data.protocols.retake import ANSWER
from evalkit.data.protocols.table_protocol import TableProtocol, first_match, lettered, mlvu_parts
from evalkit.data.protocols.task import Task

if TYPE_CHECKING:
    from evalkit.types import Question

_FRAMES = "These are the frames of a video."
_NEW_TOKENS = 16
_OPTION = re.compile(r"\n(?=\([A-D]\))")


def _videomme(question: Question) -> str:
    return f"{_FRAMES} {SELECT}\n{_asked(question)}"


def _videomme_subtitles(question: Question, _: PromptContext) -> str:
    listed = subtitles.all_lines(subtitles.cues(question))
    return f"{_FRAMES} {SUBTITLES}\n{listed}\n{SELECT}\n{_asked(question)}" if listed else _videomme(question)


def _asked(question: Question) -> str:
    return "\n".join([f"Question: {question.row['question']}", "Option:", *question.row["options"], ANSWER])


def _mlvu(question: Question) -> str:
    text, candidates = mlvu_parts(question)
    return f"Question:{text}\nOption:\n" + lettered(candidates, "({}) {}\n") + ANSWER


def _lvbench(question: Question) -> str:
    """Two letters an option: one is in their candidates already."""
    text, *candidates = _OPTION.split(question.row["question"])
    if len(candidates) != len(question.options):  # lines of another spelling, indented for one
        text, candidates = question.text, lettered(question.options, "({}) {}\n").split("\n")[:-1]
    return f"{text}\n" + lettered(tuple(candidates), "{}. {}\n") + ANSWER


def _micro(rows: Average) -> dict[str, float]:
    return {"micro": micro(rows), "macro (official)": macro(rows, "task_type")}


def _empty(gold: str, text: str, letter: str) -> bool:
    return text == ""


VIDEOMME = Task(
    ask=_videomme,
    ask_with_subtitles=_videomme_subtitles,
    letter=letters.videomme_flash,
    averages=official_micro,
    max_new_tokens=_NEW_TOKENS,
    scoring_note="an unreadable reply is wrong",
)
MLVU = Task(
    ask=_mlvu,
    letter=letters.flash,
    gold=first_match,
    leaves_out=_empty,
    averages=_micro,
    max_new_tokens=_NEW_TOKENS,
    scoring_note=(
        "an unreadable reply is wrong, an empty one is excluded; of two equal right options the first one counts; "
        "every reply to a row without a right option is wrong"
    ),
)
LVBENCH = Task(
    ask=_lvbench,
    letter=letters.flash,
    leaves_out=_empty,
    averages=official_micro,
    max_new_tokens=_NEW_TOKENS,
    scoring_note="an unreadable reply is wrong, an empty one is excluded",
)
PROTOCOL = TableProtocol(name="xcomp", version="1")
