"""`experiment=zoo` in three tables, one row a method: accuracy, and the difference to uniform sampling at equal cost.

python perf/zoo_tables.py results/builtin/zoo/paper > results/builtin/zoo/accuracy.md

From accuracy.csv and budget.csv as `evalkit report` writes them for papers: all questions of all benchmarks together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from measure import table

from evalkit.analysis.grid.costs import TOLERANCE

RATIOS = {1.0: "1", 0.5: "1/2", 0.25: "1/4", 0.125: "1/8"}
LEVEL = 0.05
NOTE = """# Every method on the built-in sets, all {n} questions of generated videos in the formats of three benchmarks

Backbone `{backbone}`, sampling {sampling}. Weights of the backbone, but for {others}. \\* at a ratio: spends another
share of the cache than it names, by design (more than 2 % off); which: `paper/budget.csv`.

## Accuracy, percent

Half-widths of the 95 % intervals: {low:.1f} to {high:.1f} points (`paper/accuracy.csv`).
"""
DIFFERENCES = """
## Against uniform sampling at equal {what}

Percentage points; **bold** where p < {level:g} by sign flips over videos, Holm over all rows at equal {what}. ≈ between
two costs at which uniform sampling was run, without a test; – where it cannot spend as much.
"""


def by_method(rows: pd.DataFrame, cells: pd.Series) -> str:
    """Methods in their order × ratios, as Markdown."""
    lines: dict[str, dict[str, object]] = {}
    for index, row in rows.iterrows():
        lines.setdefault(row["method"], {"method": f"`{row['method']}`"})[RATIOS[row["ratio"]]] = cells[index]
    return table(list(lines.values()))


def delta(row: pd.Series, what: str) -> str:
    """One difference; `what`: kv or compute."""
    value = row[f"{what}_delta_pp"]
    if pd.isna(value):
        return "–"
    if pd.isna(row[f"{what}_ci_low"]):
        return f"≈ {value:+.1f}"
    return f"**{value:+.1f}**" if row[f"{what}_p_sign_flip_holm"] < LEVEL else f"{value:+.1f}"


def main(folder: Path) -> str:
    """All three."""
    found, budget = (pd.read_csv(folder / name) for name in ("accuracy.csv", "budget.csv"))
    rows = found[(found["benchmark"] == "all benchmarks") & found["ratio"].isin(RATIOS)].reset_index(drop=True)
    spent = budget[budget["benchmark"] == "all benchmarks"].set_index(["method", "ratio"])["ratio_achieved"]
    share = pd.Series([spent[row.method, row.ratio] for row in rows.itertuples()])
    off = ((share / rows["ratio"] - 1).abs() > TOLERANCE) & (rows["role"] != "control")
    accuracy = rows["accuracy"].map("{:.1f}".format) + off.map({True: " \\*", False: ""})
    tuned = rows[rows["weights"] != "base"]
    others = ", ".join(f"`{name}` ({of.iloc[0]})" for name, of in tuned.groupby("method")["weights"])
    half = rows["ci_half_width"]
    note = NOTE.format(
        n=rows["n"].max(),
        backbone=rows["backbone"][0],
        sampling=rows["sampling"][0],
        others=others,
        low=half.min(),
        high=half.max(),
    )
    parts = [note, by_method(rows, accuracy)]
    compared = rows[(rows["method"] != "uniform") & (rows["ratio"] < 1)].reset_index(drop=True)
    for what, named in (("kv", "cache"), ("compute", "compute")):
        cells = pd.Series([delta(row, what) for _, row in compared.iterrows()])
        parts += [DIFFERENCES.format(what=named, level=LEVEL), by_method(compared, cells)]
    return "\n".join(parts)


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
