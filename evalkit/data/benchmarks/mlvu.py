"""MLVU dev, multiple choice (arXiv 2406.04264): the official JSON folder, or lmms-eval's MLVU_dev parquet.

The official rows give the right option as text. Its letter follows the official rule: the last option that equals it;
none leaves the row without a right option. A protocol may have another rule (`Protocol.gold`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks import fields, files
from evalkit.data.benchmarks.files import SUBSET_LISTS
from evalkit.data.benchmarks.rows import Loaded, Row, collect, rows_of
from evalkit.data.benchmarks.spec import Archive, BenchmarkSpec, KnownRows, LmmsEvalTask, Source
from evalkit.data.protocols import official, retake, xcomp
from evalkit.data.protocols.base import official_macro
from evalkit.errors import DataError
from evalkit.types import LETTERS, Question

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LAYOUT = """An MLVU dev folder holds either the official layout
  json/1_plotQA.json … json/7_topic_reasoning.json   the questions
  video/1_plotQA/<name>.mp4 …                        the videos
from the hub dataset MLVU/MVLU, or lmms-eval's layout
  data/test-00000-of-00001.parquet                   the questions
  <name>.mp4                                         the videos, also in video/
from the hub dataset sy1998/MLVU_dev, video_part_1.zip to video_part_8.zip unpacked. Nothing is downloaded for you."""
STEMS = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
TASKS = tuple(stem.split("_", 1)[1] for stem in STEMS)
GENERATION = ("8_sub_scene", "9_summary")
_PREFIXES = ("json/", "MLVU/json/", "data/", "")
_PATTERNS = ("data/test-*.parquet", "mlvu/test-*.parquet", "test-*.parquet", "*.parquet", "data/*.parquet")
_COLUMNS = ("video_name", "duration", "question", "answer", "task_type", "question_id")
# A name is one video in all tasks (lmms-eval keeps them in one flat folder), so any task's folder may hold it.
_FOLDERS = ("", "video", "videos", "MLVU/video", *(f"{at}/{stem}" for at in ("video", "MLVU/video") for stem in STEMS))


def read(root: Path) -> Loaded:
    """The official JSON files where there are any, else the parquet."""
    official = _official_files(root)
    if official:
        return _official(root, official)
    found = files.find(root, _PATTERNS)
    if not found:
        raise DataError(f"{root}: expected json/1_plotQA.json … or data/test-*.parquet, found neither\n{_LAYOUT}")
    rows = [row for file in found for row in rows_of(file, files.read_parquet(file, _COLUMNS, ("candidates",)))]
    questions, bad = collect("mlvu", rows, _identify, partial(_parquet_question, files.VideoFolders(root, _FOLDERS)))
    return Loaded(split="dev", questions=questions, bad_rows=bad, notes=_notes(questions))


def right_letter(options: Sequence[str], answer: str) -> str:
    """Letter of the last option that equals `answer`; "" if none does."""
    return next((LETTERS[k] for k in reversed(range(len(options))) if options[k] == answer), "")


def _official_files(root: Path) -> list[Path]:
    for prefix in _PREFIXES:
        found = [path for stem in STEMS if (path := root / f"{prefix}{stem}.json").is_file()]
        if found:
            return found
    return []


def _official(root: Path, found: list[Path]) -> Loaded:
    rows = [row for file in found for row in rows_of(file, files.read_json_list(file))]
    questions, bad = collect(
        "mlvu", rows, lambda row: row.default_id, partial(_official_question, files.VideoFolders(root, _FOLDERS))
    )
    notes = [*_notes(questions)]
    missing = sorted(set(STEMS) - {file.stem for file in found})
    if missing:
        notes.append(f"task files missing: {', '.join(missing)}")
    skipped = [stem for stem in GENERATION if (found[0].parent / f"{stem}.json").is_file()]
    if skipped:
        notes.append(f"generation tasks skipped: {', '.join(skipped)}")
    return Loaded(split="dev", questions=questions, bad_rows=bad, notes=tuple(notes))


def _official_question(videos: files.VideoFolders, row: Row, name: str) -> Question:
    data, stem = row.data, row.file.stem
    task = stem.split("_", 1)[1]
    text = fields.text(data, "question", blank=True)
    candidates = fields.texts(data, "candidates")
    if not text.strip() and any(candidates):
        raise fields.wrong("question", "a text that is not empty", text)
    options = fields.countable("candidates", candidates, blank=not text.strip())
    asked = text + "\n" + "".join(f"({LETTERS[k]}) {option}\n" for k, option in enumerate(options))
    shaped = {
        "video_name": data.get("video"),
        "duration": fields.seconds(data, "duration"),
        "question": asked,
        "candidates": list(options),
        "answer": right_letter(options, fields.text(data, "answer", blank=True)),
        "task_type": task,
        "question_id": name,
    }
    video, suffix = fields.video_name(data, "video")
    return _built(
        shaped, name, video, videos.path(video, suffix, f"video/{stem}"), text.strip(), tuple(map(str.strip, options))
    )


def _identify(row: Row) -> str:
    return f"{fields.one_of(row.data, 'task_type', TASKS)}:{fields.identifier(row.data, 'question_id')}"


def _parquet_question(videos: files.VideoFolders, row: Row, name: str) -> Question:
    text, options = fields.split_options(row.data, "question", blank=True)
    fields.seconds(row.data, "duration")
    if row.data["answer"] != "":
        fields.letter(row.data, "answer", len(options))
    video, suffix = fields.video_name(row.data, "video_name")
    return _built(row.data, name, video, videos.path(video, suffix), text, options)


def _built(shaped: dict[str, Any], name: str, video: str, path: Path, text: str, options: tuple[str, ...]) -> Question:
    return Question(
        benchmark="mlvu",
        id=name,
        video_id=video,
        video_path=path,
        text=text,
        options=options,
        answer=shaped["answer"],
        groups={"task_type": (shaped["task_type"],), "duration": (fields.duration_bucket(shaped["duration"]),)},
        row=shaped,
        duration_s=float(shaped["duration"]),
    )


def _notes(questions: Sequence[Question]) -> tuple[str, ...]:
    """The known quirks, counted; what becomes of such rows is the protocol's rule."""
    empty = sum(not q.text for q in questions)
    unanswerable = sum(not q.answer for q in questions)
    twice = sum(
        bool(q.text and q.answer) and q.options.count(q.options[LETTERS.index(q.answer)]) > 1 for q in questions
    )
    found = (
        (unanswerable, "without a right option"),
        (empty, "with neither question nor options"),
        (twice, "with the right option twice"),
    )
    return tuple(f"{count} {'row' if count == 1 else 'rows'} {what}" for count, what in found if count)


def _video_file(question: Question) -> str:
    """A name is one video in all tasks, so one task's copy is enough."""
    return f"MLVU/video/{_STEM_OF[question.groups['task_type'][0]]}/{question.row['video_name']}"


_STEM_OF = dict(zip(TASKS, STEMS, strict=True))
_PART_BYTES = (
    36626152774,
    34311867313,
    41427664931,
    43162717558,
    44702247576,
    29624788310,
    33061239060,
    22147421187,
)
SPEC = BenchmarkSpec(
    name="mlvu",
    label="MLVU",
    read=read,
    layout=_LAYOUT,
    question_sets={2175: "official dev set, multiple choice"},
    protocols={"official": official.MLVU, "retake": retake.MLVU, "xcomp": xcomp.MLVU},
    lmms_eval=LmmsEvalTask(
        file="mlvu/mlvu_dev.yaml",
        averages=official_macro,
        scoring_note="an unreadable reply is wrong; every reply to a row without a right option is wrong",
    ),
    several_files=True,
    sources=(
        Source(
            repo="MLVU/MVLU",
            revision="06ddc388aa34746b3abba77972b7a7dfd977f7a3",
            archives=(
                Archive(name="MLVU/json/*.json", holds="the questions"),
                Archive(name="MLVU/video/<task>/<name>.mp4", holds="one video each", videos=True),
            ),
            then="nothing: the files lie where they are read",
            terms="CC-BY-NC-SA-4.0, research only; accept them on the data set's page and log in with `hf auth login`",
            video_file=_video_file,
        ),
        Source(
            repo="sy1998/MLVU_dev",
            revision="96207eb9aa7101e2a495dd147684a7e618c79e12",
            archives=(
                Archive(name="mlvu/test-00000-of-00001.parquet", size=204e3, holds="the questions"),
                *(
                    Archive(name=f"video_part_{number}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(_PART_BYTES, 1)
                ),
            ),
            total=sum(_PART_BYTES),
            then="unpack the archives in the folder itself: <name>.mp4, all in one folder",
            terms="CC-BY-NC-SA-4.0, research only",
        ),
    ),
    known_rows=(
        KnownRows(  # source: the official JSON files, JUNJIE99/MLVU at fd060c10
            ids="c55efb38f066a0ed6e4e41591c03346ea868089dae4b5b56ee4dd690808a603c",
            content="e08fc6b28dd817fd093a269a90283fa22ca25c190ca646eb50502e1f2c0851c7",
        ),
    ),
    subset_lists=SUBSET_LISTS / "mlvu.json",
)
