"""The model that is tuned: a backbone with some trainable weights, read through `forward.forward`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from evalkit.config import build
from evalkit.errors import ConfigError
from evalkit.method import Method
from evalkit.model import adapter
from evalkit.model.packed_questions import IGNORE
from evalkit.model.weights_identity import weights_identity
from evalkit.tune import forward, states

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from omegaconf import DictConfig
    from torch import Tensor

    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.method import OperatingPoint
    from evalkit.model.video_llm import VideoLLM
    from evalkit.tune.forward import PruneSchedule
    from evalkit.tune.sample import Sample
    from evalkit.types import VisualTokens


class TunableBackbone(nn.Module):
    """Loss of a sample. The vision tower stays as it is; what is free is kept in float32."""

    def __init__(self, cfg: DictConfig, frame_encoder: FrameEncoder, point: OperatingPoint) -> None:
        super().__init__()
        self.frame_encoder, self.point = frame_encoder, point
        self.dtype = frame_encoder.backbone.model.dtype
        layers = frame_encoder.backbone.layers
        for name in ("depth", "compared"):
            if cfg[name] is not None and cfg[name] > layers:
                raise ConfigError(f"expected {name} of 1 to {layers}, the backbone's layers, or null; got {cfg[name]}")
        # copied before tuned weights are loaded, or a LoRA is put into the layers
        self.frozen = (
            states.frozen_layers(frame_encoder.backbone, cfg.compared or layers) if cfg.objective == "states" else None
        )
        if cfg.start is not None:
            base, any_base = weights_identity(build.checkpoint(cfg)), bool(cfg.backbone.get("adapter_any_base"))
            adapter.expect_base(cfg.start, base, any_base=any_base)
            adapter.apply(frame_encoder.backbone.model, cfg.start)
        self.model = _freed(cfg, frame_encoder.backbone)
        self.tunes_projector = bool(cfg.projector)  # gradients flow through it
        self.correct: list[Tensor] = []
        for weight in self.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        if cfg.checkpointing:
            forward.rerun_layers(frame_encoder.backbone.model)

    def forward(self, sample: Sample) -> dict[str, Tensor]:
        """Mean cross-entropy of the sample's targets; with objective=states, the error of states (tune.states)."""
        backbone = self.frame_encoder.backbone
        with torch.set_grad_enabled(self.tunes_projector and torch.is_grad_enabled()):
            tokens = [self.frame_encoder.encode(video, plan, frames) for video, plan, frames in sample.seen]
        schedule = self._schedule(sample, tokens, Method() if sample.uncompressed else self.point.method)
        features = torch.stack([forward.sequence(backbone, t) for t in tokens])
        levels = [found for t in tokens if (found := forward.levels(backbone, t)) is not None]
        deepstack = torch.stack(levels) if levels else None
        embeds = forward.embed(backbone, sample.prefix_ids, features, sample.suffix_ids)
        if self.frozen is not None:
            assert sample.target_shares is not None
            schedules = (schedule, self._schedule(sample, tokens, Method()))
            learned = sample.targets != IGNORE
            loss = states.loss(
                backbone, self.frozen, schedules, embeds, sample.target_shares, learned, deepstack=deepstack
            )
            return {"loss": loss}
        hidden = forward.forward(backbone, schedule, embeds, deepstack=deepstack)
        loss, correct = forward.loss(backbone, hidden, sample.targets)
        self.correct.append(correct.float().mean())
        return {"loss": loss}

    def _schedule(self, sample: Sample, tokens: list[VisualTokens], method: Method) -> PruneSchedule:
        """What every layer sees of the sample's videos."""
        shape = (int(sample.suffix_ids.shape[1]), int(sample.suffix_ids.shape[2]))
        budgets = [self.frame_encoder.budget(self.point, video) for video, _, _ in sample.seen]
        schedules = [
            forward.prune_schedule(
                self.frame_encoder.backbone, method, t, budget, n_prefix=len(sample.prefix_ids), suffix_shape=shape
            )
            for t, budget in zip(tokens, budgets, strict=True)
        ]
        return forward.shared_schedule(schedules)

    def accuracy(self) -> float | None:
        """Share of the learned tokens whose prediction was correct since the last call; None where none was counted."""
        share = float(torch.stack(self.correct).mean()) if self.correct else None
        self.correct.clear()
        return share

    def free(self) -> dict[str, Tensor]:
        """The weights that are tuned, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write what was tuned as an adapter folder: a LoRA by peft, or weights in the backbone's dtype."""
        if hasattr(self.model, "peft_config"):
            adapter.save_lora(self.model, folder, provenance)
            return
        weights = {name.removeprefix("model."): weight.to(self.dtype) for name, weight in self.free().items()}
        adapter.save_weights(weights, folder, provenance)


def _freed(cfg: DictConfig, backbone: VideoLLM) -> nn.Module:
    """The backbone's model with the weights free that `tuned` and `projector` name, and no others."""
    model: nn.Module = backbone.model
    model.requires_grad_(False)
    projectors = backbone.projectors if cfg.projector else ()
    if cfg.tuned == "lora":
        return _with_lora(cfg, model, backbone.text, projectors)
    text = backbone.text  # not as a whole: where tensors keep their published names, the vision side may be inside
    whole = [text.embed_tokens, text.layers, text.norm, backbone.model.lm_head]
    decoder = whole if cfg.depth is None else text.layers[: cfg.depth]
    for part in (*decoder, *projectors):
        part.requires_grad_(True)
    return model


def _with_lora(cfg: DictConfig, model: nn.Module, text: Any, projectors: Sequence[nn.Module]) -> nn.Module:
    peft, names = adapter.peft(), {id(module): name for name, module in model.named_modules()}
    layers = re.escape(f"{names[id(text)]}.layers")
    numbers = "|".join(map(str, range(cfg.depth or len(text.layers))))
    config = peft.LoraConfig(
        r=cfg.lora.rank,
        lora_alpha=cfg.lora.alpha,
        lora_dropout=cfg.lora.dropout,
        # the vision tower has modules of the same names
        target_modules=rf"{layers}\.({numbers})\..*\.({'|'.join(map(re.escape, cfg.lora.targets))})",
        modules_to_save=[names[id(module)] for module in projectors] or None,
    )
    try:
        with adapter.without_old_names():
            found: nn.Module = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"lora.targets={list(cfg.lora.targets)}: {error}") from error
    return found
