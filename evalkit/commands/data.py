"""`python -m evalkit data verify | plan | fetch | subset | score-frames`: what they read from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.commands import score_frames
from evalkit.data.benchmarks import BUILTIN, REGISTRY
from evalkit.errors import ConfigError
from evalkit.sanitize import printable

if TYPE_CHECKING:
    from evalkit.data.prepare.verify import Report
    from evalkit.types import Benchmark


def add(actions: Any) -> None:
    """Add the five commands to the sub-parsers of `data`."""
    verify = _action(actions, "verify", _verify, True, "are all rows and videos there, and do they decode?")
    verify.add_argument("--root", type=Path, required=True, help="folder with annotations and videos")
    verify.add_argument("--out", type=Path, help="folder for verify.json (default: the data's own, where runs find it)")
    verify.add_argument("--workers", type=_positive, default=2, help="decoding processes (default: %(default)s)")
    verify.add_argument("--deadline", type=_seconds, default=120.0, help="seconds a video (default: %(default)g)")
    plan = _action(actions, "plan", _plan, False, "which published files a subset needs")
    plan.add_argument("--root", type=Path, help="folder with the annotations; without it no video is named")
    fetch = _action(actions, "fetch", _fetch, False, "download a benchmark from the Hugging Face hub; resumes")
    fetch.add_argument("--root", type=Path, required=True, help="where to")
    fetch.add_argument("--revision", help="commit of the data set (default: the one that `data plan` shows)")
    fetch.add_argument("--repo", help="which of the sources in `data plan` (default: the first)")
    fetch.add_argument("--files", nargs="+", metavar="NAME", help="these files only; may hold *")
    fetch.add_argument("--endpoint", help="address of another hub, e.g. a mirror")
    fetch.add_argument("--list", action="store_true", help="ask the hub for names and sizes, fetch nothing")
    about = "score each video's frames for its questions by CLIP, SigLIP or BLIP-ITM; resumes"
    score_frames.add_arguments(_action(actions, "score-frames", score_frames.run, True, about))
    subset = _action(actions, "subset", _subset, True, "show, store or judge the nested subsets", False)
    subset.add_argument("--root", type=Path, required=True, help="folder with the annotations")
    subset.add_argument("--write", action="store_true", help="draw them and store subsets.json beside the annotations")
    subset.add_argument(
        "--answers", type=Path, metavar="RUN", help="a full run: how far is each subset's accuracy off?"
    )


def _action(
    actions: Any, name: str, run: Any, with_builtin: bool, about: str, with_subset: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    parser.add_argument("benchmark", choices=[*REGISTRY, *([BUILTIN] if with_builtin else [])])
    if with_subset:
        parser.add_argument("--subset", default="full", help="full, ci-600, ci-200 or ci-50 (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a complete number above 0, got {text}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text}")
    return value


def _load(args: argparse.Namespace) -> list[Benchmark]:
    from evalkit.data import benchmarks

    return benchmarks.load(args.benchmark, args.root.expanduser())


def _verify(args: argparse.Namespace) -> int:
    """0: everything is there; 1: something is not."""
    from evalkit.data.prepare import subsets, verify

    subsets.check(args.subset)
    complete = True
    for benchmark in _load(args):
        report = verify.verify(benchmark, args.subset, workers=args.workers, seconds=args.deadline)
        folder = benchmark.root if args.out is None else args.out
        several = args.benchmark == "builtin" and args.out is not None
        path = verify.write(report, folder / benchmark.name if several else folder)
        print(printable(f"{_found(report)}\n  stored: {path}"))
        complete = complete and report.complete
    return 0 if complete else 1


def _found(report: Report) -> str:
    lost = report.lost
    counts = {kind: sum(c.problem == kind for c in lost.values()) for kind in ("missing", "broken")}
    lines = [f"{report.label}: {report.questions} questions; {len(report.videos)} videos checked"]
    lines[0] += f", {counts['missing']} missing, {counts['broken']} broken"
    lines += [f"  rows: {report.rows_problem}"] if report.rows_problem else []
    lines += [f"  row: {message}" for message in report.bad_rows]
    lines += [f"  {c.problem}: {video} ({c.questions} questions): {c.message}" for video, c in lost.items()]
    return "\n".join(lines)


def _plan(args: argparse.Namespace) -> int:
    from evalkit.data.prepare import sources

    print(sources.plan(args.benchmark, _part(args), args.subset))
    return 0


def _part(args: argparse.Namespace) -> Benchmark | None:
    """The subset that is asked for; None for everything, without a look at the rows."""
    from evalkit.data.prepare import subsets

    subsets.check(args.subset)
    if args.subset == subsets.FULL and (args.root is None or args.run is _fetch):
        return None
    if args.root is None:
        raise ConfigError(
            f"--subset {args.subset} needs --root DIR with the annotations, from which it is drawn; "
            f"get them with: python -m evalkit data fetch {args.benchmark} --root DIR --files NAME of the questions"
        )
    (benchmark,) = _load(args)
    return subsets.restrict(benchmark, args.subset)


def _fetch(args: argparse.Namespace) -> int:
    from evalkit.data.prepare import sources
    from evalkit.data.prepare.download import fetch
    from evalkit.hub import size

    source = sources.source(args.benchmark, args.repo)
    names = args.files or sources.patterns(source, _part(args))
    sizes = fetch(
        source, args.root.expanduser(), names, revision=args.revision, endpoint=args.endpoint, list_only=args.list
    )
    for name, count in sizes.items():
        print(printable(f"{size(count):>10}  {name}"))
    print(f"{size(sum(sizes.values())):>10}  in all, {len(sizes)} files")
    if not args.list:
        print(f"then: {source.then}; and: python -m evalkit data verify {args.benchmark} --root {args.root}")
    return 0


def _subset(args: argparse.Namespace) -> int:
    from evalkit.data.prepare import subsets

    loaded = _load(args)
    for benchmark in loaded:
        if args.write:
            print(f"stored: {subsets.write(benchmark)}")
        if args.answers is None:
            print(printable(_sizes(benchmark, subsets.lists(benchmark))))
    if args.answers is not None:
        from evalkit.analysis.compare import subset_gaps

        for benchmark, run in subset_gaps.full_runs(args.answers, loaded):
            print(subset_gaps.section(run, benchmark, subsets.lists(benchmark)))
    return 0


def _sizes(benchmark: Benchmark, lists: dict[str, tuple[str, ...]]) -> str:
    from evalkit.data.prepare.checksums import sha256
    from evalkit.data.prepare.subsets import FULL

    videos = {q.id: q.video_id for q in benchmark.questions}
    rows = [f"{benchmark.label}, split {benchmark.split}"]
    for name, ids in {FULL: tuple(videos), **lists}.items():
        held = f"{len(ids):5} questions {len({videos[id_] for id_ in ids}):5} videos"
        rows.append(f"  {name:7}{held}  list {sha256(sorted(ids))[:12]}")
    return "\n".join(rows)
