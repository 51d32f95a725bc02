"""The registry of columns: what terminal, Markdown, CSV, LaTeX, the report and results/README.md call a measure.

A table's section maps a column's name in CSV files to its heading, unit, decimals and definition. Headings and decimals
are taken from here wherever a measure is shown, so that one measure has one name; results/README.md prints the sections
(`python -m evalkit.analysis.tables.columns results/README.md` writes them into it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from evalkit.analysis.tables import compression_columns
from evalkit.analysis.tables.column import SIGNIFICANT, TEXT, Column
from evalkit.analysis.tables.column import section as _section

__all__ = ["SECTIONS", "SIGNIFICANT", "TEXT", "Column", "documented", "filled", "texts", "titles"]

_CI = "95 % confidence interval"
_BOOTSTRAP = f"{_CI}: percentile bootstrap over videos of the paired per-video sums, 10,000 resamples, seeded"
_FLIP_TEST = (
    "sign-flip permutation test that exchanges the two runs video by video: all patterns of signs up to 10,000, else "
    "as many, seeded; the smallest value it can then show is 0.0002 before Holm. It lets the questions of a video "
    "depend on each other"
)
_MCNEMAR = (
    "McNemar's exact test of gained against lost. It takes questions as independent: with 15 questions a video that "
    "move together it rejects 30 to 40 % of true nulls at 0.05. No star, gate or sentence rests on it"
)
_HOLM = "adjusted for the rows of the table (Holm), without rows that repeat the run they are compared with"

KEYS = _section(
    Column("benchmark", "benchmark", "", TEXT, "the question set; generated videos say so, and in which format"),
    Column("split", "split", "", TEXT, "the benchmark's split, e.g. test or dev"),
    Column("backbone", "backbone", "", TEXT, "part of the setup; no table, plot or difference mixes two setups"),
    Column("sampling", "sampling", "", TEXT, "part of the setup: the preset of frame sampling, and the frames"),
    Column("protocol", "protocol", "", TEXT, "part of the setup: prompts, reading of replies, averages"),
    Column(
        "weights",
        "weights",
        "",
        TEXT,
        "which weights answered: `base`, the checkpoint's own, or `adapter NAME`, tuned ones. Methods may bring an "
        "adapter of their own; they stand beside the others on the same backbone",
    ),
    Column(
        "method",
        "method",
        "",
        TEXT,
        "its configured name, in the order of the configuration. `name#1f0c22aa`: two runs of a setup differ in "
        "something no column shows (a hyper-parameter, the method's source, the version of the code, the subset); the "
        "first digits of the run's identity distinguish them",
    ),
    Column(
        "ratio",
        "ratio",
        "",
        TEXT,
        "nominal ratio: the share of the dense run's visual KV entries that the method was allowed",
    ),
)
GROUPS = _section(
    Column(
        "group",
        "group",
        "",
        TEXT,
        "which questions: `all`; `average`, the protocol's averages; or a kind of group (`duration`, `task_type`, …)",
    ),
    Column("value", "value", "", TEXT, "the label in the group; a question with several labels counts under each"),
)
ACCURACY = _section(
    Column("n", "n", "questions", 0, "scored questions"),
    Column("videos", "videos", "videos", 0, "videos that the questions are about: the clusters of the interval"),
    Column("accuracy", "accuracy (%)", "%", 1, "right answers among the scored ones"),
    Column(
        "ci_low",
        "CI low",
        "%",
        1,
        f"lower end of the {_CI}, clustered by video: ratio estimator over videos, factor G/(G-1), t with G-1 degrees "
        "of freedom. Empty (`–`) with a single video. Where every video has the same share of right answers, Wilson's "
        "interval with one trial a video",
    ),
    Column("ci_high", "CI high", "%", 1, "upper end of it"),
    Column("ci_half_width", "±", "%", 1, "the larger distance from `accuracy` to an end of the interval"),
    Column(
        "failed",
        "failed",
        "questions",
        0,
        "questions without an answer (broken video, bad row, out of memory, features or logits that are not finite): "
        "in no accuracy",
    ),
    Column(
        "unparsed",
        "unparsed",
        "questions",
        0,
        "replies in which no option could be read: the protocol decides what becomes of them, which the notes say",
    ),
    Column(
        "repeated",
        "repeated",
        "questions",
        0,
        "replies that used all of the protocol's new tokens (two or more) and are one token over and over; they are "
        "scored as any other. Not counted in answers of versions that did not write it",
    ),
)
DIFFERENCES = _section(
    Column("reference", "reference", "", TEXT, "the method that is subtracted: the reference of the setup"),
    Column("n", "n", "questions", 0, "questions that have a score in both runs"),
    Column(
        "excluded",
        "excluded",
        "questions",
        0,
        "questions without a score in one of the two: failed, not answered yet, or not scored by the protocol",
    ),
    Column("videos", "videos", "videos", 0, "videos that the questions are about: the clusters of interval and test"),
    Column("delta_pp", "Δ accuracy (pp)", "percentage points", 1, "accuracy of `method` minus that of `reference`"),
    Column("ci_low", "CI low", "percentage points", 1, f"lower end of the {_BOOTSTRAP}"),
    Column("ci_high", "CI high", "percentage points", 1, "upper end of it"),
    Column("gained", "gained", "questions", 0, "questions that only `method` has right"),
    Column("lost", "lost", "questions", 0, "questions that only `reference` has right"),
    Column("p_sign_flip", "p (sign flip), raw", "", 3, _FLIP_TEST),
    Column("p_sign_flip_holm", "p (sign flip)", "", 3, f"the same, {_HOLM}"),
    Column("p_mcnemar", "p (McNemar), raw", "", 3, _MCNEMAR),
    Column("p_mcnemar_holm", "p (McNemar)", "", 3, f"the same, {_HOLM}"),
    Column(
        "expected_ci_half_width",
        "expected CI half-width",
        "percentage points",
        1,
        "half the 95 % interval of a difference on `n` independent questions of which 10 % flip: what so many "
        "questions can show",
    ),
)
_STAGES = ("decode", "encode", "select", "prefill", "generate")
BUDGET = _section(
    Column("n", "n", "questions", 0, "questions that were answered"),
    Column("frames", "frames", "frames", 1, "distinct frames of the video that were decoded"),
    Column("cells", "cells", "cells", 1, "temporal cells encoded"),
    Column("tokens_encoded", "encoded", "tokens", 0, "visual tokens that left the vision encoder"),
    Column("tokens_selected", "selected", "tokens", 0, "visual tokens handed to the LLM"),
    Column(
        "tokens_represented",
        "represented",
        "tokens",
        0,
        "encoded tokens that those handed to the LLM stand for, each counted once: more than `tokens_selected` where a "
        "method merged some before the LLM. Empty for answers of older versions",
    ),
    Column(
        "llm_tokens_fed",
        "LLM",
        "tokens",
        0,
        "all tokens fed to the LLM: text, video, scoring passes, generated ones",
    ),
    Column("kv_tokens", "KV", "entries a layer", 1, "visual entries in the cache at answer time, mean over layers"),
    Column(
        "separators",
        "separators",
        "entries a layer",
        1,
        "entries in the cache at answer time that stand between visual ones, newlines or times as text, mean over "
        "layers; neither `kv_tokens`, `kv_mb` nor a ratio counts them",
    ),
    Column("kv_mb", "KV MB", "10⁶ bytes", 2, "their keys and values in all layers"),
    Column(
        "ratio_achieved",
        "achieved",
        "",
        3,
        "visual entries at answer time, summed over layers, as a share of the dense run's",
    ),
    Column(
        "tflops",
        "TFLOPs",
        "10¹² operations",
        SIGNIFICANT,
        "floating-point operations of matrix products, two for a multiply-add: vision encoder, LLM with its scoring "
        "passes, and what a method counts of its own. Attention counts as whole rectangles of queries × keys. Closed "
        "form of what each pass counted, equal to torch's flop counter for every method (`tests/model/test_flops.py`); "
        "elementwise work is not in it",
    ),
    Column(
        "ttft_s",
        "TTFT",
        "s",
        3,
        "time to the first token: decode, encode, select and prefill, with the first token's scores. Reading a file's "
        "packets for the times of its frames, the same for all, comes before",
    ),
    *(Column(f"{stage}_s", stage, "s", 3, f"the stage {stage}") for stage in _STAGES),
    Column("total_s", "total", "s", 3, "all stages together"),
    Column(
        "ratio_off",
        "!",
        "",
        TEXT,
        "`ratio_achieved` is more than 2 % away from `ratio` (`abs(achieved / nominal - 1) > 0.02`); never set where "
        "nothing is spent at all",
    ),
    Column(
        "peak_mb",
        "peak MB",
        "10⁶ bytes",
        0,
        "highest memory of any question, encoder and all weights that the run has loaded included: CUDA allocator, or "
        "the process's resident set on a CPU (which includes all that ran before; empty where `seconds` is `timed`)",
    ),
    Column(
        "seconds",
        "seconds",
        "",
        TEXT,
        "how `*_s` and `peak_mb` were measured. `shared`: work was shared with other methods, ratios or questions; not "
        "comparable between rows or runs. `alone`: nothing was shared (`share=false`, or there was nothing to share); "
        "means per question. `timed`: from `timing.jsonl`; medians. Empty where nothing was answered. Answers of older "
        "versions do not say and count as `shared`",
    ),
    Column(
        "timed_n",
        "videos",
        "videos",
        0,
        "videos that `timed` seconds rest on, one question each; in a row of a duration bucket those in it",
    ),
    *(
        Column(
            f"{stage}_{end}_s",
            f"{'TTFT' if stage == 'ttft' else stage} {end.upper()}",
            "s",
            3,
            f"{word} quartile of `timed` seconds",
        )
        for stage in ("ttft", *_STAGES, "total")
        for end, word in (("q1", "first"), ("q3", "third"))
    ),
)
PAPER = _section(
    Column("role", "role", "", TEXT, "reference, method or control"),
    Column("average", "average", "", TEXT, "the average that the protocol reports first; empty for `all benchmarks`"),
    Column("average_accuracy", "average (%)", "%", 1, "its value"),
    Column("lower_ratio", "cheaper", "", TEXT, "ratio of the reference that is next below in cost, or equal in cost"),
    Column("upper_ratio", "dearer", "", TEXT, "the one next above; the same where the reference was run at equal cost"),
    Column("weight", "weight", "", 2, "share of the upper one in the interpolation"),
)
COMPARISON = _section(
    Column("accuracy_a", "A (%)", "%", 1, "accuracy of A on the `n` questions that have a score in both"),
    Column("accuracy_b", "B (%)", "%", 1, "the same of B"),
    Column("delta_pp", "Δ accuracy (pp)", "percentage points", 1, "B minus A"),
    *(DIFFERENCES[name] for name in ("ci_low", "ci_high", "expected_ci_half_width")),
    Column("gained", "gained", "questions", 0, "questions that only B has right; their ids stand below the table"),
    Column("lost", "lost", "questions", 0, "questions that only A has right; their ids stand below the table"),
    *(DIFFERENCES[name] for name in ("p_sign_flip_holm", "p_mcnemar_holm", "n", "videos")),
    Column("failed", "failed", "questions", 0, "questions of A / of B without an answer"),
    DIFFERENCES["excluded"],
)
COMPRESSION = compression_columns.OWN | {name: BUDGET[name] for name in ("tflops", "total_s", "seconds")}
SECTIONS = {
    "keys": KEYS | GROUPS,
    "accuracy": ACCURACY,
    "differences": DIFFERENCES,
    "budget": BUDGET,
    "paper": PAPER,
    "comparison": COMPARISON,
    "compression": COMPRESSION,
}


def documented(section: str) -> str:
    """A section as the table of results/README.md."""
    quartile = re.compile(r"^(?!ttft).*_q[13]_s$")  # those of TTFT stand for all
    rows = [
        f"| `{c.name}` | {c.title} | {c.unit or '–'} | {c.definition} |"
        for c in SECTIONS[section].values()
        if not quartile.match(c.name)
    ]
    return "\n".join(["| column | heading | unit | definition |", "|--------|---------|------|------------|", *rows])


def filled(text: str) -> str:
    """`text` with the sections put between its markers `<!-- columns: NAME -->` and `<!-- end -->`."""
    return re.sub(
        r"(<!-- columns: (\w+) -->\n).*?(\n<!-- end -->)",
        lambda found: f"{found[1]}{documented(found[2])}{found[3]}",
        text,
        flags=re.DOTALL,
    )


def titles(section: dict[str, Column], names: Iterable[str]) -> list[str]:
    """Headings of columns."""
    return [section[name].title for name in names]


def texts(section: dict[str, Column], row: dict[str, object], names: Sequence[str]) -> dict[str, str]:
    """Heading → value as text."""
    return {section[name].title: section[name].text(row[name]) for name in names}


if __name__ == "__main__":
    import sys
    from pathlib import Path

    for place in map(Path, sys.argv[1:]):
        place.write_text(filled(place.read_text(encoding="utf-8")), encoding="utf-8")
