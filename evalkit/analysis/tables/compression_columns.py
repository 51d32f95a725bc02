"""Columns of the tables that show what compression keeps: evidence recall, hard kinds, option margins, shared costs."""

from __future__ import annotations

from evalkit.analysis.tables.column import SIGNIFICANT, Column, section

_CI = (
    "95 % confidence interval clustered by video: ratio estimator over videos, factor G/(G-1), t with G-1 degrees of "
    "freedom"
)


def _ends(name: str, unit: str, decimals: int, of: str) -> tuple[Column, Column]:
    return (
        Column(f"{name}_low", "CI low", unit, decimals, f"lower end of the interval of {of}, a {_CI}"),
        Column(f"{name}_high", "CI high", unit, decimals, "upper end of it"),
    )


def _against(key: str, whose: str) -> tuple[Column, ...]:
    name = f"{key}_margin_delta"
    return (
        Column(f"{key}_margin_n", "n", "questions", 0, f"questions with a margin in both, the method and {whose}"),
        Column(name, "Δ margin", "nats", 2, f"mean margin of the method minus that of {whose}, question by question"),
        *_ends(name, "nats", 2, f"`{name}`"),
        Column(f"{key}_margin_z", "z (margin)", "", 1, f"`{name}` divided by its clustered standard error"),
        Column(
            f"{key}_accuracy_z",
            "z (accuracy)",
            "",
            1,
            "the same of the difference in accuracy on the same questions, its error made in the same way: where the "
            "margin's is farther from 0 it tells more of so many questions",
        ),
    )


EVIDENCE = (
    Column(
        "evidence_n",
        "n",
        "questions",
        0,
        "questions with evidence spans that a frame of the dense run shows, and of whose video something was kept",
    ),
    Column(
        "evidence_unseen",
        "unseen",
        "questions",
        0,
        "questions whose spans lie between the dense run's frames: in no other number",
    ),
    Column(
        "evidence_share",
        "in evidence (%)",
        "%",
        1,
        "evidence recall: share of the kept KV entries that lie in the spans, mean over questions. A cell's entries "
        "count in equal parts for its frames; a frame lies in a span if it is shown within it",
    ),
    *_ends("evidence_share", "%", 1, "`evidence_share`"),
    Column(
        "evidence_chance",
        "chance (%)",
        "%",
        1,
        "the same share of the dense run's entries, on the same questions: the part of the video's time that the spans "
        "cover at its cells, which a choice that knows nothing has in the mean",
    ),
    Column(
        "evidence_above_pp", "above chance (pp)", "percentage points", 1, "share minus chance, question by question"
    ),
    *_ends("evidence_above_pp", "percentage points", 1, "`evidence_above_pp`"),
    Column("evidence_hit", "hit (%)", "%", 1, "questions of which at least one kept entry lies in a span"),
    Column("evidence_hit_low", "CI low", "%", 1, "lower end of the interval of `evidence_hit`, as that of an accuracy"),
    Column("evidence_hit_high", "CI high", "%", 1, "upper end of it"),
    Column(
        "evidence_hit_chance",
        "hit by chance (%)",
        "%",
        1,
        "probability that as many of the dense run's frames as were kept, drawn at random, include one in a span; near "
        "100 for a method that keeps something of every cell, whose hits then say nothing",
    ),
)
HARD = (
    Column(
        "hard_n",
        "n",
        "questions",
        0,
        "questions of kinds on which the reference at this ratio loses against the dense run, chosen on the other half "
        "of the videos",
    ),
    Column("hard_videos", "videos", "videos", 0, "videos that they are about"),
    Column("hard_accuracy", "accuracy (%)", "%", 1, "accuracy on them"),
    Column("hard_accuracy_low", "CI low", "%", 1, "lower end of its interval, as that of any accuracy"),
    Column("hard_accuracy_high", "CI high", "%", 1, "upper end of it"),
    Column("hard_dense", "dense (%)", "%", 1, "accuracy of the dense run on them"),
    Column(
        "hard_delta_pp",
        "Δ accuracy (pp)",
        "percentage points",
        1,
        "accuracy of the method minus that of the reference at the same ratio on those that have a score in both",
    ),
    *_ends("hard_delta_pp", "percentage points", 1, "`hard_delta_pp`"),
)
MARGIN = (
    Column("margin_n", "n", "questions", 0, "scored questions with an option margin"),
    Column(
        "margin",
        "margin",
        "nats",
        2,
        "option margin: log-probability of the right letter minus that of the best wrong one at the reply's first "
        "token, mean. Not measured in answers of versions that did not write it",
    ),
    *_ends("margin", "nats", 2, "`margin`"),
    *_against("dense", "the dense run"),
    *_against("reference", "the reference at the same ratio"),
)
COST = (
    Column("questions_per_video", "questions/video", "questions", 1, "answered questions divided by their videos"),
    Column(
        "tflops_amortised",
        "TFLOPs/question (amortised)",
        "10¹² operations, apportioned",
        SIGNIFICANT,
        "what a question needs alone, plus an equal part of what all answered questions about its video need: encoding "
        "and, unless the method looks at the question, choice and prefill; of a choice that does, the passes over the "
        "video that come before any question. Depends on the questions per video; no best is marked",
    ),
    Column(
        "total_s_amortised",
        "s/question (amortised)",
        "s, apportioned",
        3,
        "the same of seconds, decoding among what is shared; a choice that looks at the question counts in full. Where "
        "`seconds` is `timed`, the median over the timed videos; comparable where `total_s` is",
    ),
)
OWN = section(*EVIDENCE, *HARD, *MARGIN, *COST)
