"""Lines of answers.jsonl without what is measured, to be compared from run to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = ("seconds", "own_seconds", "peak_bytes")


def counted(ledger: dict[str, Any] | None, *, but: tuple[str, ...] = MEASURED) -> dict[str, Any] | None:
    """A ledger without the fields of `but`."""
    return None if ledger is None else {name: value for name, value in ledger.items() if name not in but}


def without_measured(results: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every answer of a results folder by its run folder and question, each of which must be there once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted(results.rglob("answers.jsonl")):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            key = str(file.parent.relative_to(results)), str(line["question_id"])
            assert key not in found
            found[key] = {**line, "ledger": counted(line["ledger"])}
    return found
