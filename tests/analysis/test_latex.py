"""LaTeX that compiles: characters made safe, rows of one length."""

from __future__ import annotations

import pandas as pd
import pytest

from evalkit.analysis.tables import latex
from tests.support.latex_flaws import flaws


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b#1", r"a\_b\#1"),
        ("50 % & $5", r"50 \% \& \$5"),
        ("{x}^~\\", r"\{x\}\textasciicircum{}\textasciitilde{}\textbackslash{}"),
        ("[1]*<2>|", r"{[}1{]}{*}$<$2$>$$|$"),
        ("two\nlines – ± 10⁶", r"two lines -- $\pm$ 10$^6$"),
        ("plain, as it is: 1/2", "plain, as it is: 1/2"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    assert latex.escape(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("412", "412"),
        ("83.3", "83.3"),
        ("–", "--"),
        ("83.3 ± 6.9", r"$83.3 \pm 6.9$"),
        ("50.0 ± –", r"$50.0 \pm \mbox{--}$"),
        ("-9.2 [-12.9, 5.7]", r"$-9.2\;[-12.9,\,5.7]$"),
        ("+6.8 [2.6, 11.1]*", r"$+6.8\;[2.6,\,11.1]$\rlap{$^*$}"),
        ("0.256 !", r"$0.256\;!$"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    body = latex.tabular(pd.DataFrame({"method": ["a"], "x": [text]}))
    assert rf"a & {expected} \\" in body.splitlines()


def table(**changes: str) -> str:
    texts = pd.DataFrame({"method": ["[a]", "[a]", "*b_c"], "n %": ["1", "-2", "3 ± 4*"], "x&y": ["–", "<1", "0 !"]})
    body = latex.tabular(texts, [("", 1), ("two_of", 2)])
    return latex.table(body, **{"caption": latex.escape("50 % of a_b"), "label": "tab:x-1"} | changes)


def test_a_table_is_sound() -> None:
    text = table()
    assert flaws(text) == []
    assert text.count(r"\begin{tabular}{@{}lrr@{}}") == 1
    assert r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{two\_of} \\" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert text.count(r"\addlinespace") == 1  # before *b_c, not between the rows of [a]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"\%", "%"),
        (r"a\_b", "a_b"),
        (r"\end{table*}", ""),
        ("lrr@", "lr@"),
        (r"x\&y", "x&y"),
        ("{[}a", "[a"),
        ("{*}b", "*b"),
        (r"\caption{", r"\caption{{"),
        (r"$<$1", "<1"),
        (r"\multicolumn{2}", r"\multicolumn{1}"),
    ],
)
def test_the_check_finds_what_is_wrong(old: str, new: str) -> None:
    text = table()
    assert old in text
    assert flaws(text.replace(old, new)) != []
