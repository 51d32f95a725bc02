"""`python -m evalkit`: everything beside running an evaluation (which is run_eval.py)."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import EvalkitError

log = logging.getLogger("evalkit")


def parser() -> argparse.ArgumentParser:
    """The command line. Heavy imports happen in the commands, so that --help answers at once."""
    top = argparse.ArgumentParser(prog="python -m evalkit", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="make data sets").add_subparsers(required=True, metavar="ACTION")
    make = data.add_parser("make", help="generate the built-in videos and questions (seeded, byte-stable)")
    make.add_argument("--root", type=Path, default=Path("data/builtin"), help="where to (default: %(default)s)")
    make.set_defaults(run=_make)

    doctor = commands.add_parser("doctor", help="say what works on this machine, and how to get what does not")
    doctor.set_defaults(run=_doctor)
    return top


def _make(args: argparse.Namespace) -> int:
    from evalkit.tiny.make import make

    make(args.root)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from evalkit.doctor import report

    text, healthy = report()
    print(text)
    return 0 if healthy else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 stands for wrong input, with the reason on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except EvalkitError as error:
        log.error("%s: %s", type(error).__name__, error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
