"""A few generated videos in the three formats, for evalkit and for lmms-eval, and how to start the latter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from evalkit.data.benchmarks import load
from evalkit.tiny.videos import encode, formats
from evalkit.types import Question
from tests.support.rows import LVBENCH_FILE, MLVU_FILE, VIDEOMME_FILE, write_parquet

FORMATS = ("videomme", "mlvu", "lvbench")
TASK_FILES = {"videomme": "videomme/videomme.yaml", "mlvu": "mlvu/mlvu_dev.yaml", "lvbench": "lvbench/lvbench.yaml"}
PARQUET = {"videomme": VIDEOMME_FILE, "mlvu": MLVU_FILE, "lvbench": LVBENCH_FILE}
LINKS = {"videomme": "videomme/data", "mlvu": "mlvu", "lvbench": "lvbench"}  # where lmms-eval looks below HF_HOME
FRAMES = 40  # of each clip: the worlds of the built-in sets, told faster


@dataclass(frozen=True)
class Slice:
    """The same questions twice."""

    root: Path  # benchmark.root of run_eval.py
    tasks: Path  # --include_path
    home: Path  # HF_HOME
    questions: dict[str, tuple[Question, ...]]  # by format; a doc_id of lmms-eval is a place in its tuple


def make(root: Path) -> Slice:
    """Two VideoMME, three MLVU and two LVBench videos. One VideoMME video is broken, one MLVU video missing."""
    _videomme(root / "data" / "videomme", videos=2)
    _mlvu(root / "data" / "mlvu", stems=("1_plotQA", "2_needle", "4_count"))
    _lvbench(root / "data" / "lvbench", videos=2, questions=3)
    found = {name: load(name, root / "data" / name)[0].questions for name in FORMATS}
    broken, missing = found["videomme"][-1].video_path, found["mlvu"][-1].video_path
    broken.write_bytes(broken.read_bytes()[:200])
    missing.unlink()
    for name, questions in found.items():
        as_theirs(root, name, questions)
    return Slice(root / "data", root / "tasks", root / "home", found)


def _videomme(root: Path, videos: int) -> None:
    layout = formats.videomme(root)
    ((path, save),) = layout.savers.items()
    path.parent.mkdir(parents=True)
    save(path)
    rows = pq.read_table(path).to_pylist()[: 3 * videos]
    rows = [row | {"domain": "Knowledge", "sub_category": "Geography"} for row in rows]  # their table knows no others
    write_parquet(path, rows)
    _clips(layout, {row["videoID"] for row in rows})


def _mlvu(root: Path, stems: Sequence[str]) -> None:
    """The first video of each task, all its questions."""
    layout = formats.mlvu(root)
    kept = set()
    for stem in stems:
        path = root / "json" / f"{stem}.json"
        rows = json.loads(layout.texts[path])
        rows = [row for row in rows if row["video"] == rows[0]["video"]]
        kept.add(Path(rows[0]["video"]).stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    _clips(layout, kept)


def _lvbench(root: Path, videos: int, questions: int) -> None:
    layout = formats.lvbench(root)
    path = root / "video_info.meta.jsonl"
    lines = [json.loads(line) for line in layout.texts[path].splitlines()[:videos]]
    root.mkdir(parents=True)
    path.write_text("".join(json.dumps(x | {"qa": x["qa"][:questions]}) + "\n" for x in lines), encoding="utf-8")
    _clips(layout, {line["key"] for line in lines})


def _clips(layout: formats.Layout, stems: set[str]) -> None:
    for clip in layout.clips:
        if clip.path.stem in stems:
            encode.write(replace(clip, frames=FRAMES))
    (layout.root / "GENERATED.json").write_text('{"version": "test"}', encoding="utf-8")


def as_theirs(root: Path, name: str, questions: Sequence[Question]) -> None:
    """Parquet of the rows, the videos linked below HF_HOME, and a task file that includes lmms-eval's own."""
    data = root / "theirs" / name
    write_parquet(data / PARQUET[name], [dict(q.row) for q in questions])
    for question in questions:
        link = root / "home" / LINKS[name] / question.video_path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(question.video_path)
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    include = Path(spec.submodule_search_locations[0]) / "tasks" / TASK_FILES[name]
    task = root / "tasks" / name / f"{name}.yaml"
    task.parent.mkdir(parents=True)
    task.write_text(f"include: {include}\ntask: {name}_slice\ndataset_path: {data}\n", encoding="utf-8")


def python(slice_: Slice, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own: lmms-eval rebinds globals of ssl, filelock and loguru."""
    env = os.environ | {"HF_HOME": str(slice_.home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def config(slice_: Slice, runs: dict[Path, str]) -> Path:
    """A file for `--config` of lmms-eval's command line, with several runs: model_args by output folder."""
    common = {"model": "evalkit", "tasks": ",".join(f"{name}_slice" for name in FORMATS), "log_samples": True}
    common["include_path"] = str(slice_.tasks)
    configs = [common | {"model_args": args, "output_path": str(out)} for out, args in runs.items()]
    file = slice_.root / "lmms_eval.yaml"
    file.write_text(yaml.safe_dump(configs), encoding="utf-8")
    return file


def json_lines(out: Path, kind: str) -> dict[tuple[str, int], dict[str, Any]]:
    """lmms-eval's samples or our budget records, by format and doc_id."""
    found = {}
    for file in out.rglob(f"*_{kind}_*.jsonl"):
        name = file.stem.split(f"_{kind}_")[1].removesuffix("_slice")
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert (name, record["doc_id"]) not in found
            found[name, record["doc_id"]] = record
    return found
