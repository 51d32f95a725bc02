"""What the benchmarks' authors publish: prompt, reader and average of each.

Sources: Video-MME's README (MME-Benchmarks/Video-MME at 06c2315b) and its scorer (thanku-all/parse_answer at afd52cfe);
MLVU's evaluation/multiple_choice_evaluation/choice_bench.py (JUNJIE99/MLVU at fd060c10); LVBench's answer_util.py and
compute_accuracy.py (THUDM/LVBench at f998d955).

What they leave open: Video-MME and LVBench give no length of a reply (16 tokens here, as lmms-eval); LVBench gives no
prompt (the row's own text here: question and options); how Video-MME joins subtitles (one a line here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.data.protocols import letters, subtitles
from evalkit.data.protocols.base import PromptContext, official_macro, official_micro
from evalkit.data.protocols.table_protocol import TableProtocol, lettered, mlvu_parts
from evalkit.data.protocols.task import Task

if TYPE_CHECKING:
    from evalkit.types import Question

SELECT = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
SUBTITLES = "This video's subtitles are listed below:"


def _videomme(question: Question) -> str:
    return "\n".join([SELECT, question.row["question"], *question.row["options"], "The best answer is:"])


def _videomme_subtitles(question: Question, context: PromptContext) -> str:
    listed = subtitles.at(subtitles.cues(question), context.seconds)
    return f"{SUBTITLES}\n{listed}\n{_videomme(question)}" if listed else _videomme(question)


def _mlvu(question: Question) -> str:
    text, candidates = mlvu_parts(question)
    asked = f"Question: {text}\nOptions:\n" + lettered(candidates, "({}) {}\n")
    return asked.rstrip() + "\nOnly give the best option."


def _lvbench(question: Question) -> str:
    text: str = question.row["question"]
    return text


VIDEOMME = Task(
    ask=_videomme,
    ask_with_subtitles=_videomme_subtitles,
    letter=letters.videomme_official,
    leaves_out=lambda gold, text, letter: letter == "",
    averages=official_micro,
    max_new_tokens=16,
    scoring_note="an unreadable reply is excluded from every average",
)
MLVU = Task(
    ask=_mlvu,
    system=(
        "Carefully watch this video and pay attention to every detail. "
        "Based on your observations, select the best option that accurately addresses the question."
    ),
    prefill="Best Option: (",
    letter=letters.mlvu_official,
    averages=official_macro,
    max_new_tokens=100,  # choice_bench.py of the repository's baselines, greedy
    scoring_note=(
        "an unreadable reply is wrong; of two equal right options the last one counts; "
        "every reply to a row without a right option is wrong"
    ),
)
LVBENCH = Task(
    ask=_lvbench,
    letter=letters.lvbench_official,
    averages=official_micro,
    max_new_tokens=16,
    scoring_note="an unreadable reply is wrong; a question with several types counts in each",
)
PROTOCOL = TableProtocol(name="official", version="1")
