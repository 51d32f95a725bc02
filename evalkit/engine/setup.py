"""What all operating points of a run have in common, as objects; from these the engine is made."""

from __future__ import annotations

import logging
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.data import readers
from evalkit.engine.answer import Engine
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.runs import identity
from evalkit.runs.config_file import SetupRecord

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.data.sampling import Sampling
    from evalkit.engine.backbone import Backbone
    from evalkit.model.video_llm import VideoLLM

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """Backbone, frames, prompts: makes the engine, and says what identity and config.yaml record of it."""

    backbone: Backbone
    sampling: Sampling
    protocol: Protocol
    reader: str = "pyav"
    seed: int = 0  # of methods that draw at random
    share: bool = True  # False: decode, encode and prefill anew for every question; the answers are the same

    @cached_property
    def engine(self) -> Engine:
        """Loaded on first use, so that a finished grid loads no model."""
        return Engine(
            frame_encoder=self.frame_encoder(self.backbone.model),
            protocol=self.protocol,
            chunk_cells=self.backbone.chunk_cells,
            share=self.share,
        )

    def frame_encoder(self, model: VideoLLM) -> FrameEncoder:
        """How videos are decoded and encoded by `model`, which may be a skeleton where only plans are wanted."""
        return FrameEncoder(
            backbone=model,
            sampling=self.sampling,
            reader=self.reader,
            encode_cells=self.backbone.encode_cells,
            seed=self.seed,
        )

    @cached_property
    def record(self) -> SetupRecord:
        """As plain values; reads checkpoint files and hashes the weights. ConfigError where they cannot be loaded."""
        return SetupRecord(
            identity_parts=self._identity_parts(),
            backbone=self.backbone.section,
            sampling=_section(self.sampling),
            protocol={"name": self.protocol.name, "version": self.protocol.version},
            reader=self.reader,
            share=self.share,
            seed=self.seed,
        )

    def _identity_parts(self) -> dict[str, Any]:
        backbone = self.backbone
        if backbone.generation:
            log.info("applied to decoding, from the checkpoint's generation_config: %s", backbone.generation)
        return {
            "code": identity.code(),
            "weights": backbone.weights,
            "generation": backbone.generation,
            "dtype": backbone.dtype,
            "rope": backbone.rope,
            "chunk_cells": backbone.chunk_cells,
            "sampling": vars(self.sampling),
            "protocol": [self.protocol.name, self.protocol.version],
            "reader": self.reader,
            "seed": self.seed,
            **({"plugins": theirs} if (theirs := self._foreign_source()) else {}),
        }

    def _foreign_source(self) -> str:
        """Of what other packages bring: protocol, reader, model family."""
        theirs = [readers.REGISTRY[self.reader]] if readers.REGISTRY.entry(self.reader).foreign else []
        return identity.foreign_source(self.protocol, self.backbone.family, *theirs)


def _section(sampling: Sampling) -> dict[str, Any]:
    """As the files of conf/sampling write it, without options that change nothing, so that stored runs compare."""
    silent = {field.name: field.default for field in fields(sampling) if field.name != "fps"}
    return {name: value for name, value in vars(sampling).items() if value != silent.get(name, MISSING)}
