"""`python -m evalkit report | compare | gate`: what they read from the command line and print."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.analysis.compare.gate import Judged

log = logging.getLogger(__name__)

_REPORT = """Writes accuracy and budget tables (md, csv; for papers also tex), Pareto plots (svg, png) and report.html,
one file that needs nothing else. The same answers give the same files."""
_COMPARE = """B against A: Δ accuracy (pp) with its 95 % CI, tests and flips. Runs are paired by benchmark,
method and ratio, those of one setup first; two single runs may differ in method, ratio or backbone. Settings that
differ are named. Exit 2 where questions, protocol or sampling differ. With --published: the runs of A against scores
that others published, with the settings that differ, as far as both sides say."""
_GATE = """Exit 0: every run of the baseline holds; 1: one regressed, or is not shown to hold, the questions are named;
2: one cannot be compared, since questions, protocol, sampling or other settings differ or no run fits."""


def _number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """How argparse reads a number that is bounded."""

    def number(text: str) -> float:
        value = float(text)
        if not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return number


_margin = _number("percentage points in (0, 100]", lambda value: 0 < value <= 100)
_rate = _number("a share in (0, 1]", lambda value: 0 < value <= 1)
_megabytes = _number("megabytes in [0, 1000]", lambda value: 0 <= value <= 1000)


def add(commands: Any) -> None:
    """Add the commands to the parser's."""
    _add_report(commands)
    _add_compare(commands)
    _add_gate(commands)


def _add_report(commands: Any) -> None:
    report = commands.add_parser("report", help="tables, plots and one report.html of run folders", description=_REPORT)
    report.add_argument("results", metavar="RESULTS", type=Path, help="results folder, or one run folder")
    report.add_argument(
        "--reference", metavar="METHOD", help="what the others are compared with (default: as the runs were configured)"
    )
    report.add_argument(
        "--evidence", type=Path, metavar="FILE", help="CSV with question_id or video_id, start_s, end_s: evidence spans"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="where to (default: RESULTS)")
    report.add_argument(
        "--thumbnails", type=_megabytes, default=8.0, metavar="MB", help="frames in the report, 0 for none (default: 8)"
    )
    report.set_defaults(run=_report)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser("compare", help="paired statistics of two runs, or two folders", description=_COMPARE)
    compare.add_argument("a", metavar="A", type=Path, help="run folder or results folder: the one to start from")
    compare.add_argument("b", metavar="B", type=Path, nargs="?", help="the same: what is new; with --points: A again")
    compare.add_argument(
        "--points",
        nargs=2,
        metavar="METHOD@RATIO",
        help="two operating points, of A and of B, e.g. uniform@1 retake@0.25",
    )
    compare.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="CSV of published scores to hold A against, in place of B: docs/published_scores.csv",
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="write all numbers and question ids there")
    compare.set_defaults(run=_compare)


def _add_gate(commands: Any) -> None:
    gate = commands.add_parser("gate", help="does a run hold against stored answers? for CI", description=_GATE)
    gate.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or results folder to judge")
    gate.add_argument("--baseline", type=Path, required=True, metavar="DIR", help="run folder or results folder")
    rule = gate.add_mutually_exclusive_group()
    rule.add_argument(
        "--margin",
        type=_margin,
        metavar="PP",
        help="lower end of the paired 95 %% CI above -PP percentage points (default: 2)",
    )
    rule.add_argument(
        "--agree", type=_rate, metavar="RATE", help="for deterministic backbones: share of equal answers, e.g. 0.97"
    )
    rule.add_argument("--update", action="store_true", help="judge nothing: store RUN's answers as the baseline DIR")
    gate.add_argument(
        "--across-setups", action="store_true", help="judge also where backbone settings differ, which are then named"
    )
    gate.add_argument("--summary", type=Path, metavar="FILE", help="append Markdown there, e.g. $GITHUB_STEP_SUMMARY")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML there")
    gate.set_defaults(run=_gate)


def _report(args: argparse.Namespace) -> int:
    from evalkit.analysis import given_evidence, report
    from evalkit.analysis.results import Results
    from evalkit.analysis.tables import paper, run_tables
    from evalkit.runs import load

    runs, out = load.load(args.results), args.out or args.results
    if args.reference is not None:
        runs = load.refer(runs, args.reference)
    elif len(named := {run.reference for run in runs if run.reference}) > 1:
        log.warning("runs name several references (%s): --reference METHOD chooses one", ", ".join(sorted(named)))
    if args.evidence is not None:
        runs = given_evidence.given(runs, args.evidence)
    results = Results(runs)
    try:
        run_tables.write(results, out)
        paper.write(results, out)
        results.figures.write(out)
        written = report.write(results, out, thumbnails_mb=args.thumbnails)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error}); name another folder by --out DIR") from error
    print(f"tables: {out}\nfor papers: {out / 'paper'}\nplots: {out / 'plots'}\nreport: {written}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    if args.published is not None:
        return _compare_published(args)
    from evalkit.analysis.compare import compare

    if args.b is None and args.points is None:
        raise ConfigError(
            "compare: expected a second folder, --points with two operating points of the first, or --published FILE"
        )
    found = compare.compare(args.a, args.b or args.a, args.points and tuple(args.points))
    return _told(args, compare.markdown(found), compare.plain(found))


def _compare_published(args: argparse.Namespace) -> int:
    from evalkit.analysis.compare import published

    if args.b is not None or args.points is not None:
        raise ConfigError(
            "compare --published FILE: expected one folder of runs, got a second one or --points; leave them"
        )
    found = published.hold(args.a, args.published)
    return _told(args, published.markdown(found), published.plain(found))


def _told(args: argparse.Namespace, text: str, values: dict[str, Any]) -> int:
    print(text)
    if args.json is not None:
        _put(args.json, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return 0


def _gate(args: argparse.Namespace) -> int:
    from evalkit.analysis.compare import baseline, gate

    if args.update:
        for path in baseline.store(args.run_folder, args.baseline):
            print(f"stored: {path}")
        return 0
    rule = gate.Margin(args.margin or gate.MARGIN) if args.agree is None else gate.Agreement(args.agree)
    judged = gate.gate(args.baseline, args.run_folder, rule, across=args.across_setups)
    print(gate.markdown(judged))
    _store(judged, args)
    return judged.exit_code


def _store(judged: Judged, args: argparse.Namespace) -> None:
    from evalkit.analysis.compare import gate, junit

    if args.summary is not None:
        _put(args.summary, gate.markdown(judged), mode="a")
    if args.junit is not None:
        _put(args.junit, junit.document(judged))


def _put(path: Path, text: str, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error
