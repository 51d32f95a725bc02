"""XComp's ablations in small, as tables: from the run folders of the experiments xcomp_small_*, with
backbone=tiny and backbone=tiny_xcomp, and of `make eval`.

python perf/xcomp_small.py RESULTS [RESULTS …] > results/builtin/xcomp/tables.md

Every row is paired, question by question, with its reference; weights are named in every row.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from evalkit.analysis.stats.paired_tests import Difference, difference, holm
from evalkit.runs import load

Point = tuple[str, str, float, int]  # backbone, method, ratio, frames of the dense run
Scores = dict[tuple[str, str], tuple[bool, str]]  # (benchmark, question) -> correct?, video
Rows = list[tuple[str, Point, Point]]  # label, operating point, its reference
TUNED = "tiny_xcomp"
SHARE, QUARTER = 0.484375, 0.25


def point(method: str, ratio: float, backbone: str = "tiny", frames: int = 128) -> Point:
    """An operating point by the names of its backbone and method."""
    return backbone, method, ratio, frames


DENSE, UNIFORM = point("uniform", 1.0), point("uniform", QUARTER)
FEWER, UNTUNED = point("uniform", SHARE), point("lp_progressive", SHARE)
PROGRESSIVE, STEPWISE = point("lp_progressive", SHARE, TUNED), point("lp_stepwise", SHARE, TUNED)
TOKENS: Rows = [
    ("no compression", DENSE, DENSE),
    ("no compression", point("uniform", 1.0, TUNED), DENSE),
    ("fewer frames (uniform)", FEWER, DENSE),
    ("step-wise", point("lp_stepwise", SHARE), DENSE),
    ("step-wise", STEPWISE, point("lp_stepwise", SHARE)),
    ("progressive, suffix", UNTUNED, point("lp_stepwise", SHARE)),
    ("progressive, suffix", PROGRESSIVE, UNTUNED),
    ("progressive, suffix", PROGRESSIVE, FEWER),
    ("progressive, suffix", PROGRESSIVE, DENSE),
    ("progressive, suffix", PROGRESSIVE, STEPWISE),
    ("progressive, even", point("lp_progressive_uniform", SHARE), UNTUNED),
    ("progressive, even", point("lp_progressive_uniform", SHARE, TUNED), PROGRESSIVE),
]
XCOMP = point("xcomp", QUARTER, TUNED)
FRAMES: Rows = [
    ("uniform", UNIFORM, DENSE),
    ("uniform", point("uniform", QUARTER, TUNED), UNIFORM),
    ("random frames", point("random_frames", QUARTER), UNIFORM),
    ("ReTaKe", point("retake", QUARTER), UNIFORM),
    ("LP-Comp", point("lp_progressive", QUARTER), UNIFORM),
    ("LP-Comp", point("lp_progressive", QUARTER, TUNED), point("lp_progressive", QUARTER)),
    ("QC-Comp, global", point("qc_global", QUARTER), UNIFORM),
    ("QC-Comp, segmented", point("qc_segmented", QUARTER), point("qc_global", QUARTER)),
    ("XComp", point("xcomp", QUARTER), UNIFORM),
    ("XComp", XCOMP, UNIFORM),
    ("XComp", XCOMP, point("random_frames", QUARTER)),
    ("XComp", XCOMP, point("retake", QUARTER)),
    ("XComp", XCOMP, point("xcomp", QUARTER)),
]
# the cache of the tuned model at 2·n frames is a little less than the base's at n
CURVE: Rows = [
    *(
        (f"{n // 2} cells, uniform", point("uniform", 1.0, frames=n), point("uniform", 1.0, frames=n))
        for n in (32, 64, 128)
    ),
    *(
        (f"{n} cells, progressive", point("lp_progressive", SHARE, TUNED, 2 * n), point("uniform", 1.0, frames=n))
        for n in (32, 64, 128)
    ),
    *(
        (f"{n // 2} cells, progressive", point("lp_progressive", SHARE, TUNED, n), point("uniform", 1.0, frames=n))
        for n in (32, 64, 128, 256)
    ),
]


def scores(folders: list[Path]) -> dict[Point, Scores]:
    """Every scored question of every operating point, over all benchmarks."""
    found: dict[Point, Scores] = defaultdict(dict)
    for folder in folders:
        for run in load.load(folder):
            key = (run.setup.base[0], run.method, run.ratio, int(run.config["sampling"]["frames"]))
            for answer in run.answers:
                if answer.correct is not None:
                    found[key][answer.benchmark, answer.question_id] = (answer.correct, answer.video_id)
    return found


def table(found: dict[Point, Scores], rows: Rows) -> list[str]:
    """Markdown lines."""
    known = [row for row in rows if row[1] in found and row[2] in found]
    pairs = [compared(found[ours], found[reference]) for _, ours, reference in known]
    itself = [ours == reference for _, ours, reference in known]
    adjusted = holm([pair.p_sign_flip for pair in pairs], without=itself)
    lines = [
        "| method | weights | ratio | accuracy (%) | reference | Δ accuracy (pp) | 95 % CI | p (sign flips, Holm) | n |"
    ]
    lines.append("|:---|:---|---:|---:|:---|---:|---:|---:|---:|")
    for (name, ours, reference), pair, p in zip(known, pairs, adjusted, strict=True):
        correct = [value for value, _ in found[ours].values()]
        cells = [name, weights(ours), f"{ours[2]:g}", f"{100 * sum(correct) / len(correct):.1f}"]
        if ours == reference:
            lines.append("| " + " | ".join([*cells, "", "", "", "", str(len(correct))]) + " |")
            continue
        frames = f" of {reference[3]} frames" if reference[3] != ours[3] else ""
        against = f"{reference[1]} at {reference[2]:g}{frames}, {weights(reference)}"
        numbers = [f"{pair.delta_pp:+.1f}", f"{pair.ci_low:.1f} to {pair.ci_high:.1f}", f"{p:.3f}", str(pair.n)]
        lines.append("| " + " | ".join([*cells, against, *numbers]) + " |")
    return lines


def compared(ours: Scores, theirs: Scores) -> Difference:
    """The difference on the questions that both have, clustered by video."""
    both = sorted(ours.keys() & theirs.keys())
    clusters = [(question[0], ours[question][1]) for question in both]
    return difference([ours[q][0] for q in both], [theirs[q][0] for q in both], clusters)


def weights(of: Point) -> str:
    """Whether the weights were tuned."""
    return "tuned" if of[0] == TUNED else "training-free"


def main() -> None:
    """Print the tables."""
    found = scores([Path(folder) for folder in sys.argv[1:]])
    print("# XComp in small: generated videos, the built-in backbone, 128 frames, 412 questions\n")
    print("\n".join(["## Tokens (XComp, Tables 2 and 3)", "", *table(found, TOKENS), ""]))
    print("\n".join(["## Frames, at a quarter of the cache (XComp, Tables 4 and 6)", "", *table(found, FRAMES), ""]))
    print(
        "\n".join(
            ["## Accuracy against cache: cells sampled, twice as many at the same cache", "", *table(found, CURVE)]
        )
    )


if __name__ == "__main__":
    main()
