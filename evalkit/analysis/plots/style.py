"""What tells methods apart: marker and line style without colour, and colours that colour-blind readers can tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import QuestionSet

FONT = 7.0  # points, at column width

Dashes = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Style:
    """How a method is drawn; the pair of marker and line is its own."""

    colour: str
    marker: str
    line: Dashes


REFERENCE = Style("black", "o", "-")
GREY = "#767676"  # controls

# Any two of these, black and grey differ by at least 25 (CIE76) for normal sight and for full protan-, deuteran- and
# tritanopia as Machado et al. (2009) simulate them.
COLOURS = ("#0072B2", "#C44E00", "#56B4E9", "#E69F00", "#332288")
# All of them can be hollow. 9, 4 and 5 share no divisor: a pair of marker and line repeats after 36 methods only.
_MARKERS = ("s", "^", "D", "v", "P", "<", "X", ">", "d")
_LINES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],  # the first comes with matplotlib
    "font.size": FONT,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "path.simplify": False,
}


def styles(sets: Sequence[QuestionSet]) -> dict[str, Style]:
    """A style for every method that is not the reference of its set, the same in all sets."""
    roles = {point.method: point.role for found in sets for point in found.points if point.method != found.reference}
    coloured = [method for method, role in roles.items() if role != "control"]
    return {method: Style(_colour(method, coloured), *_pair(place)) for place, method in enumerate(roles)}


def _colour(method: str, coloured: Sequence[str]) -> str:
    return COLOURS[coloured.index(method) % len(COLOURS)] if method in coloured else GREY


def _pair(place: int) -> tuple[str, Dashes]:
    return _MARKERS[place % len(_MARKERS)], _LINES[(place + 1) % len(_LINES)]


@contextmanager
def house_style(salt: str) -> Iterator[None]:
    """Settings of our own for what is drawn inside, whatever the user's are; ids of an SVG depend on `salt`."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # In a PNG such a character is a box; in an SVG the reader's own fonts have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC | {"svg.hashsalt": salt})
        yield
