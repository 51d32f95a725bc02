"""What a grid would cost: frames, tokens, cache and time, with no frame decoded and no weight read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from evalkit.analysis.tables.formatting import render, significant
from evalkit.data import video as video_file
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.errors import EvalkitError
from evalkit.method import OperatingPoint
from evalkit.model.flops import OpCounts
from evalkit.types import Benchmark, Video, VisualTokens

if TYPE_CHECKING:
    from evalkit.engine.grid import Grid
    from evalkit.model.video_llm import VideoLLM

TEXT_TOKENS = 150  # assumed length of head, question and options
TIME_TOKENS = 9  # of `<1234.5 seconds>`, assumed where no tokenizer is loaded: Qwen's has a token for each digit
MEANS = ("frames", "tokens", "separators", "KV MB")  # columns of a video; the others are sums
ASSUMED = """frames, tokens, separators and cache are of a video, TFLOPs and seconds of all.
separators: newlines and times between visual tokens, as if every row kept a token; KV MB and TFLOPs include them.
TFLOPs: closed form, if every layer reads every encoded token and questions share their video; a method that drops
tokens on the way takes less, one that asks the LLM first takes more. seconds: those TFLOPs at this device's measured
matrix speed; decoding is not in it."""


def estimate(grid: Grid) -> str:
    """The table that `dry_run=true` prints."""
    backbone = grid.setup.backbone
    model = backbone.skeleton()
    frame_encoder = grid.setup.frame_encoder(model)
    speed = matrix_speed(backbone.torch_device, model.model.dtype)
    found = [(benchmark, *_probe(benchmark, grid.setup.tolerates_short)) for benchmark in grid.benchmarks]
    rows = [row for probed in found for row in _rows(*probed, grid.points, frame_encoder, speed)]
    texts = [{key: significant(v) if isinstance(v, float) else str(v) for key, v in row.items()} for row in rows]
    return f"Nothing is run. {ASSUMED}\n\n{render(pd.DataFrame(texts), left=('benchmark', 'method'))}"


def _rows(
    benchmark: Benchmark,
    videos: Sequence[tuple[Video, int]],
    broken: int,
    points: Sequence[OperatingPoint],
    frame_encoder: FrameEncoder,
    speed: float,
) -> Iterator[dict[str, Any]]:
    for point in points:
        spent = [_video(point, video, asked, frame_encoder, speed) for video, asked in videos]
        yield {
            "benchmark": benchmark.label,
            "method": point.name,
            "ratio": f"{point.ratio:g}",
            "questions": len(benchmark.questions),
            "videos": len(videos),
            "unreadable": broken,
            **{
                key: sum(row[key] for row in spent) / max(1, len(spent))
                for key in ("frames", "tokens", "separators", "KV MB")
            },
            **{key: sum(row[key] for row in spent) for key in ("TFLOPs", "seconds")},
        }


def _probe(benchmark: Benchmark, tolerate_short: bool) -> tuple[list[tuple[Video, int]], int]:
    """Readable videos, each with its number of questions, and how many cannot be read."""
    found = []
    groups = benchmark.by_video()
    for questions in groups.values():
        try:
            video = video_file.probe(questions[0].video_path)
            if not tolerate_short:
                video_file.expect_whole(video)
            # methods that choose frames for each question take as many for all
            found.append((replace(video, frame_scores=questions[0].frame_scores), len(questions)))
        except EvalkitError:
            continue
    return found, len(groups) - len(found)


def _video(
    point: OperatingPoint, video: Video, asked: int, frame_encoder: FrameEncoder, speed: float
) -> dict[str, float]:
    """Frames, tokens and cache of one video at one operating point, if `select` and later verbs keep the ratio."""
    planned = frame_encoder.plan(point, video)
    plan, budget = planned.frames, planned.budget
    model = frame_encoder.backbone
    cells = -(-len(plan.slots) // budget.clip_frames) * budget.clip_cells if plan.indices else 0
    grid = model.token_grid(plan.height, plan.width)
    tokens = cells * grid[0] * grid[1]
    kept = min(tokens, round(point.ratio * budget.dense_tokens))
    between = separators(model, cells, grid)
    cached = kept + between.fixed + min(between.with_row, kept)
    vision = model.encode_flops(cells, grid) + model.view_flops(point.method.needs, cells, grid)
    flops = vision + model.flops(_work(model.layers, tokens + sum(between), cached, asked))
    return {
        "frames": len(plan.indices),
        "tokens": kept,
        "separators": cached - kept,
        "KV MB": cached * model.layers * model.kv_entry_bytes / 1e6,
        "TFLOPs": flops / 1e12,
        "seconds": flops / speed,
    }


class SeparatorCount(NamedTuple):
    """Tokens of a dense video that stand between its visual ones."""

    with_row: int  # that go with the last token of their row
    fixed: int  # that stay


def separators(model: VideoLLM, cells: int, grid: tuple[int, int]) -> SeparatorCount:
    """Those of `cells` cells of `grid` rows and columns; a skeleton will do."""
    if not cells:
        return SeparatorCount(0, 0)
    places = grid[0] * grid[1]
    found = model.separators(VisualTokens.dense(torch.empty(cells * places, 0), [0.0] * cells, grid))
    if found is None:
        return SeparatorCount(0, 0)
    with_row = int(found.with_row.sum())
    unread = found.ids is not None and model.tokenizer is None  # text that the skeleton could not write
    times = cells * TIME_TOKENS if unread else 0
    return SeparatorCount(with_row, len(found) - with_row + times)


def _work(layers: int, tokens: int, kept: int, asked: int) -> OpCounts:
    """What the LLM does with a video of `tokens` whose cache grows to `kept` entries, and with `asked` questions."""
    text = asked * TEXT_TOKENS
    through = layers * (tokens + text)
    pairs = layers * (tokens * kept // 2 + text * (kept + TEXT_TOKENS))
    return OpCounts(projected=through, pairs=pairs, transformed=through, scored=asked)


def matrix_speed(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of a square matrix product on this device, the best of a few."""
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / min(_timed(lambda: float((a @ a)[0, 0])) for _ in range(4))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
