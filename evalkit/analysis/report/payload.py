"""The per-question view as plain values: columns of numbers, each text and each kept vector once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.grouping import grouped
from evalkit.analysis.report.sanitize import Texts, title
from evalkit.analysis.report.setup import point_key
from evalkit.analysis.report.timeline_strips import axis
from evalkit.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet
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
    views: Sequence[SetupView],
    slugs: Sequence[str],
    sprites: Sequence[Mapping[VideoKey, Sprite]],
    facts: Sequence[Mapping[str, Sequence[tuple[str, str]]]],
) -> dict[str, Any]:
    """Everything that the page's script reads. `slugs` name the question sets, setup by setup.

    `facts` hold, for each question set, what the plot says of each point by its key.
    """
    texts = Texts()
    setups = [_setup(view, own, texts) for view, own in zip(views, sprites, strict=True)]
    sets = [_set(place, view, own) for place, view in enumerate(views) for own in view.sets]
    named = [
        {"slug": slug, "facts": {key: [[clean(n), clean(v)] for n, v in found] for key, found in known.items()}} | own
        for slug, known, own in zip(slugs, facts, sets, strict=True)
    ]
    return {"sets": named, "setups": setups, "texts": texts.all}


def _set(place: int, view: SetupView, own: QuestionSet) -> dict[str, Any]:
    part = (own.name, own.split)
    return {
        "setup": place,
        "benchmark": view.benchmarks.index(part) if part in view.benchmarks else -1,  # -1: all of them
        "points": [view.place(point) for point in own.points],
        "dense": view.place(own.dense),
    }


def _setup(view: SetupView, sprites: Mapping[VideoKey, Sprite], texts: Texts) -> dict[str, Any]:
    """Numbers are places of texts, videos, labels and kept vectors; -1 stands for none."""
    asked = list(view.asked.values())
    videos = {video: place for place, video in enumerate(view.videos)}
    kept = _KeptTable(view, sprites)
    return {
        "points": [{"key": point_key(c), "method": clean(c.method), "ratio": f"{c.ratio:g}"} for c in view.points],
        "benchmarks": [clean(f"{label}, {split}") for label, split in view.benchmarks],
        "id": [texts.number(key[2]) for key in view.keys],
        "benchmark": [view.benchmarks.index(key[:2]) for key in view.keys],
        "video": [videos[view.video(key)] for key in view.keys],
        "title": [texts.number(title(answer.prompt)) for answer in asked],
        "prompt": [texts.number(answer.prompt) for answer in asked],
        "options": [[texts.number(option) for option in answer.options] for answer in asked],
        "gold": [texts.number(answer.gold) for answer in asked],
        "groups": _groups(asked),
        "answers": [_answers(view, point, kept, texts) for point in view.points],
        "videos": [kept.video(video, texts) for video in view.videos],
        "kept": kept.rows,
        "evidence": _evidence(view),
    }


def _evidence(view: SetupView) -> dict[str, list[list[int]]]:
    """Question's place → spans that hold its answer, in thousandths of the video; where the answers record both."""
    spans: dict[str, list[list[int]]] = {}
    for place, key in enumerate(view.keys):
        found = next((a.evidence_s for a in view.answers(key) if a is not None and a.evidence_s), ())
        seconds = view.seconds(view.video(key))
        if found and seconds:
            spans[str(place)] = [[min(1000, round(1000 * moment / seconds)) for moment in span] for span in found]
    return spans


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


def _answers(view: SetupView, point: MeasuredPoint, kept: _KeptTable, texts: Texts) -> dict[str, Any]:
    """One point's column for each thing that the page shows of an answer."""
    found = [point.answers.get(key) for key in view.keys]
    videos = [view.video(key) for key in view.keys]
    return {
        "mark": "".join(NOT_ASKED if a is None else MARKS[a.status, a.correct] for a in found),
        "letter": [texts.number(a.letter) if a else -1 for a in found],
        "reply": [_reply(a, texts) for a in found],
        "error": [texts.number(a.error) if a else -1 for a in found],
        "kept": [kept.number(video, a) for video, a in zip(videos, found, strict=True)],
        "achieved": [round(a.ledger.ratio_achieved, 4) if a and a.ledger else -1 for a in found],
        "prompt": _other_prompts(view, found, texts),
    }


def _reply(answer: Answer | None, texts: Texts) -> int:
    """The model's words, where they are more than the letter that was read."""
    return -1 if answer is None or answer.text.strip() == (answer.letter or "") else texts.number(answer.text)


def _other_prompts(view: SetupView, found: Iterable[Answer | None], texts: Texts) -> dict[str, int]:
    """Question → prompt, where a point asked in other words than the question's prompt."""
    pairs = zip(view.keys, found, strict=True)
    return {
        str(place): texts.number(answer.prompt)
        for place, (key, answer) in enumerate(pairs)
        if answer is not None and answer.status != "failed" and answer.prompt != view.asked[key].prompt
    }


class _KeptTable:
    """What was kept of each video, each distinct choice once: one for all questions where a method does not ask."""

    def __init__(self, view: SetupView, sprites: Mapping[VideoKey, Sprite]) -> None:
        self.rows: list[list[Any]] = []
        self._numbers: dict[tuple[VideoKey, KeptOverTime], int] = {}
        self._sprites = sprites
        self._axes = {video: axis(view.kept(video), view.seconds(video)) for video in view.videos}

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
