"""The command line: `evalkit COMMAND …`, or `python -m evalkit COMMAND …`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from evalkit.commands import analysis, model, output
from evalkit.commands import data as data_commands
from evalkit.data import benchmarks, protocols
from evalkit.errors import EvalkitError
from evalkit.sanitize import PrintableFormatter

log = logging.getLogger("evalkit")

NAME, RUN = "evalkit", "run"


def parser() -> argparse.ArgumentParser:
    """The command line. Heavy imports happen in the commands, so that --help answers at once."""
    name = Path(sys.argv[0]).name
    top = argparse.ArgumentParser(prog=name if name == NAME else f"python -m {NAME}", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    run = "run an evaluation, as python run_eval.py does: key=value …, or --help for the settings"
    commands.add_parser(RUN, help=run, add_help=False)

    data = commands.add_parser("data", help="make, verify, plan, fetch or subset data sets").add_subparsers(
        required=True, metavar="ACTION"
    )
    make = data.add_parser("make", help="generate the built-in videos and questions (seeded, byte-stable)")
    make.add_argument("--root", type=Path, default=Path("data/builtin"), help="where to (default: %(default)s)")
    make.add_argument("--subset", default="full", help="only the videos of ci-600, ci-200 or ci-50 (default: all)")
    make.set_defaults(run=_make)
    data_commands.add(data)
    model.add(commands)

    _add_score(commands)
    analysis.add(commands)

    tune = commands.add_parser("tune", help="tune a backbone for what a method drops between its layers (LP-Comp)")
    tune.add_argument("settings", nargs="*", metavar="key=value", help="method=NAME data=FILE …; see conf/tune.yaml")
    tune.set_defaults(run=_tune)

    doctor = commands.add_parser("doctor", help="say what works on this machine, and how to get what does not")
    doctor.set_defaults(run=_doctor)
    return top


def _add_score(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    score = commands.add_parser("score", help="score anyone's answers under published protocols: no video, no model")
    score.add_argument("benchmark", choices=list(benchmarks.REGISTRY))
    score.add_argument("--annotations", type=Path, required=True, help="data folder, or one annotation file")
    score.add_argument(
        "--answers", type=Path, nargs="+", required=True, help="jsonl, json, csv, tsv or xlsx; several count as one"
    )
    score.add_argument(
        "--protocol", default="all", help=f"{', '.join(list(protocols.REGISTRY))} or all (default: %(default)s)"
    )
    score.add_argument(
        "--questions", help="size of a known question set, which is checked, or a file listing the questions to keep"
    )
    score.set_defaults(run=_score)


def _score(args: argparse.Namespace) -> int:
    from evalkit.analysis.score import score
    from evalkit.analysis.score.markdown import markdown

    benchmark = score.annotated(args.benchmark, args.annotations, args.questions)
    print(markdown(score.score(benchmark, args.answers, args.protocol)))
    return 0


def _make(args: argparse.Namespace) -> int:
    log.info("generated videos in %s", args.root)
    from evalkit.tiny.videos.make import make

    make(args.root, subset=args.subset)
    return 0


def _tune(args: argparse.Namespace) -> int:
    from evalkit.tune.train import run

    print(run(args.settings))
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from evalkit.commands.doctor import report

    text, healthy = report()
    print(text)
    return 0 if healthy else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 stands for wrong input, with the reason on stderr, 4 for a full disk and the like, 130 for
    Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == [RUN]:  # Hydra reads the others, and sets up logging
        from evalkit.commands import run_eval

        return run_eval.main(words[1:])
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[console])
    log.setLevel(logging.INFO)  # ours; libraries only warn
    args = parser().parse_args(words)
    try:
        return output.told(lambda: int(args.run(args)))
    except EvalkitError as error:
        log.error("%s: %s", type(error).__name__, error)
        return 2
    except KeyboardInterrupt:
        log.error("interrupted: the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(main())
