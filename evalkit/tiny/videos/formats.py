"""Planned test sets in the formats in which the three benchmarks are distributed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.tiny.videos import plan
from evalkit.tiny.videos.encode import SIDE, Clip
from evalkit.tiny.videos.plan import Planned
from evalkit.tiny.videos.questions import Choice, lettered

KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
NARRATION = ("A new part begins.", "The camera moves on.", "Something is about to happen.", "We look around.")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every file of a test set."""

    root: Path
    clips: list[Clip] = field(default_factory=list)
    texts: dict[Path, str] = field(default_factory=dict)
    savers: dict[Path, Callable[[Path], object]] = field(default_factory=dict)


def videomme(root: Path) -> Layout:
    """A parquet file of rows, data/<videoID>.mp4 (one .mkv in VP9), subtitle/<videoID>.srt for some."""
    layout = Layout(root=root)
    rows: list[dict[str, Any]] = []
    evidence: dict[str, list[list[float]]] = {}
    for number, (key, planned) in enumerate(zip(_keys(1), plan.videomme(), strict=False)):
        vp9 = number == 3
        _add(layout, root / "data" / f"{key}{'.mkv' if vp9 else '.mp4'}", planned, "vp9" if vp9 else "h264")
        if planned.task != "short" and number % 2:
            layout.texts[root / "subtitle" / f"{key}.srt"] = _subtitles(planned)
        for k, choice in enumerate(planned.choices):
            row = _videomme_row(f"{number + 1:03d}", k + 1, key, planned.task, choice)
            rows.append(row)
            evidence[row["question_id"]] = planned.evidence(choice.question)
    layout.texts[root / "evidence.json"] = _json(evidence)
    layout.savers[root / "videomme" / "test-00000-of-00001.parquet"] = partial(_save_parquet, rows)
    return layout


def mlvu(root: Path) -> Layout:
    """One JSON list a task, video/<task>/<name>.mp4 (one .webm in VP9)."""
    layout = Layout(root=root)
    tables: dict[str, list[dict[str, Any]]] = {stem: [] for stem in plan.MLVU_TASKS}
    evidence: dict[str, list[list[float]]] = {}
    for number, planned in enumerate(plan.mlvu()):
        rows, vp9 = tables[planned.task], number == 0
        name = f"{planned.task.split('_', 1)[1]}_{number}{'.webm' if vp9 else '.mp4'}"
        _add(layout, root / "video" / planned.task / name, planned, "vp9" if vp9 else "h264")
        for choice in planned.choices:
            evidence[f"{planned.task}:{len(rows)}"] = planned.evidence(choice.question)
            rows.append(_mlvu_row(name, planned, choice))
    for stem, rows in tables.items():
        layout.texts[root / "json" / f"{stem}.json"] = _json(rows)
    layout.texts[root / "evidence.json"] = _json(evidence)
    return layout


def lvbench(root: Path) -> Layout:
    """One JSON line a video, videos/<key>.mp4 (one in AV1)."""
    layout = Layout(root=root)
    lines: list[str] = []
    evidence: dict[str, list[list[float]]] = {}
    for number, (key, planned) in enumerate(zip(_keys(3), plan.lvbench(), strict=False)):
        _add(layout, root / "videos" / f"{key}.mp4", planned, "av1" if number == 0 else "h264")
        questions = []
        for choice in planned.choices:
            uid = str(len(evidence) + 1)
            evidence[uid] = planned.evidence(choice.question)
            questions.append(_lvbench_row(uid, evidence[uid], choice))
        lines.append(json.dumps(_lvbench_video(key, number, planned, questions), ensure_ascii=False))
    layout.texts[root / "video_info.meta.jsonl"] = "\n".join(lines) + "\n"
    layout.texts[root / "evidence.json"] = _json(evidence)
    return layout


def _videomme_row(video: str, number: int, key: str, duration: str, choice: Choice) -> dict[str, Any]:
    return {
        "video_id": video,
        "duration": duration,
        "domain": "Generated",
        "sub_category": "Moving Shapes",
        "url": "",
        "videoID": key,
        "question_id": f"{video}-{number}",
        "task_type": plan.VIDEOMME_TASKS[choice.question.kind],
        "question": choice.question.text,
        "options": lettered(choice.options, "{}. "),
        "answer": "ABCD"[choice.answer],
    }


def _mlvu_row(name: str, planned: Planned, choice: Choice) -> dict[str, Any]:
    return {
        "video": name,
        "duration": planned.seconds,
        "question": choice.question.text,
        "candidates": list(choice.options),
        "answer": choice.options[choice.answer],
        "question_type": plan.MLVU_TASKS[planned.task][0],
    }


def _lvbench_row(uid: str, spans: Sequence[Sequence[float]], choice: Choice) -> dict[str, Any]:
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    return {
        "uid": uid,
        "question": "\n".join([choice.question.text, *lettered(choice.options, "({}) ")]),
        "answer": "ABCD"[choice.answer],
        "question_type": plan.LVBENCH_TYPES[choice.question.kind],
        "time_reference": f"{_clock(start)}-{_clock(end)}",
    }


def _lvbench_video(key: str, number: int, planned: Planned, questions: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = ("cartoon", "documentary", "live", "selfmedia", "sport", "tv")
    info = {
        "duration_minutes": planned.seconds / 60,
        "fps": float(planned.fps),
        "resolution": {"width": SIDE, "height": SIDE},
    }
    return {"key": key, "type": kinds[number % len(kinds)], "video_info": info, "qa": questions}


def _add(layout: Layout, path: Path, planned: Planned, codec: str) -> None:
    clip = Clip(path=path, world=planned.world, frames=planned.frames, fps=planned.fps, codec=codec)
    layout.clips.append(clip)


def _keys(stream: int) -> list[str]:
    """Names of eleven characters, in the manner of video platforms; a hyphen or underscore may come anywhere."""
    rng = np.random.default_rng((plan.SEED, stream, 9))
    return ["".join(KEY_LETTERS[int(i)] for i in rng.integers(len(KEY_LETTERS), size=11)) for _ in range(100)]


def _subtitles(planned: Planned) -> str:
    """Narration without hints to an answer, in the markup of the original files."""
    blocks = []
    for number, scene in enumerate(planned.world.scenes):
        start = scene.start * planned.seconds
        text = f'<font color="white" size=".72c">{NARRATION[number % len(NARRATION)]}</font>'
        blocks.append(f"{number + 1}\n{_stamp(start)} --> {_stamp(start + 4)}\n{text}\n")
    return "\n".join(blocks)


def _stamp(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _save_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
