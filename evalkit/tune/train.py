"""`python -m evalkit tune`: the loop is transformers' Trainer, so several GPUs by `accelerate launch`, and resuming."""

from __future__ import annotations

import csv
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from evalkit.config import build as evaluation
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.errors import ConfigError
from evalkit.model import load
from evalkit.model.weights_identity import weights_identity
from evalkit.tune import conversations, settings
from evalkit.tune.sample import collate
from evalkit.tune.tunable import TunableBackbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

    from evalkit.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)

WEIGHTS, CHECKPOINTS, CURVE, CONFIG, SKIPPED = "weights", "checkpoints", "curve.csv", "config.yaml", "skipped.jsonl"
FREE = "free.safetensors"  # of a checkpoint: the weights that are tuned
COLUMNS = ("step", "loss", "right", "learning_rate", "grad_norm")


def run(overrides: Sequence[str]) -> Path:
    """Tune, or go on with what a killed run left; returns the folder that backbone.adapter takes.

    Raises EvalkitError for wrong settings or data.
    """
    cfg = settings.composed(overrides)
    out, point, device = Path(cfg.out), settings.point(cfg), settings.device(cfg)
    checkpoint = evaluation.checkpoint(cfg)
    base = weights_identity(checkpoint)
    record = settings.record(cfg, point, base)
    _expect_same(out, record)
    if (out / WEIGHTS).exists():
        log.info("tuned already: %s", out / WEIGHTS)
        return out / WEIGHTS
    frame_encoder = _frame_encoder(cfg, checkpoint)
    samples, skipped = settings.data(cfg, frame_encoder, point)
    set_seed(cfg.seed)
    tunable = TunableBackbone(cfg, frame_encoder, point)
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG).write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
    conversations.write_skipped(skipped, out / SKIPPED)
    log.info("%d rows left out, see %s", len(skipped), out / SKIPPED)
    steps = _train(tunable, samples, arguments(cfg, out, device))
    provenance = {
        "backbone": cfg.backbone.name,
        "base": base,
        "tuned": cfg.tuned,
        "steps": steps,
        "method": record["method"],
    }
    return _finish(tunable, out, provenance)


def _frame_encoder(cfg: DictConfig, checkpoint: Checkpoint) -> FrameEncoder:
    """The backbone, on the CPU: under `accelerate launch` the Trainer places it on the GPU of its process."""
    backbone = cfg.backbone
    model = load.load(checkpoint, dtype=backbone.dtype, device="cpu", rope=backbone.rope, threads=backbone.threads)
    sampling = evaluation.sampling(cfg)
    return FrameEncoder(
        backbone=model, sampling=sampling, reader=cfg.reader, encode_cells=backbone.encode_cells, seed=cfg.seed
    )


def _expect_same(out: Path, record: dict[str, Any]) -> None:
    """ConfigError where the folder holds a tuning with other settings, or on other weights."""
    file = out / CONFIG
    if file.exists() and yaml.safe_load(file.read_text(encoding="utf-8")) != record:
        raise ConfigError(f"{out} holds a tuning with other settings ({CONFIG}): give out=DIR, or delete the folder")


def arguments(cfg: DictConfig, out: Path, device: torch.device) -> TrainingArguments:
    """The Trainer's settings."""
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        max_steps=cfg.steps or -1,
        num_train_epochs=cfg.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=cfg.accumulate,
        learning_rate=cfg.rate,
        lr_scheduler_type="cosine",
        warmup_steps=cfg.warmup,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.clip,
        bf16=cfg.backbone.dtype == "bfloat16",
        use_cpu=device.type == "cpu",
        seed=cfg.seed,
        save_steps=cfg.save_every,
        save_total_limit=2,
        logging_steps=cfg.log_every,
        dataloader_num_workers=cfg.workers,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )


def _train(tunable: TunableBackbone, samples: Any, args: TrainingArguments) -> int:
    """Train to the end; returns the steps of the optimiser in all."""
    curve = Curve(Path(args.output_dir).parent / CURVE)
    trainer = Tuning(model=tunable, args=args, train_dataset=samples, data_collator=collate, callbacks=[curve])
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    if last is not None:
        log.info("resumes from %s", last)
    trainer.train(resume_from_checkpoint=last)
    return int(trainer.state.global_step)


def _finish(tunable: TunableBackbone, out: Path, provenance: dict[str, Any]) -> Path:
    """Write the tuned weights, by a rename once they are complete, and delete the checkpoints."""
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:
        part = out / f"{WEIGHTS}.part"
        shutil.rmtree(part, ignore_errors=True)
        tunable.save(part, provenance)
        part.rename(out / WEIGHTS)
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    state.wait_for_everyone()
    log.info("backbone.adapter=%s", out / WEIGHTS)
    return out / WEIGHTS


class Tuning(Trainer):  # type: ignore[misc]
    """Checkpoints hold the free weights alone; the log also has the accuracy over the learned tokens."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.model.free().items()}
        save_file(weights, folder / FREE, metadata={"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights = self.model.free()
        for name, saved in load_file(Path(resume_from_checkpoint) / FREE).items():
            weights[name].data.copy_(saved)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add `right`: the share of learned tokens whose prediction is correct, where answers are learned."""
        accuracy = self.model.accuracy() if "loss" in logs else None
        if accuracy is not None:
            logs["right"] = accuracy
        super().log(logs, start_time)


class Curve(TrainerCallback):  # type: ignore[misc]
    """Writes curve.csv from the Trainer's own history, which a resumed run takes over."""

    def __init__(self, file: Path) -> None:
        self.file, self.last = file, (0, time.monotonic())

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The time of a step counts from here."""
        self.last = (state.global_step, time.monotonic())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Log one line, and write the whole curve."""
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        step, now = state.global_step, time.monotonic()
        pace = (now - self.last[1]) / max(1, step - self.last[0])
        self.last = (step, now)
        right = f", right {logs['right']:.2f}" if "right" in logs else ""
        log.info("step %d of %d: loss %.3f%s, %.2f s", step, state.max_steps, logs["loss"], right, pace)
        rows = [{key: row[key] for key in COLUMNS if key in row} for row in state.log_history if "loss" in row]
        with self.file.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
