"""LaTeX: texts made safe, and wide tables that need no package but booktabs."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

from evalkit.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_SAFE = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{sign: f"{{{sign}}}" for sign in "[]*"},  # at the start of a row they would be options of the \\ before it
        **{sign: f"${sign}$" for sign in "<>|"},  # other characters in the old text fonts
        '"': "''",
        "–": "--",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "·": r"$\cdot$",
        "×": r"$\times$",
        "→": r"$\rightarrow$",
        "⁶": "$^6$",
        "…": r"\ldots{}",
    }
)
_SIGNS = {" ± ": r" \pm ", "≈ ": r"\approx", ", ": r",\,", " ": r"\;", "–": r"\mbox{--}"}
_STAR = r"\rlap{$^*$}"  # takes no room: digits stay below each other


def escape(text: str) -> str:
    """`text` as LaTeX prints it, on one line. Letters of any script are left to the document's fonts."""
    return one_line(text).translate(_SAFE)


def table(body: str, *, caption: str, label: str) -> str:
    """A `table*` of one tabular; `caption` is LaTeX already."""
    head = [r"\begin{table*}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{{label}}}", r"\smallskip"]
    style = [r"\footnotesize", r"\setlength{\tabcolsep}{4.5pt}"]
    return "\n".join([*head, *style, body, r"\end{table*}", ""])


def tabular(texts: pd.DataFrame, spans: Sequence[tuple[str, int]] = ()) -> str:
    r"""A frame of texts: names in the first column, numbers on the right in all others, a gap before each new name.

    `spans` stand above the column titles: a title and how many columns it covers, "" for none. A number that ends in
    `*` gets a star.
    """
    lines = [r"\toprule", *_spans(spans), _line([escape(name) for name in texts.columns]), r"\midrule"]
    before = None
    for name, *numbers in texts.itertuples(index=False, name=None):
        lines += [r"\addlinespace"] * (before not in (None, name))
        lines.append(_line([escape(name), *map(_number, numbers)]))
        before = name
    columns = "l" + "r" * (texts.shape[1] - 1)
    return "\n".join([rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", *lines, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _spans(spans: Sequence[tuple[str, int]]) -> list[str]:
    if not spans:
        return []
    titles = [rf"\multicolumn{{{width}}}{{c}}{{{escape(title)}}}" for title, width in spans]
    ends = accumulate(width for _, width in spans)
    rules = [rf"\cmidrule(lr){{{end - n + 1}-{end}}}" for (title, n), end in zip(spans, ends, strict=True) if title]
    return [_line(titles), "".join(rules)]


def _number(text: str) -> str:
    """Signs are those of mathematics; plain digits and a lone dash are text."""
    if not set(text) & set("+-±[!"):
        return escape(text)
    signed = re.sub(r" ± |≈ |, | |–", lambda found: _SIGNS[found[0]], text.removesuffix("*"))
    return f"${signed}$" + _STAR * text.endswith("*")
