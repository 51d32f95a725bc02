"""Answers stored for the gate: a run folder with nothing in it that differs between machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evalkit.runs import setups
from evalkit.runs.folder import ANSWERS, CONFIG

if TYPE_CHECKING:
    from evalkit.runs.load import Run
    from evalkit.types import Answer

FILES = {CONFIG, ANSWERS}
_SECTIONS = ("identity", "sampling", "method", "ratio", "protocol", "subset", "seed")
_LEFT_OUT = {
    "prompt",
    "options",
    "duration_s",
    "kept",
    "evidence_s",
    "margin",
    "video_file",
    "stand_ins",
}  # the gate judges by the other fields
_BENCHMARK = ("name", "label", "split", "questions", "generated", "notes")


def write(folder: Path, run: Run) -> None:
    """Write a run's answers, ordered by id, and its settings; without ledgers, paths and versions."""
    folder.mkdir(parents=True)
    text = yaml.safe_dump(_config(run), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8", newline="\n")
    lines = (json.dumps(_line(answer), ensure_ascii=False) + "\n" for answer in run.answers)
    (folder / ANSWERS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _line(answer: Answer) -> dict[str, Any]:
    plain = answer.to_dict()
    return {key: plain[key] for key in plain if key not in _LEFT_OUT} | {"ledger": None}


def _config(run: Run) -> dict[str, Any]:
    benchmark = {key: run.config["benchmark"].get(key) for key in _BENCHMARK}
    kept = {key: run.config[key] for key in _SECTIONS if key in run.config}
    parts = setups.recorded(run.config)
    setup: dict[str, Any] = {"identity_parts": parts} if parts else {}
    if own := run.config.get("adapter"):
        setup["adapter"] = {key: own.get(key) for key in ("name", "base")}
    return {"benchmark": benchmark, "backbone": {"name": run.setup.base[0]}, **kept, **setup}
