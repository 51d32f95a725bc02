"""Conversations about videos in LLaVA's format: read, checked, turned into samples. Bad rows are named, not fatal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evalkit.data import video as video_file
from evalkit.data.benchmarks import fields, files
from evalkit.errors import ConfigError, DataError, VideoError
from evalkit.model.packed_questions import IGNORE
from evalkit.tune.sample import Sample

if TYPE_CHECKING:
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.method import OperatingPoint
    from evalkit.types import Video

log = logging.getLogger(__name__)

PLACEHOLDERS = ("<video>", "<image>")
TURN = "\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"  # source: Qwen2-VL's chat template
END = "<|im_end|>"
SHAPE = '{"id", "video", "conversations": [{"from": "human", "value": "<video>…"}, {"from": "gpt", "value": …}]}'


@dataclass(frozen=True, kw_only=True)
class Row:
    """One conversation."""

    row: int  # in the file, from 0
    id: str
    video: Path
    turns: tuple[tuple[str, str], ...]  # question, answer; without the placeholder


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that is left out."""

    row: int  # in the file, from 0
    id: str
    reason: str


class BadRowError(DataError):
    """One row cannot be used; it is skipped and counted."""


def read(file: Path, folder: Path) -> tuple[list[Row], list[Skipped]]:
    """Rows of a JSON list or of JSON lines, and those that do not fit, with the reason. Videos are not opened yet.

    Raises DataError where the file itself is missing or unreadable.
    """
    good, bad = [], []
    for number, value in enumerate(_values(file)):
        try:
            good.append(_row(number, value, folder))
        except BadRowError as error:
            name = str(value.get("id", "")) if isinstance(value, Mapping) else ""
            bad.append(Skipped(row=number, id=name, reason=str(error)))
    return good, bad


def _values(file: Path) -> Iterable[Any]:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            return [_line(line) for line in text.splitlines() if line.strip()]
        values = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(
            f"data={file}: expected builtin, or a JSON list or JSON lines of {SHAPE}; {type(error).__name__}: {error}"
        ) from error
    if not isinstance(values, list):
        raise DataError(f"data={file}: expected a JSON list of {SHAPE}, got {type(values).__name__}")
    return values


def _line(line: str) -> Any:
    """A line's value; a line that is no JSON becomes a bad row like any other."""
    try:
        return json.loads(line)
    except ValueError:
        return line


def _row(number: int, value: Any, folder: Path) -> Row:
    _need(isinstance(value, Mapping), f"expected {SHAPE}, got {str(value)[:60]!r}")
    try:
        fields.video_name(value, "video")
    except files.RowError as error:
        raise BadRowError(str(error)) from error
    name = value["video"]
    path = folder / name
    turns = _turns(value.get("conversations"))
    _need(path.is_file(), f"no such video: {path}")
    return Row(row=number, id=str(value.get("id", name)), video=path, turns=turns)


def _turns(talk: Any) -> tuple[tuple[str, str], ...]:
    well_formed = isinstance(talk, list) and all(
        isinstance(t, Mapping) and isinstance(t.get("value"), str) for t in talk
    )
    _need(well_formed and bool(talk), f"expected 'conversations' as a list of from and value, got {str(talk)[:60]!r}")
    order = [t.get("from") for t in talk]
    _need(order == ["human", "gpt"] * (len(talk) // 2), f"expected human and gpt in turn, got {order[:6]}")
    questions, answers = ([t["value"] for t in talk[start::2]] for start in (0, 1))
    count = sum(text.count(mark) for text in questions for mark in PLACEHOLDERS)
    first = sum(questions[0].count(mark) for mark in PLACEHOLDERS)
    _need(count == first == 1, f"expected one {' or '.join(PLACEHOLDERS)}, in the first question; got {count}")
    _need(all(text.strip() for text in answers), "an answer is empty")
    for mark in PLACEHOLDERS:
        questions[0] = questions[0].replace(mark, "")
    return tuple((question.strip(), answer.strip()) for question, answer in zip(questions, answers, strict=True))


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise BadRowError(message)


def probed(rows: Iterable[Row]) -> tuple[list[tuple[Row, Video]], list[Skipped]]:
    """Rows with what is known of their videos, and those whose video does not decode; each file is opened once."""
    known: dict[Path, Video | str] = {}
    good, bad = [], []
    for row in rows:
        if row.video not in known:
            try:
                known[row.video] = video = video_file.probe(row.video)
                video_file.expect_whole(video)
            except VideoError as error:
                known[row.video] = str(error)
        found = known[row.video]
        if isinstance(found, str):
            bad.append(Skipped(row=row.row, id=row.id, reason=found))
        else:
            good.append((row, found))
    return good, bad


class Conversations(torch.utils.data.Dataset[Sample]):
    """One conversation a sample: the video first, then all turns, with loss on the answers and on their ends."""

    def __init__(self, rows: list[tuple[Row, Video]], frame_encoder: FrameEncoder, point: OperatingPoint) -> None:
        self.rows, self.frame_encoder, self.point = rows, frame_encoder, point

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Sample:
        """A row. Where its video opens but its frames do not decode, the next row stands in, and a line says so."""
        for offset in range(len(self.rows)):
            row, video = self.rows[(number + offset) % len(self.rows)]
            try:
                return self._sample(row, video)
            except VideoError as error:
                log.warning("row %s left out: %s", row.id, error)
        raise DataError(f"expected videos whose frames decode, got {len(self.rows)} of which none does")

    def _sample(self, row: Row, video: Video) -> Sample:
        planned, backbone = self.frame_encoder.plan(self.point, video), self.frame_encoder.backbone
        plan = planned.frames
        frames = self.frame_encoder.decode(video, [plan])[plan]
        (question, answer), *later = row.turns
        told = backbone.introduced(question, seconds=video.duration_s, frames=len(planned.budget.frames))
        prefix, suffix, targets = tokenised(backbone, ((told, answer), *later))
        return Sample(
            prefix_ids=torch.tensor(prefix),
            suffix_ids=torch.tensor([[suffix]]),
            targets=torch.tensor([[targets]]),
            seen=((video, plan, frames),),
        )


def tokenised(backbone: Any, turns: tuple[tuple[str, str], ...]) -> tuple[list[int], list[int], list[int]]:
    """Ids before the video, ids after it, and the token to learn after each of those (IGNORE where none)."""

    def ids(text: str) -> list[int]:
        return list(backbone.tokenizer(text, add_special_tokens=False)["input_ids"])

    (end,) = ids(END)
    if end not in backbone.stop_ids():
        raise ConfigError(f"expected a backbone whose replies end with {END}, as Qwen2-VL's do")
    prefix_ids, first = backbone.prompt(turns[0][0], video=True)
    suffix_ids: list[int] = []
    learned: list[bool] = []
    for number, (question, answer) in enumerate(turns):
        answer_ids = [*ids(_plain(answer)), end]
        question_ids = first if number == 0 else ids(TURN.format(_plain(question)))
        suffix_ids += question_ids + answer_ids
        learned += [False] * len(question_ids) + [True] * len(answer_ids)
    targets = [t if is_learned else IGNORE for t, is_learned in zip(suffix_ids[1:], learned[1:], strict=True)]
    return prefix_ids, suffix_ids, [*targets, IGNORE]


def _plain(text: str) -> str:
    """Special tokens that a text spells stay text."""
    return text.replace("<|", "< |")


def write_skipped(skipped: Iterable[Skipped], file: Path) -> None:
    """One JSON line for each row that was left out."""
    file.write_text("".join(_lines(skipped)), encoding="utf-8")


def _lines(skipped: Iterable[Skipped]) -> Iterator[str]:
    yield from (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in skipped)
