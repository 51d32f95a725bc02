"""Answers stored for the gate: a results folder with nothing in it that differs between machines."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from evalkit.analysis.compare import pairing
from evalkit.errors import DataError
from evalkit.runs import setups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run
    from evalkit.types import Answer

FILES = {"config.yaml", "answers.jsonl"}
_SECTIONS = ("identity", "sampling", "method", "ratio", "protocol", "subset", "seed")
_NOT_STORED = {"prompt", "options", "duration_s", "kept", "evidence_s"}  # the answers' own lines are enough to judge by
_BENCHMARK = ("name", "label", "split", "questions", "generated", "notes")


def store(run: Path, folder: Path) -> list[Path]:
    """Write every run below `run` into a folder of its own in `folder`, in the place of what was stored there.

    Kept are the answers, ordered by id, and the settings; ledgers, paths and versions are not. Raises DataError where a
    run is not finished, two would be stored in one place, or `folder` holds anything else.
    """
    runs = pairing.read(run)
    places = {f"{r.config['benchmark']['name']}-{r.method}-r{r.ratio:g}": r for r in runs}
    _check_runs(runs, len(places))
    old = _stored(folder)
    for path in old:
        shutil.rmtree(path)
    for name, one in places.items():
        _write(folder / name, one)
    return [folder / name for name in places]


def _check_runs(runs: Sequence[Run], places: int) -> None:
    if places != len(runs):
        came = "; ".join(str(run.folder) for run in runs)
        raise DataError(f"expected one run for each benchmark, method and ratio, came several: {came}; name a folder")
    for run in runs:
        asked = int(run.config["benchmark"]["questions"])
        if len(run.answers) < asked:
            raise DataError(
                f"{run.folder}: expected all {asked} questions answered, came {len(run.answers)}; finish the run first"
            )


def _stored(folder: Path) -> list[Path]:
    """Run folders that are there already; anything else is not ours to remove."""
    if not folder.exists():
        return []
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    foreign = [p for p in entries if not p.is_dir() or {inner.name for inner in p.iterdir()} != FILES]
    if foreign:
        raise DataError(
            f"{folder}: expected a folder of stored runs ({', '.join(sorted(FILES))}), found {foreign[0].name}; "
            "name another folder for the baseline"
        )
    return entries


def _write(folder: Path, run: Run) -> None:
    folder.mkdir(parents=True)
    text = yaml.safe_dump(_config(run), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8", newline="\n")
    lines = (json.dumps(_line(answer), ensure_ascii=False) + "\n" for answer in run.answers)
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def _line(answer: Answer) -> dict[str, Any]:
    plain = answer.to_dict()
    return {key: plain[key] for key in plain if key not in _NOT_STORED} | {"ledger": None}


def _config(run: Run) -> dict[str, Any]:
    benchmark = {key: run.config["benchmark"].get(key) for key in _BENCHMARK}
    kept = {key: run.config[key] for key in _SECTIONS if key in run.config}
    parts = setups.recorded(run.config)
    setup = {"identity_parts": parts} if parts else {}
    return {"benchmark": benchmark, "backbone": {"name": run.setup.base[0]}, **kept, **setup}
