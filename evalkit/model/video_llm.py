"""A VideoLLM: a vision side in front of a language model, as the engine sees every model family.

A family is a subclass in `evalkit.model.families`, or in a package of somebody else's. It says how its checkpoints
load, how pixels become visual tokens, and which `Positions` its language model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from evalkit.errors import ConfigError
from evalkit.model.decoder import Decoder
from evalkit.model.normalization import CLIP_MEAN, CLIP_STD

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.model.checkpoint import Checkpoint
    from evalkit.model.encoder_reader import EncoderReader, Timed


class VideoLLM(Decoder):
    """A checkpoint behind the engine's few calls.

    Loading goes through transformers: `config_class` and `model_class` are its Auto classes, or a family's own
    PretrainedConfig and PreTrainedModel, with the published names of tensors, where transformers has none.
    """

    config_class: ClassVar[Any] = None  # None: transformers.AutoConfig
    model_class: ClassVar[Any] = None  # None: transformers.AutoModelForImageTextToText
    own_code: ClassVar[bool] = False  # True: `auto_map` of a checkpoint is passed over, as this family is written here
    parts: ClassVar[tuple[str, str]] = ("text_config", "vision_config")  # of a config: language model, vision tower
    mean: ClassVar[Sequence[float]] = CLIP_MEAN  # of pixel values, where the checkpoint names none
    std: ClassVar[Sequence[float]] = CLIP_STD
    yarn_length: ClassVar[int | None] = None  # ids of training that YaRN stretches; None: the checkpoint's limit
    # by its name in conf/backbone, whose options and sampling any other checkpoint of the family takes
    released_backbone: ClassVar[str | None] = None

    cell_frames: int  # frames of a temporal cell
    # pixels per side of one visual token, of which a frame's sides are multiples; None: frames have `frame_size`
    pixels_per_token: int | None
    frame_size: tuple[int, int] | None = None  # height and width in pixels, where there is only this one
    spatial: ClassVar[bool] = True  # False: a visual token's place says nothing about where in a frame it is

    @property
    def clip_frames(self) -> int:
        """Frames that the encoder sees together: one cell's, unless the family says so."""
        return self.cell_frames

    @classmethod
    def of(cls, model: Any, tokenizer: Any, *, mean: Sequence[float], std: Sequence[float]) -> VideoLLM:
        """Around a loaded model; mean and deviation of pixel values in [0, 1]."""
        made: Any = cls  # each family's own arguments
        found: VideoLLM = made(model, tokenizer, mean=mean, std=std)
        return found

    @classmethod
    def read_config(cls, found: Checkpoint) -> Any:
        """The checkpoint's configuration, from its folder alone."""
        from transformers import AutoConfig

        options = {} if cls.config_class is not None else {"trust_remote_code": False}
        return (cls.config_class or AutoConfig).from_pretrained(found.folder, local_files_only=True, **options)

    @classmethod
    def text_config(cls, config: Any) -> Any:
        """The language model's part of a configuration."""
        return getattr(config, cls.parts[0], config)

    @classmethod
    def empty(cls, config: Any, dtype: torch.dtype) -> Any:
        """A model of this configuration with fresh weights, on the device of the context."""
        from transformers import AutoModelForImageTextToText

        if cls.model_class is not None:
            return cls.model_class._from_config(config, dtype=dtype)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)

    @classmethod
    def from_checkpoint(cls, folder: Any, **options: Any) -> Any:
        """transformers' from_pretrained with these options."""
        from transformers import AutoModelForImageTextToText

        if cls.model_class is None:
            options["trust_remote_code"] = False
        return (cls.model_class or AutoModelForImageTextToText).from_pretrained(
            folder, local_files_only=True, **options
        )

    @property
    def projectors(self) -> tuple[torch.nn.Module, ...]:
        """The modules that take the vision tower's features to the width of the language model, for tuning."""
        raise NotImplementedError

    # ---- prompts

    def introduced(self, text: str, *, seconds: float, frames: int) -> str:
        """The user's turn after a video of that length and number of frames, where `text` is a protocol's.

        As it is, unless the family was trained to be told about the video first.
        """
        return text

    # ---- pixels to visual tokens

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of visual tokens of a cell whose frames are `height` × `width` pixels."""
        assert self.pixels_per_token is not None  # a family of one frame size has its own method
        return height // self.pixels_per_token, width // self.pixels_per_token

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (F, height, width, 3) -> features (T·P, D), `slice_cells` cells at a time.

        Raises ModelError where a feature is not finite.
        """
        raise NotImplementedError

    def encode_with_deepstack(self, pixels: np.ndarray, *, slice_cells: int) -> tuple[Tensor, Tensor | None]:
        """As `encode`, and the features (T·P, L, D) that go into the LLM's first L layers; None: there are none.

        Raises ModelError where a feature is not finite.
        """
        return self.encode(pixels, slice_cells=slice_cells), None

    def encode_flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` cells of `grid` rows and columns of tokens."""
        raise NotImplementedError

    # ---- what methods need of the encoder beside features

    @property
    def gives(self) -> frozenset[Need]:
        """What a method may need; pixels where each visual token has its own."""
        return frozenset() if self.pixels_per_token is None else frozenset({"pixels"})

    def reader(self, needs: frozenset[Need], grid: tuple[int, int], timed: Timed) -> EncoderReader:
        """What reads `needs` (without pixels) while cells of `grid` rows and columns of tokens are encoded."""
        raise NotImplementedError

    def take_pooling_head(self, path: str, *, weights: bool = True) -> None:
        """Let methods read a pooling head from elsewhere; without `weights` its shape alone.

        Raises ConfigError where the family's encoder has none.
        """
        raise ConfigError(
            f"backbone.pooling_head={path}: expected null for {type(self).__name__}; it is SigLIP's, for LLaVA alone"
        )

    def view_flops(self, needs: frozenset[Need], cells: int, grid: tuple[int, int]) -> int:
        """Operations of reading them in `cells` cells."""
        return 0
