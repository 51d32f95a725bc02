"""Which weights a run loads and how. What can be read without loading them is read without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.model import adapter as adapters
from evalkit.model import load, prompt_check
from evalkit.model.weights_identity import weights_identity

if TYPE_CHECKING:
    import torch

    from evalkit.data.sampling import Sampling
    from evalkit.model.checkpoint import Checkpoint
    from evalkit.model.video_llm import VideoLLM


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A checkpoint with its loading options; the weights are loaded when `model` is first used, and kept.

    Defaults are those of the built-in backbone (conf/backbone/tiny.yaml) but for `threads`, which torch decides.
    """

    name: str  # what tables call it; a folder of the results is called so
    checkpoint: Checkpoint
    dtype: str = "float32"  # float32, bfloat16 or float16
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    rope: str = "none"  # or yarn4
    adapter: str | None = None  # tuned weights: a folder, or builtin/NAME
    adapter_any_base: bool = False  # also where an adapter was tuned on another checkpoint; a method's own, too
    threads: int | None = None  # on the CPU; None: as many as torch takes
    chunk_cells: int = 16  # cells per prefill chunk
    encode_cells: int = 32  # cells per slice of the vision encoder: memory, no answer
    pooling_head: str | None = None  # checkpoint of SigLIP whose head methods may read; None: none
    recorded: Mapping[str, Any] = field(default_factory=dict)  # as configured, for config.yaml
    sampling: Sampling | None = None  # the preset that its configuration brings, for who names no other

    @property
    def torch_device(self) -> torch.device:
        """The device that `device` names. ConfigError where it is not there."""
        return load.pick_device(self.device)

    @cached_property
    def generation(self) -> dict[str, Any]:
        """What the checkpoint's generation_config changes about decoding; ConfigError where it cannot be loaded."""
        return self._checked(self.adapter)

    def _checked(self, adapter: str | None) -> dict[str, Any]:
        return load.check(self.checkpoint, dtype=self.dtype, adapter=adapter, adapter_any_base=self.adapter_any_base)

    @cached_property
    def _writer(self) -> VideoLLM:
        return load.skeleton(self.checkpoint, tokenizer=True)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer; no weight is read."""
        return self._writer.tokenizer

    def expect_prompt(self, system: str | None, prefill: str) -> None:
        """ConfigError where the checkpoint's tokenizer and template cannot write prompts with this system turn."""
        prompt_check.expect_prompt(self.checkpoint, self._writer, system=system, prefill=prefill)

    @cached_property
    def weights(self) -> str:
        """Hash of the weights, the adapter's included."""
        return weights_identity(self.checkpoint, self.adapter)

    @cached_property
    def family(self) -> type[VideoLLM]:
        """The model family's class."""
        return load.family(self.checkpoint)

    @property
    def aligns_text(self) -> bool:
        """How the family lays out text after a compressed video (Positions.aligns_text)."""
        return bool(self.family.positions_type.aligns_text)

    @cached_property
    def model(self) -> VideoLLM:
        """The model, loaded on first use. ConfigError as `load`."""
        found = load.load(
            self.checkpoint,
            dtype=self.dtype,
            device=self.device,
            rope=self.rope,
            threads=self.threads,
            adapter=self.adapter,
            adapter_any_base=self.adapter_any_base,
        )
        return self._with_head(found)

    # ---- with weights that an operating point brings

    def own(self, adapter: str | None) -> str | None:
        """The adapter of an operating point; None where it has none, or the one that this backbone is loaded with."""
        named = None if adapter is None else adapters.locate(adapter)
        return None if named is None or (self.adapter and adapters.locate(self.adapter) == named) else adapter

    def tuned_weights(self, adapter: str) -> str:
        """Hash of the weights with this adapter in the place of the backbone's own.

        Raises ConfigError for an adapter that does not fit; no weight is loaded.
        """
        self._checked(adapter)
        return weights_identity(self.checkpoint, adapter)

    def tuned(self, adapter: str, base: VideoLLM | None = None) -> VideoLLM:
        """A model with this adapter in the place of the backbone's own.

        It shares with `base`, this backbone's model, what the adapter leaves alone, unless that one is tuned itself.
        """
        if base is not None and self.adapter is None:
            beside = load.load_beside(base, self.checkpoint, adapter, adapter_any_base=self.adapter_any_base)
            return self._with_head(beside)
        return replace(self, adapter=adapter).model

    def skeleton(self) -> VideoLLM:
        """The model's shape without its weights."""
        return self._with_head(load.skeleton(self.checkpoint, dtype=self.dtype), weights=False)

    def _with_head(self, model: VideoLLM, *, weights: bool = True) -> VideoLLM:
        if self.pooling_head is not None:
            model.take_pooling_head(self.pooling_head, weights=weights)
        return model

    @property
    def section(self) -> dict[str, Any]:
        """How config.yaml describes it."""
        options = (
            "name",
            "dtype",
            "adapter",
            "adapter_any_base",
            "rope",
            "device",
            "threads",
            "chunk_cells",
            "encode_cells",
        )
        return {
            **(self.recorded or {key: getattr(self, key) for key in options}),
            "path": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "commit": self.checkpoint.commit,
            "generation": self.generation,
        }
