"""`python -m evalkit gate --baseline DIR RUN`: does a run hold against stored answers?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit import sanitize
from evalkit.analysis.compare import pairing
from evalkit.analysis.compare.pairing import Pair
from evalkit.analysis.grid import paired
from evalkit.errors import DataError
from evalkit.runs import setups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evalkit.analysis.stats.paired_tests import Difference
    from evalkit.runs.load import Run
    from evalkit.types import Answer

MARGIN = 2.0  # percentage points
HOLDS, NOT_SHOWN, REGRESSED, INCOMPARABLE = "holds", "not shown to hold", "regressed", "cannot be compared"
EXIT = {HOLDS: 0, NOT_SHOWN: 1, REGRESSED: 1, INCOMPARABLE: 2}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of one run of the baseline."""

    stored: Run
    state: str  # a key of EXIT
    why: str
    changed: tuple[str, ...] = ()  # "id: before → after" of every question that is answered otherwise


@dataclass(frozen=True, kw_only=True)
class Judged:
    """All verdicts, in the baseline's order."""

    baseline: Path
    run: Path
    rule: str
    verdicts: tuple[Verdict, ...]

    @property
    def exit_code(self) -> int:
        """0 all hold, 1 some regressed or are not shown to hold, 2 some cannot be compared, whatever the others did."""
        return max(EXIT[verdict.state] for verdict in self.verdicts)


@dataclass(frozen=True)
class Margin:
    """Non-inferiority: the lower end of the paired 95 % interval, clustered by video, lies above -`margin_pp`.

    Where it does not, a loss is shown only if the whole interval lies below 0: then the run regressed. An interval with
    0 in it shows neither that the run holds nor that it lost anything.

    A question that the baseline scored and that has no score now counts as wrong: leaving it out would hide a loss.
    """

    margin_pp: float = MARGIN

    def __str__(self) -> str:
        return f"the lower end of the paired 95 % interval is above -{self.margin_pp:g} pp"

    def __call__(self, pair: Pair) -> tuple[str, str]:
        """State and reason."""
        ours = {new.question_id: new for new, _ in pair.both}
        theirs = {old.question_id: old for _, old in pair.both}
        found = paired.pair(ours, theirs, missing_is_wrong=True, video=lambda key: theirs[key].video_id).difference
        if math.isnan(found.ci_low):
            return INCOMPARABLE, (
                f"an interval needs scored questions of at least two videos, came {found.n} of {found.videos}; "
                "use --agree, or a larger subset"
            )
        lost = REGRESSED if found.ci_high < 0 else NOT_SHOWN
        return HOLDS if found.ci_low > -self.margin_pp else lost, self._reason(found)

    def _reason(self, found: Difference) -> str:
        text = f"Δ accuracy {found.delta_pp:+.1f} pp, 95 % CI {found.ci_low:.1f} to {found.ci_high:.1f}; "
        text += f"n {found.n}, {found.videos} videos; "
        text += f"gained {found.gained}, lost {found.lost}; expected CI half-width {found.expected_ci_half_width:.1f}"
        if found.ci_low > -self.margin_pp or self.margin_pp >= found.expected_ci_half_width:
            return text
        return text + f", more than the margin of {self.margin_pp:g} pp: take more questions or a wider margin"


@dataclass(frozen=True)
class Agreement:
    """For deterministic backbones: the share of questions answered as stored is at least `rate`."""

    rate: float

    def __str__(self) -> str:
        return f"at least {100 * self.rate:g} % of the answers are the stored ones"

    def __call__(self, pair: Pair) -> tuple[str, str]:
        """State and reason. Questions that failed in the baseline say nothing."""
        asked = [(old, new) for new, old in pair.both if old.status != "failed"]
        if not asked:
            return INCOMPARABLE, "the baseline holds no answered question"
        same = sum(agrees(old, new) for old, new in asked)
        state = HOLDS if same >= self.rate * len(asked) - 1e-9 else REGRESSED  # 0.07 * 100 is above 7
        return state, f"{same} of {len(asked)} answers agree ({100 * same / len(asked):.1f} %)"


def agrees(old: Answer, new: Answer) -> bool:
    """The same letter, or, where neither reply holds one, the same text; and the same score, or none in both."""
    return answer_key(old) == answer_key(new) and old.correct == new.correct


def answer_key(answer: Answer) -> str:
    """What counts as a question's answer: its letter, or else the reply in quotes."""
    if answer.status == "failed":
        return "failed"
    return answer.letter or repr(answer.text)


def gate(baseline: Path, run: Path, rule: Callable[[Pair], tuple[str, str]], *, across: bool = False) -> Judged:
    """Judge every run of `baseline` by its partner in `run`. Raises DataError where a folder holds no readable run.

    A run of another setup (weights, dtype, …) is no partner, and the settings that differ are named; `across`: it is
    one, for a change of the backbone that is itself to be judged. Settings that an older baseline does not record say
    nothing.
    """
    if not baseline.exists():
        raise DataError(
            f"{baseline}: expected a stored baseline, found nothing; store one from a finished run: "
            f"python -m evalkit gate --baseline {baseline} RUN --update"
        )
    stored, fresh = pairing.read(baseline), pairing.read(run)
    verdicts = tuple(_verdict(old, fresh, rule, across) for old in stored)
    return Judged(baseline=baseline, run=run, rule=str(rule), verdicts=verdicts)


def _verdict(old: Run, fresh: Sequence[Run], rule: Callable[[Pair], tuple[str, str]], across: bool) -> Verdict:
    same = [new for new in fresh if not setups.differing(old.setup, new.setup, known=True)]
    try:
        new = pairing.only(old, same) or pairing.only(old, fresh)
    except DataError as error:
        return Verdict(stored=old, state=INCOMPARABLE, why=str(error))
    if new is None:
        came = "; ".join(map(pairing.name, fresh))
        return Verdict(stored=old, state=INCOMPARABLE, why=f"no run of this benchmark, method and ratio, only: {came}")
    return _judge(Pair(ours=new, theirs=old), rule, across)


def _judge(pair: Pair, rule: Callable[[Pair], tuple[str, str]], across: bool) -> Verdict:
    """A question that fails now and did not before is a regression whatever the rule: no average may hide it."""
    settings = _settings(pair)
    reasons = [*pairing.obstacles(pair), *([] if across else settings), *_unfinished(pair)]
    if reasons:
        return Verdict(stored=pair.theirs, state=INCOMPARABLE, why="; ".join(reasons))
    broken = [new.question_id for new, old in pair.both if new.status == "failed" != old.status]
    state, why = rule(pair)
    why = "; ".join([why, *settings])
    if broken:
        state, why = REGRESSED, f"{len(broken)} questions fail that the baseline answers; {why}"
    changed = [
        f"{old.question_id}: {answer_key(old)} → {answer_key(new)}{_outcome(old, new)}" for new, old in pair.both
    ]
    flipped = tuple(text for text, (new, old) in zip(changed, pair.both, strict=True) if not agrees(old, new))
    return Verdict(stored=pair.theirs, state=state, why=why, changed=flipped)


def _settings(pair: Pair) -> list[str]:
    """What differs of the setup, beside what is an obstacle anyhow."""
    found = setups.differing(pair.theirs.setup, pair.ours.setup, known=True)
    rest = {name: pair for name, pair in found.items() if name.split(".")[0] not in ("sampling", "protocol")}
    return [f"settings differ: {setups.in_words(rest)}"] if rest else []


def _unfinished(pair: Pair) -> list[str]:
    missing = len(pair.theirs.answers) - len(pair.both)
    return [f"{missing} questions of the baseline are not answered yet: finish the run"] if missing else []


def _outcome(old: Answer, new: Answer) -> str:
    if old.correct == new.correct or "failed" in (old.status, new.status):
        return ""
    if None in (old.correct, new.correct):
        return " (scored before, not now)" if new.correct is None else " (scored now, not before)"
    return " (gained)" if new.correct else " (lost)"


def markdown(judged: Judged) -> str:
    """A GitHub job summary: the verdict of every run and the questions that changed."""
    states = [verdict.state for verdict in judged.verdicts]
    counts = ", ".join(f"{states.count(state)} {state}" for state in EXIT if state in states)
    lines = ["# Gate: " + ("passed" if judged.exit_code == 0 else "FAILED") + "\n"]
    lines += [f"- baseline {judged.baseline}, run {judged.run}", f"- holds if {judged.rule}", f"- {counts}\n"]
    for verdict in judged.verdicts:
        lines.append(f"- **{verdict.state}**: {pairing.name(verdict.stored)}: {verdict.why}")
        if verdict.state != HOLDS and verdict.changed:
            lines.append(f"  - answered otherwise: {', '.join(verdict.changed)}")
    return sanitize.markdown("\n".join(lines) + "\n")
