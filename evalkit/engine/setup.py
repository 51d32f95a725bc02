"""What all operating points of a run have in common, as objects; from these the engine is made."""

from __future__ import annotations

import logging
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data import readers
from evalkit.data.decoding.source import DecodeInProcess, FrameSource
from evalkit.data.protocols.base import PromptContext
from evalkit.engine.answer import Engine
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.engine.models import Models
from evalkit.engine.stage_times import Meter
from evalkit.errors import ConfigError
from evalkit.model import adapter
from evalkit.model.weights_identity import weights_identity
from evalkit.runs import identity
from evalkit.runs.config_file import AdapterRecord, SetupRecord
from evalkit.types import Video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.data.protocols import Protocol
    from evalkit.data.sampling import Sampling
    from evalkit.engine.backbone import Backbone
    from evalkit.engine.decode import DecodeSettings
    from evalkit.method import OperatingPoint
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import Benchmark, Question

log = logging.getLogger(__name__)

# of which prompts may name the frames' times
ANY_VIDEO = Video(path=Path("video.mp4"), duration_s=60.0, fps=30.0, frames=1800, height=360, width=640)


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """Backbone, frames, prompts: makes the engine, and says what identity and config.yaml record of it."""

    backbone: Backbone
    sampling: Sampling
    protocol: Protocol
    reader: str = "pyav"
    seed: int = 0  # of methods that draw at random
    share: bool = True  # False: decode, encode and prefill anew for every question; the answers are the same
    decode: DecodeSettings | None = None  # None: in the process that answers
    processes: int = 1  # that answer on this machine

    @cached_property
    def engine(self) -> Engine:
        """Models are loaded when they are first needed, so that a finished grid loads none."""
        return Engine(
            frame_encoders=Models(self.backbone, self.frame_encoder),
            protocol=self.protocol,
            chunk_cells=self.backbone.chunk_cells,
            share=self.share,
            gauge=Meter(self.backbone.torch_device),
            source=self.source,
        )

    @cached_property
    def source(self) -> FrameSource:
        """What decodes; nothing is started before it is needed."""
        if self.decode is None:
            return DecodeInProcess()
        return self.decode.source(self.backbone, self.processes)

    @property
    def tolerates_short(self) -> bool:
        """Whether videos are taken of which less is there than their files announce."""
        return self.decode is not None and self.decode.tolerate_short

    def frame_encoder(self, model: VideoLLM) -> FrameEncoder:
        """How videos are decoded and encoded by `model`, which may be a skeleton where only plans are wanted."""
        return FrameEncoder(
            backbone=model,
            sampling=self.sampling,
            reader=self.reader,
            encode_cells=self.backbone.encode_cells,
            seed=self.seed,
        )

    def expect_prompts(self, benchmark: str) -> None:
        """ConfigError where the checkpoint cannot be asked the protocol's questions; no weight is read."""
        self.backbone.expect_prompt(self.protocol.system(benchmark), self.protocol.prefill(benchmark))

    def check_settings(self, asked: Sequence[Benchmark]) -> None:
        """ConfigError, before anything is decoded, for what would end a run over these benchmarks at its first answer.

        That is a reader without its library, and a protocol that does not ask a benchmark. A row that the protocol
        cannot read is no such error.
        """
        readers.reader_named(self.reader)
        for benchmark in asked:
            self.protocol.max_new_tokens(benchmark.name)
            for question in benchmark.questions[:1]:
                self._expect_put(question)

    def _expect_put(self, question: Question) -> None:
        try:
            self.protocol.prompt(question, PromptContext(ANY_VIDEO, (0.0,), self.backbone.tokenizer))
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 – recorded with the row when it is asked
            log.debug("a question that cannot be put: %s", error)

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

    @cached_property
    def _adapters(self) -> dict[str, AdapterRecord]:
        """Those of the operating points asked for so far."""
        return {}

    def record_for(self, point: OperatingPoint) -> SetupRecord:
        """The record of one operating point: with an adapter of its own, other weights answer.

        ConfigError where the adapter is not there or does not fit.
        """
        own = self.backbone.own(point.adapter)
        if own is None:
            return self.record
        if own not in self._adapters:
            try:
                weights = self.backbone.tuned_weights(own)
            except ConfigError as error:
                raise ConfigError(
                    f"method {point.name}: {error}; name an adapter that was tuned on {self.backbone.name}, or give "
                    "the method none: methods=[…,NAME]"
                ) from error
            self._adapters[own] = AdapterRecord(name=adapter.locate(own).name, path=own, weights=weights)
        return replace(self.record, adapter=self._adapters[own])

    def _identity_parts(self) -> dict[str, Any]:
        backbone = self.backbone
        if backbone.generation:
            log.info("applied to decoding, from the checkpoint's generation_config: %s", backbone.generation)
        return {
            "code": {**identity.code(self.reader), "device": identity.device(str(backbone.torch_device))},
            "weights": backbone.weights,
            "generation": backbone.generation,
            "dtype": backbone.dtype,
            "rope": backbone.rope,
            "chunk_cells": backbone.chunk_cells,
            "sampling": vars(self.sampling),
            "protocol": [self.protocol.name, self.protocol.version],
            "reader": self.reader,
            "seed": self.seed,
            **({"tolerate_short": True} if self.tolerates_short else {}),
            **({} if backbone.pooling_head is None else {"pooling_head": weights_identity(backbone.pooling_head)}),
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
