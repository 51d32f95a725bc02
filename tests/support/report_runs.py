"""Runs for tests of the report, made in memory: every number follows from a question's place and a seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.runs.load import Run
from evalkit.runs.parse_answer import read
from tests.support.run_folders import config, ledger, row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METHODS = {"uniform": "reference", "keeper": "method", "query_aware": "method"}
RATIOS = (1.0, 0.5, 0.25, 0.125)
PLACES = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter", "several quarters")
DURATIONS = ("short", "medium", "long")


def averages(protocol: str, benchmark: str, rows: Sequence[tuple[Mapping[str, Any], bool]]) -> dict[str, float]:
    """Stands in for the protocol's own averages."""
    return {"micro (official)": 100 * sum(right for _, right in rows) / len(rows)}


def grid(
    questions: int,
    *,
    per_video: int = 3,
    cells: int = 64,
    prompt: int = 200,
    asks: bool = True,
    methods: Mapping[str, str] = METHODS,
    ratios: Sequence[float] = RATIOS,
    **benchmark: Any,
) -> list[Run]:
    """Methods × ratios on `questions` questions; prompts are `prompt` characters long, each its own.

    The method `query_aware` keeps something else for every question where `asks`; a lower ratio is more often wrong.
    """
    return [
        run(
            name,
            role,
            ratio,
            [_answer(q, name, ratio, per_video, cells, prompt, asks) for q in range(questions)],
            **benchmark,
        )
        for name, role in methods.items()
        for ratio in ratios
    ]


def run(method: str, role: str, ratio: float, rows: Sequence[dict[str, Any]], **benchmark: Any) -> Run:
    """One run as it would be read from its folder."""
    sections = {"benchmark": {"questions": len(rows), **benchmark}, "method": {"name": method, "role": role}}
    settings = config(ratio=ratio, identity=f"{method}-{ratio:g}-{benchmark.get('label', '')}", **sections)
    own = {"benchmark": settings["benchmark"]["name"], "method": method, "ratio": ratio}
    answers = tuple(read(line | own, "a test") for line in rows)
    return Run(folder=Path("no folder"), config=settings, answers=answers)


def _answer(q: int, method: str, ratio: float, per_video: int, cells: int, prompt: int, asks: bool) -> dict[str, Any]:
    draw = random.Random(f"{q} {method if ratio < 1 else 'dense'} {ratio}")
    video = q // per_video
    right = draw.random() < 0.3 + 0.5 * ratio
    letter = "B" if right else "A"
    length = 60.0 + video
    kept = random.Random(f"{video} {q if asks and method == 'question_attention' else method} {ratio}")
    places = sorted(kept.sample(range(cells), max(1, round(cells * ratio)))) if method != "keeper" else range(cells)
    groups = {
        "duration": [DURATIONS[video % 3]],
        "task_type": [f"task {q % 12}"],
        "evidence": [PLACES[q % 5]],
    }
    words = f"Question {q}: what is seen after the {q % 7}th minute? " * (1 + prompt // 50)
    return row(
        f"{video:03}-{q % per_video + 1}",
        right,
        f"video {video}",
        groups=groups,
        letter=letter,
        text=f"{letter}. as I saw it in frame {draw.randrange(10**6)}" if q % 3 else letter,
        prompt=f"{words[:prompt]}\nWhat is seen in question {q}?\nA. a cat\nB. a dog\n",
        duration_s=length,
        ledger=ledger(
            ratio_nominal=ratio, ratio_achieved=ratio, cells=cells, kv_tokens_per_layer=[int(1024 * ratio)] * 2
        ),
        kept={
            "seconds": [round(place * length / cells, 3) for place in places],
            "tokens": [1024 * ratio / len(places)] * len(places),
        },
    )
