"""Writes run folders as the engine writes them, for tests of what reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def ledger(**changes: Any) -> dict[str, Any]:
    """A plausible ledger at ratio 0.25."""
    return {
        "frames_decoded": 8,
        "cells": 4,
        "tokens_dense": 256,
        "tokens_encoded": 64,
        "tokens_selected": 64,
        "llm_tokens_fed": 164,
        "kv_tokens_per_layer": [60, 68],
        "kv_bytes": 2_000_000,
        "ratio_nominal": 0.25,
        "ratio_achieved": 0.25,
        "shared_prefix": True,
        "peak_bytes": 500_000_000,
        "seconds": {"decode": 0.1, "encode": 0.2, "select": 0.0, "prefill": 0.3, "generate": 0.4},
        "flops": {"encode": 2 * 10**12, "select": 0, "prefill": 10**12, "generate": 10**9},
    } | changes


def row(question: str, correct: bool | None, video: str = "v1", **changes: Any) -> dict[str, Any]:
    """One line of answers.jsonl; `correct` None makes it a failed one."""
    failed = correct is None
    return {
        "benchmark": "mlvu",
        "question_id": question,
        "video_id": video,
        "groups": {"task_type": ["plotQA"], "duration": ["<2 min"]},
        "method": "uniform",
        "ratio": 0.25,
        "gold": "B",
        **outcome(correct),
        "error": "VideoError: broken" if failed else None,
        "prompt_sha": "abc",
        "ledger": None if failed else ledger(),
        "prompt": "" if failed else f"What is seen in {question}?\nA. a cat\nB. a dog\n",
        "options": ["a cat", "a dog"],
        "duration_s": None if failed else 60.0,
        "kept": None if failed else {"seconds": [0.0, 15.0, 30.0, 45.0], "tokens": [16.0, 16.0, 16.0, 16.0]},
    } | changes


def outcome(correct: bool | None) -> dict[str, Any]:
    """What a line says of a reply that is right, wrong (A for B) or not there, as the question failed."""
    letter = {True: "B", False: "A", None: None}[correct]
    status = "failed" if letter is None else "ok"
    return {"text": letter or "", "letter": letter, "correct": correct, "status": status}


UNPARSED = {"letter": None, "status": "unparsed"}


def config(**changes: Any) -> dict[str, Any]:
    """config.yaml of a run; `method` and `benchmark` update their sections."""
    parts = {
        "identity": "1f0c22aa00000000",
        "benchmark": {
            "name": "mlvu",
            "label": "generated videos (MLVU format)",
            "split": "dev",
            "questions": 4,
            "generated": True,
            "notes": [],
        },
        "backbone": {"name": "tiny"},
        "sampling": {"preset": "lmms_eval", "frames": 32},
        "method": {"name": "uniform", "role": "reference", "class": "methods.uniform.Uniform"},
        "ratio": 0.25,
        "protocol": {"name": "lmms_eval", "version": "0.7.3"},
        "share": True,
    }
    return {
        key: value | changes[key] if isinstance(value, dict) and key in changes else changes.get(key, value)
        for key, value in parts.items()
    }


def write_run(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> Path:
    """A run folder with `rows`, which take over benchmark, method and ratio of the config."""
    settings = config(**changes)
    asked = {line.get("question_id") for line in rows}
    settings["benchmark"]["questions"] = max(len(asked), settings["benchmark"]["questions"])
    own = {
        "benchmark": settings["benchmark"]["name"],
        "method": settings["method"]["name"],
        "ratio": settings["ratio"],
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    lines = [json.dumps(line | own, ensure_ascii=False) + "\n" for line in rows]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    return folder
