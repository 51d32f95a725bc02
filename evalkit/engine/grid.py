"""A grid of methods and ratios over question sets: video outermost, every answer stored as it comes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tqdm.contrib.logging import logging_redirect_tqdm

from evalkit.config import build, checks
from evalkit.data import protocols
from evalkit.data.protocols import Protocol
from evalkit.data.sampling import Sampling
from evalkit.engine import records, timing
from evalkit.engine.answer import Engine
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.engine.records import OperatingPoint
from evalkit.model import load
from evalkit.model.checkpoint import Checkpoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.weights_identity import weights_identity
from evalkit.progress import progress
from evalkit.runs import identity
from evalkit.runs.folder import RunFolder
from evalkit.types import Answer, BadRow, Benchmark, Question

log = logging.getLogger(__name__)


class Grid:
    """One call of run_eval.py: question sets × operating points on one backbone."""

    def __init__(self, cfg: DictConfig) -> None:
        checks.evaluation(cfg)
        self.cfg = cfg
        self.points = build.points(cfg)
        self.order = build.order(cfg)
        self.reference = build.reference(cfg)
        self.sampling = build.sampling(cfg)
        self.protocol = protocols.get(cfg.protocol)
        self.benchmarks = build.question_sets(cfg)
        self.device = load.pick_device(cfg.backbone.device)
        self.timed_videos = timing.count(cfg.timing)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Where the weights lie."""
        return build.checkpoint(self.cfg)

    @cached_property
    def generation(self) -> dict[str, Any]:
        """What the checkpoint's generation_config changes about decoding; ConfigError where it cannot be loaded."""
        found = load.check(self.checkpoint, dtype=self.cfg.backbone.dtype, adapter=build.adapter(self.cfg))
        if found:
            log.info("applied to decoding, from the checkpoint's generation_config: %s", found)
        return found

    @cached_property
    def engine(self) -> Engine:
        """Loaded on first use, so that a finished grid loads no model."""
        return load_engine(self.cfg, self.checkpoint, self.sampling, self.protocol)

    def frame_encoder(self, model: Qwen2VL) -> FrameEncoder:
        """How this grid looks at videos through `model`."""
        return FrameEncoder(backbone=model, sampling=self.sampling, seed=self.cfg.seed)

    @cached_property
    def _common(self) -> dict[str, Any]:
        """The parts of the identity that all runs of the grid share."""
        backbone = self.cfg.backbone
        return {
            "code": identity.code(),
            "weights": weights_identity(self.checkpoint, build.adapter(self.cfg)),
            "generation": self.generation,
            "dtype": backbone.dtype,
            "rope": backbone.rope,
            "chunk_cells": backbone.chunk_cells,
            "sampling": vars(self.sampling),
            "protocol": [self.protocol.name, self.protocol.version],
            "reader": self.cfg.reader,
            "seed": self.cfg.seed,
        }

    def config(self, benchmark: Benchmark, rows: str, point: OperatingPoint) -> dict[str, Any]:
        """config.yaml of one run, its identity first; `rows` is the identity of the question set."""
        parts = {
            **self._common,
            "benchmark": [benchmark.name, benchmark.split, benchmark.generated, rows],
            "method": identity.method(point.method),
            "ratio": point.ratio,
        }
        return {
            "identity": identity.of(parts),
            "benchmark": {
                "name": benchmark.name,
                "label": benchmark.label,
                "split": benchmark.split,
                "questions": len(benchmark.questions) + len(benchmark.bad_rows),
                "generated": benchmark.generated,
                "root": str(benchmark.root),
                "notes": [*benchmark.notes, self.protocol.scoring_note(benchmark.name), *self._method_notes(point)],
            },
            "backbone": {
                **OmegaConf.to_container(self.cfg.backbone, resolve=True),  # type: ignore[dict-item]
                "path": self.checkpoint.name,
                "revision": self.checkpoint.revision,
                "commit": self.checkpoint.commit,
                "generation": self.generation,
            },
            "sampling": OmegaConf.to_container(self.cfg.sampling, resolve=True),
            "method": {
                "name": point.name,
                "role": point.method.role,
                **parts["method"]["fields"],
                "class": parts["method"]["class"],
            },
            "ratio": point.ratio,
            "grid": {"place": self.order.index(point.name), "reference": self.reference},
            "protocol": {"name": self.protocol.name, "version": self.protocol.version},
            "reader": self.cfg.reader,
            "share": self.cfg.share,
            "seed": self.cfg.seed,
            "subset": self.cfg.subset,
            "identity_parts": parts,
        }

    @cached_property
    def _aligns_text(self) -> bool:
        return load.family(self.checkpoint).positions_type.aligns_text

    def _method_notes(self, point: OperatingPoint) -> list[str]:
        return [f"{point.name}: {note}" for note in point.method.notes(aligns_text=self._aligns_text)]

    def folder(self, benchmark: Benchmark, point: OperatingPoint, config: Mapping[str, Any]) -> Path:
        """Where one run lies: readable names, told apart by the identity."""
        name = f"{point.name}-r{point.ratio:g}-{config['identity'][:8]}"
        kind = f"generated-{benchmark.name}" if benchmark.generated else benchmark.name
        return Path(self.cfg.results_dir) / kind / str(self.cfg.backbone.name) / name

    # ---- running

    def run(self, points: Sequence[OperatingPoint] | None = None) -> tuple[list[Path], int]:
        """Answer what is missing of `points`, or of the whole grid. Returns run folders and the rows that failed."""
        with ExitStack() as stack:
            stack.enter_context(logging_redirect_tqdm())
            opened: list[tuple[Benchmark, dict[OperatingPoint, RunFolder]]] = []
            for benchmark in self.benchmarks:
                opened.append((benchmark, {}))
                rows = identity.rows(benchmark)
                for point in self.points if points is None else points:
                    config = self.config(benchmark, rows, point)
                    run = RunFolder(self.folder(benchmark, point, config), config, str(self.device))
                    stack.callback(run.close)
                    opened[-1][1][point] = run
            self._answer_all(opened)
            untimed = self._time_all(opened)
            runs = [run for _, by_arm in opened for run in by_arm.values()]
            return [run.path for run in runs], sum(run.failed for run in runs) + untimed

    def _answer_all(self, opened: Sequence[tuple[Benchmark, Mapping[OperatingPoint, RunFolder]]]) -> None:
        work = [(benchmark, runs, pending) for benchmark, runs in opened for pending in _pending(benchmark, runs)]
        todo = sum(len(rows) for _, _, pending in work for rows in pending.values())
        done = sum(len(run.answered()) for _, runs in opened for run in runs.values())
        log.info("%d answers stored already, %d to give", done, todo)
        with progress(todo, "answer") as bar:
            for benchmark, runs, pending in work:
                bar.set_description(benchmark.label, refresh=False)
                for point, answer in self._answers(pending):
                    runs[point].append(answer)
                    bar.update()

    def _time_all(self, opened: Sequence[tuple[Benchmark, Mapping[OperatingPoint, RunFolder]]]) -> int:
        """Measure each run alone where `timing=N` asks for it; returns how many measurements failed."""
        if not self.timed_videos:
            return 0
        same = timing.conditions(self.device, self.cfg.backbone)
        timer = timing.Timer(lambda: self.engine, same, self.timed_videos)
        work = [
            (point, run, questions)
            for benchmark, runs in opened
            for questions in [timing.drawn(benchmark, self.timed_videos, self.cfg.seed)]
            for point, run in runs.items()
        ]
        todo = sum(len(timer.missing(run, questions)) for _, run, questions in work)
        log.info("timing: %d measurements to take", todo)
        with progress(todo, "measurement") as bar:
            return sum(timer.measure(point, run, questions, bar.update) for point, run, questions in work)

    def _answers(
        self, pending: Mapping[OperatingPoint, Sequence[Question | BadRow]]
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        bad = {point: [row for row in rows if isinstance(row, BadRow)] for point, rows in pending.items()}
        yield from ((point, records.failed(point, row, row.message)) for point, rows in bad.items() for row in rows)
        good = {
            point: asked for point, rows in pending.items() if (asked := [r for r in rows if isinstance(r, Question)])
        }
        if good:
            yield from self.engine.answers(good)


def load_engine(cfg: DictConfig, checkpoint: Checkpoint, sampling: Sampling, protocol: Protocol) -> Engine:
    """The loop on the backbone of a configuration."""
    backbone = cfg.backbone
    model = load.load(
        checkpoint,
        dtype=backbone.dtype,
        device=backbone.device,
        rope=backbone.rope,
        threads=backbone.threads,
        adapter=build.adapter(cfg),
    )
    return Engine(
        frame_encoder=FrameEncoder(
            backbone=model, sampling=sampling, reader=cfg.reader, encode_cells=backbone.encode_cells, seed=cfg.seed
        ),
        protocol=protocol,
        chunk_cells=backbone.chunk_cells,
        share=cfg.share,
    )


def _pending(
    benchmark: Benchmark, runs: Mapping[OperatingPoint, RunFolder]
) -> Iterator[dict[OperatingPoint, list[Question | BadRow]]]:
    """What each operating point has not answered: first the rows that cannot be asked, then video by video."""
    yield {point: [b for b in benchmark.bad_rows if b.id not in run.status] for point, run in runs.items()}
    answered = {point: run.answered() for point, run in runs.items()}
    for questions in benchmark.by_video().values():
        yield {point: [q for q in questions if q.id not in answered[point]] for point in runs}
