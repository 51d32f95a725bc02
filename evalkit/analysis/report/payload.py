"""The per-question view as plain values: columns of numbers, each text and each kept vector once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.grouping import grouped
from evalkit.analysis.report.annotations import evidence
from evalkit.analysis.report.sanitize import Texts, clean, title
from evalkit.analysis.report.setup import cell_key
from evalkit.analysis.report.timeline_strips import axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evalkit.analysis.grid.cells import MeasuredPoint, QuestionSet
    from evalkit.analysis.report.annotations import Rows
    from evalkit.analysis.report.setup import SetupView, VideoKey
    from evalkit.analysis.report.thumbnails import Sprite
    from evalkit.types import Answer, KeptOverTime

# A letter per answer: its status and whether it is right. outcomes.js knows the same.
MARKS = {
    ("ok", True): "r",
    ("ok", False): "w",
    ("ok", None): "s",
    ("unparsed", True): "R",
    ("unparsed", False): "u",
    ("unparsed", None): "n",
    ("failed", None): "f",
}
NOT_ASKED = "."


def payload(
    sheets: Sequence[SetupView],
    slugs: Sequence[str],
    sprites: Sequence[Mapping[VideoKey, Sprite]],
    found: Sequence[Rows],
) -> dict[str, Any]:
    """Everything that the page's script reads. `slugs` name the question sets, sheet by sheet; `found` are the rows."""
    texts = Texts()
    setups = [
        _setup(sheet, own, texts) | {"evidence": evidence(sheet, rows)}
        for sheet, own, rows in zip(sheets, sprites, found, strict=True)
    ]
    sets = [_set(place, sheet, own) for place, sheet in enumerate(sheets) for own in sheet.sets]
    named = [{"slug": slug} | own for slug, own in zip(slugs, sets, strict=True)]
    return {"sets": named, "setups": setups, "texts": texts.all}


def _set(place: int, sheet: SetupView, own: QuestionSet) -> dict[str, Any]:
    part = (own.name, own.split)
    return {
        "setup": place,
        "benchmark": sheet.benchmarks.index(part) if part in sheet.benchmarks else -1,  # -1: all of them
        "cells": [sheet.place(cell) for cell in own.cells],
        "dense": sheet.place(own.dense),
    }


def _setup(sheet: SetupView, sprites: Mapping[VideoKey, Sprite], texts: Texts) -> dict[str, Any]:
    """Numbers are places of texts, videos, labels and kept vectors; -1 stands for none."""
    asked = list(sheet.asked.values())
    videos = {video: place for place, video in enumerate(sheet.videos)}
    kept = _KeptTable(sheet, sprites)
    return {
        "cells": [{"key": cell_key(c), "method": clean(c.method), "ratio": f"{c.ratio:g}"} for c in sheet.cells],
        "benchmarks": [clean(f"{label}, {split}") for label, split in sheet.benchmarks],
        "id": [texts.number(key[2]) for key in sheet.keys],
        "benchmark": [sheet.benchmarks.index(key[:2]) for key in sheet.keys],
        "video": [videos[sheet.video(key)] for key in sheet.keys],
        "title": [texts.number(title(answer.prompt)) for answer in asked],
        "prompt": [texts.number(answer.prompt) for answer in asked],
        "options": [[texts.number(option) for option in answer.options] for answer in asked],
        "gold": [texts.number(answer.gold) for answer in asked],
        "groups": _groups(asked),
        "answers": [_answers(sheet, cell, kept, texts) for cell in sheet.cells],
        "videos": [kept.video(video, texts) for video in sheet.videos],
        "kept": kept.rows,
    }


def _groups(asked: Sequence[Answer]) -> dict[str, Any]:
    """Kind → its labels in the order of the tables, and each question's labels by number."""
    labels: dict[str, list[str]] = {}
    for kind, label in grouped(asked):
        labels.setdefault(kind, []).append(label)
    del labels["all"]
    return {
        clean(kind): {
            "labels": [clean(label) for label in known],
            "of": [[known.index(label) for label in answer.groups.get(kind, ())] for answer in asked],
        }
        for kind, known in labels.items()
    }


def _answers(sheet: SetupView, cell: MeasuredPoint, kept: _KeptTable, texts: Texts) -> dict[str, Any]:
    """One cell's column for each thing that the page shows of an answer."""
    found = [cell.answers.get(key) for key in sheet.keys]
    videos = [sheet.video(key) for key in sheet.keys]
    return {
        "mark": "".join(NOT_ASKED if a is None else MARKS[a.status, a.correct] for a in found),
        "letter": [texts.number(a.letter) if a else -1 for a in found],
        "reply": [_reply(a, texts) for a in found],
        "error": [texts.number(a.error) if a else -1 for a in found],
        "kept": [kept.number(video, a) for video, a in zip(videos, found, strict=True)],
        "achieved": [round(a.ledger.ratio_achieved, 4) if a and a.ledger else -1 for a in found],
        "prompt": _other_prompts(sheet, found, texts),
    }


def _reply(answer: Answer | None, texts: Texts) -> int:
    """The model's words, where they are more than the letter that was read."""
    return -1 if answer is None or answer.text.strip() == (answer.letter or "") else texts.number(answer.text)


def _other_prompts(sheet: SetupView, found: Iterable[Answer | None], texts: Texts) -> dict[str, int]:
    """Question → prompt, where a cell asked in other words than the question's prompt."""
    pairs = zip(sheet.keys, found, strict=True)
    return {
        str(place): texts.number(answer.prompt)
        for place, (key, answer) in enumerate(pairs)
        if answer is not None and answer.status != "failed" and answer.prompt != sheet.asked[key].prompt
    }


class _KeptTable:
    """What was kept of each video, each distinct choice once: one for all questions where a method does not ask."""

    def __init__(self, sheet: SetupView, sprites: Mapping[VideoKey, Sprite]) -> None:
        self.rows: list[list[Any]] = []
        self._numbers: dict[tuple[VideoKey, KeptOverTime], int] = {}
        self._sprites = sprites
        self._axes = {video: axis(sheet.kept(video), sheet.seconds(video)) for video in sheet.videos}

    def number(self, video: VideoKey, answer: Answer | None) -> int:
        """The row of what an answer kept; -1 where that is not known or nothing."""
        grid = self._axes[video]
        if answer is None or answer.kept is None or grid is None:
            return -1
        if (video, answer.kept) not in self._numbers:
            self._numbers[video, answer.kept] = len(self.rows)
            self.rows.append(self._row(video, answer.kept, grid.digits(answer.kept)))
        return self._numbers[video, answer.kept]

    def _row(self, video: VideoKey, kept: KeptOverTime, digits: str) -> list[Any]:
        """Digits, cells, tokens a layer, and the places of its frames in the video's sprite where it has one."""
        tokens = math.fsum(kept.tokens)
        row = [digits, len(kept.seconds), round(tokens, 1)]
        tiles = self._sprites[video].tiles.get(kept) if video in self._sprites else None
        return row if tiles is None else [*row, list(tiles)]

    def video(self, video: VideoKey, texts: Texts) -> dict[str, Any]:
        """Id, length, where the digits' stretches begin in thousandths of it, and the sprite."""
        grid, sprite = self._axes[video], self._sprites.get(video)
        plain: dict[str, Any] = {"id": texts.number(video[2])}
        if grid is not None:
            plain |= {"seconds": round(grid.seconds, 2), "starts": grid.thousandths, "full": round(grid.full[0], 1)}
        return plain if sprite is None else plain | {"sprite": sprite.plain()}
