"""XComp's ablations in small, as tables: from the run folders of the experiments xcomp_small_* and of `make eval`.

python perf/xcomp_small.py RESULTS [RESULTS …] > results/builtin/xcomp/tables.md

Every row is paired, question by question, with the run it is held against; weights are named in every row.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from evalkit.analysis.stats.paired_tests import difference, holm
from evalkit.runs import load

Point = tuple[str, str, float]  # backbone, method, ratio
Marks = dict[tuple[str, str], tuple[bool, str]]  # (benchmark, question) -> right?, video
DENSE: Point = ("tiny", "uniform", 1.0)
SHARE, QUARTER = 0.484375, 0.25
UNIFORM: Point = ("tiny", "uniform", QUARTER)
TOKENS: list[tuple[str, Point, Point]] = [
    ("no compression", DENSE, DENSE),
    ("fewer frames (uniform)", ("tiny", "uniform", SHARE), DENSE),
    ("step-wise", ("tiny", "lp_stepwise", SHARE), DENSE),
    ("step-wise", ("tiny_stepwise", "lp_stepwise", SHARE), ("tiny", "lp_stepwise", SHARE)),
    ("progressive, suffix", ("tiny", "lp_progressive", SHARE), ("tiny", "lp_stepwise", SHARE)),
    ("progressive, suffix", ("tiny_progressive", "lp_progressive", SHARE), ("tiny", "lp_progressive", SHARE)),
    ("progressive, suffix", ("tiny_progressive", "lp_progressive", SHARE), ("tiny_stepwise", "lp_stepwise", SHARE)),
    ("progressive, even", ("tiny", "lp_progressive_uniform", SHARE), ("tiny", "lp_progressive", SHARE)),
    (
        "progressive, even",
        ("tiny_progressive_uniform", "lp_progressive_uniform", SHARE),
        ("tiny_progressive", "lp_progressive", SHARE),
    ),
]
FRAMES: list[tuple[str, Point, Point]] = [
    ("uniform", UNIFORM, DENSE),
    ("uniform", ("tiny_progressive", "uniform", QUARTER), UNIFORM),
    ("random frames", ("tiny", "random_frames", QUARTER), UNIFORM),
    ("ReTaKe", ("tiny", "retake", QUARTER), UNIFORM),
    ("LP-Comp", ("tiny", "lp_progressive", QUARTER), UNIFORM),
    ("LP-Comp", ("tiny_progressive", "lp_progressive", QUARTER), ("tiny", "lp_progressive", QUARTER)),
    ("QC-Comp, global", ("tiny", "qc_global", QUARTER), UNIFORM),
    ("QC-Comp, segmented", ("tiny", "qc_segmented", QUARTER), ("tiny", "qc_global", QUARTER)),
    ("XComp", ("tiny", "xcomp", QUARTER), UNIFORM),
    ("XComp", ("tiny_progressive", "xcomp", QUARTER), UNIFORM),
    ("XComp", ("tiny_progressive", "xcomp", QUARTER), ("tiny", "random_frames", QUARTER)),
    ("XComp", ("tiny_progressive", "xcomp", QUARTER), ("tiny", "retake", QUARTER)),
    ("XComp", ("tiny_progressive", "xcomp", QUARTER), ("tiny", "xcomp", QUARTER)),
]


def marks(folders: list[Path]) -> dict[Point, Marks]:
    """Every scored question of every operating point, over all benchmarks."""
    found: dict[Point, Marks] = defaultdict(dict)
    for folder in folders:
        for run in load.load(folder):
            for answer in run.answers:
                if answer.correct is not None:
                    point = (run.setup.base[0], run.method, run.ratio)
                    found[point][answer.benchmark, answer.question_id] = (answer.correct, answer.video_id)
    return found


def table(found: dict[Point, Marks], rows: list[tuple[str, Point, Point]]) -> list[str]:
    """Markdown lines."""
    known = [row for row in rows if row[1] in found and row[2] in found]
    pairs = []
    for _, point, other in known:
        both = sorted(found[point].keys() & found[other].keys())
        ours, theirs = ([found[a][q][0] for q in both] for a in (point, other))
        pairs.append(difference(ours, theirs, [(q[0], found[point][q][1]) for q in both]))
    adjusted = holm([pair.p_sign_flip for pair in pairs], without=[point == other for _, point, other in known])
    lines = [
        "| method | weights | ratio | accuracy (%) | reference | Δ accuracy (pp) | 95 % CI | p (sign flips, Holm) | n |"
    ]
    lines.append("|:---|:---|---:|---:|:---|---:|---:|---:|---:|")
    for (name, point, other), pair, p in zip(known, pairs, adjusted, strict=True):
        right = [correct for correct, _ in found[point].values()]
        told = [name, weights(point), f"{point[2]:g}", f"{100 * sum(right) / len(right):.1f}"]
        if point == other:
            lines.append("| " + " | ".join([*told, "", "", "", "", str(len(right))]) + " |")
            continue
        against = f"{other[1]} at {other[2]:g}, {weights(other)}"
        numbers = [f"{pair.delta_pp:+.1f}", f"{pair.ci_low:.1f} to {pair.ci_high:.1f}", f"{p:.3f}", str(pair.n)]
        lines.append("| " + " | ".join([*told, against, *numbers]) + " |")
    return lines


def weights(point: Point) -> str:
    """Whether the weights were tuned, and for what."""
    return "training-free" if point[0] == "tiny" else f"tuned ({point[0].removeprefix('tiny_')})"


def main() -> None:
    """Print both tables."""
    found = marks([Path(folder) for folder in sys.argv[1:]])
    print("# XComp in small: generated videos, the built-in backbone, 128 frames, 412 questions\n")
    print("\n".join(["## Tokens (XComp, Tables 2 and 3)", "", *table(found, TOKENS), ""]))
    print("\n".join(["## Frames, at a quarter of the cache (XComp, Tables 4 and 6)", "", *table(found, FRAMES)]))


if __name__ == "__main__":
    main()
