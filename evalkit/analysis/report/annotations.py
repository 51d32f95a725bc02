"""The benchmark's own rows, where its folder still is where a run found it: video files, and when answers are seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.data import benchmarks
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from evalkit.analysis.grid.cells import Key
    from evalkit.analysis.report.setup import SetupView
    from evalkit.types import Question

Rows = dict["Key", "Question"]


def asked_rows(sheet: SetupView) -> Rows:
    """The rows of a sheet's questions; none of a benchmark whose folder is not there, which is no error."""
    runs = [part.run for cell in sheet.cells for part in cell.parts]
    one_each = {(run.label, run.split): run for run in runs}
    return {
        (label, split, question.id): question
        for (label, split), run in one_each.items()
        for question in _loaded(run.config["benchmark"])
    }


def _loaded(config: Mapping[str, Any]) -> Sequence[Question]:
    if not config.get("root"):
        return ()
    try:
        return benchmarks.load(config["name"], Path(config["root"]))[0].questions
    except EvalkitError:
        return ()


def evidence(sheet: SetupView, found: Rows) -> dict[str, list[list[int]]]:
    """Question's place → spans that hold its answer, in thousandths of the video; where both are known."""
    spans: dict[str, list[list[int]]] = {}
    for place, key in enumerate(sheet.keys):
        question, seconds = found.get(key), sheet.seconds(sheet.video(key))
        if question is not None and question.evidence_s and seconds:
            spans[str(place)] = [
                [min(1000, round(1000 * moment / seconds)) for moment in span] for span in question.evidence_s
            ]
    return spans
