"""Where a benchmark's videos lie, if its folder still is where a run found it: thumbnails need the files themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.data import benchmarks
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from evalkit.analysis.report.setup import SetupView, VideoKey
    from evalkit.types import Question


def video_paths(view: SetupView) -> dict[VideoKey, Path]:
    """The files of a setup's videos; none of a benchmark whose folder is not there, which is no error."""
    runs = [part.run for point in view.points for part in point.parts]
    one_each = {(run.label, run.split): run for run in runs}
    return {
        (*benchmark, question.video_id): question.video_path
        for benchmark, run in one_each.items()
        for question in _loaded(run.config["benchmark"])
    }


def _loaded(config: Mapping[str, Any]) -> Sequence[Question]:
    if not config.get("root"):
        return ()
    try:
        return benchmarks.load(config["name"], Path(config["root"]))[0].questions
    except EvalkitError:
        return ()
