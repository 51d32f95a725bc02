"""The gate's verdicts as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from evalkit.analysis.compare.gate import EXIT, HOLDS, INCOMPARABLE

if TYPE_CHECKING:
    from evalkit.analysis.compare.gate import Judged, Verdict

# Characters that XML 1.0 cannot hold at all; a model's reply may.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(judged: Judged) -> str:
    """One test case per run of the baseline: a failure where it does not hold, an error where it cannot be compared."""
    states = [verdict.state for verdict in judged.verdicts]
    failures = sum(EXIT[state] == 1 for state in states)
    counts = {"tests": len(states), "failures": failures, "errors": states.count(INCOMPARABLE)}
    suite = ElementTree.Element("testsuite", {"name": "evalkit gate"} | {key: str(n) for key, n in counts.items()})
    suite.extend(_case(verdict) for verdict in judged.verdicts)
    top = ElementTree.Element("testsuites")
    top.append(suite)
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def _case(verdict: Verdict) -> ElementTree.Element:
    run = verdict.stored
    where, what = f"{run.label}, {run.split}", f"{run.method} at ratio {run.ratio:g}"
    case = ElementTree.Element("testcase", classname=_clean(where), name=_clean(what))
    if verdict.state == HOLDS:
        return case
    kind = "failure" if EXIT[verdict.state] == 1 else "error"
    problem = ElementTree.SubElement(case, kind, message=_clean(verdict.why), type=verdict.state)
    problem.text = _clean("\n".join(verdict.changed))
    return case


def _clean(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
