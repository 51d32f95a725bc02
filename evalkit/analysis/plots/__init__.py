"""Pareto plots: accuracy against what it cost, one figure for each question set and cost."""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.analysis.grid.measured_points import COSTS
from evalkit.analysis.plots import captions
from evalkit.analysis.plots.figure import draw
from evalkit.analysis.plots.style import Style, house_style, styles
from evalkit.analysis.plots.svg import inline, standalone
from evalkit.atomic_write import replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evalkit.analysis.grid.measured_points import QuestionSet

__all__ = ["Figures", "as_files", "names"]

KINDS = ("svg", "png")
DPI = 200  # of PNG

_SHORT = {"kv_tokens": "kv", "llm_tokens_fed": "llm", "tflops": "tflops", "ttft_s": "ttft"}  # in file names
_LONGEST = 80  # characters of a file name that come from labels


class Figures:
    """The plots of a collection of question sets."""

    def __init__(self, sets: Sequence[QuestionSet]) -> None:
        self.sets = tuple(sets)
        self.names = names(sets)  # of files, and what the page calls a set
        self.looks = styles(sets)  # a method looks the same in all figures

    def write(self, folder: Path) -> list[Path]:
        """Write `plots/<set>-<cost>.svg` and `.png` into `folder`; the same answers give the same bytes.

        A cost that no operating point of a set is known to have gives no file, and one from an earlier call is removed.
        """
        written = []
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for question_set, name in zip(self.sets, self.names, strict=True):
            for cost in COSTS:
                drawn = as_files(question_set, cost, self.looks)
                for kind in KINDS:
                    path = folder / "plots" / f"{name}-{_SHORT[cost]}.{kind}"
                    if kind in drawn:
                        written.append(replace(path, standalone(drawn[kind]) if kind == "svg" else drawn[kind]))
                    else:
                        path.unlink(missing_ok=True)
        return written


def names(sets: Sequence[QuestionSet]) -> list[str]:
    """A readable file name for each set, no two the same; what differs of the setups comes first."""
    differs = [len({found.setup[part] for found in sets}) > 1 for part in range(3)]
    taken: list[str] = []
    for found in sets:
        setup = [text for text, shown in zip(found.setup, differs, strict=True) if shown]
        slug = _slug(" ".join((*setup, found.name, found.split)))
        number = next(n for n in range(1, len(sets) + 1) if _numbered(slug, n) not in taken)
        taken.append(_numbered(slug, number))
    return taken


def _numbered(slug: str, number: int) -> str:
    return slug if number == 1 else f"{slug}-{number}"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-") or "set"


def as_files(
    question_set: QuestionSet, cost: str, looks: Mapping[str, Style], kinds: Sequence[str] = KINDS
) -> dict[str, bytes]:
    """One figure as each of `kinds`; nothing where the cost (a key of `COSTS`) is known of no operating point."""
    prefix = _prefix(question_set, cost)
    with house_style(salt=prefix):
        figure = draw(question_set, cost, looks)
        if figure is None:
            return {}
        found = {kind: _saved(figure, kind) for kind in kinds}
    if "svg" in found:
        title, description = captions.heading(question_set, cost), captions.description(question_set, cost)
        found["svg"] = inline(found["svg"], prefix, title, description)
    return found


def _prefix(question_set: QuestionSet, cost: str) -> str:
    """No other figure has it."""
    identity = "\0".join((*question_set.setup, question_set.name, question_set.split, cost))
    return f"p{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def _saved(figure: Figure, kind: str) -> bytes:
    page = io.BytesIO()
    hidden = {"svg": "Date", "png": "Software"}[kind]  # neither the time nor matplotlib's version
    figure.savefig(page, format=kind, metadata={hidden: None}, dpi=DPI)
    return page.getvalue()
