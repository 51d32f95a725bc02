"""Models that say how well a picture matches a text: CLIP, SigLIP, BLIP-ITM, by transformers' own classes.

Methods that choose frames for a question (AKS, BOLT) read such scores from a file.
Shape letters: F frames, Q texts, D width of an embedding, S states of a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.functional import normalize

from evalkit.errors import ConfigError
from evalkit.model import tensors
from evalkit.model.checkpoint import Checkpoint, check_no_code, check_settings, locate, read_json, weight_files
from evalkit.model.load import DTYPES, explained, pick_device, quiet

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Texts = list[dict[str, Tensor]] | Tensor  # as one kind of model keeps them

SETTING = "--model"


class FrameScorer(ABC):
    """A checkpoint with its tokenizer and the processor of its pictures."""

    model_class: ClassVar[str]  # of transformers
    padding: ClassVar[bool | str] = True
    measure: ClassVar[str]  # what a score is

    def __init__(self, model: Any, tokenizer: Any, processor: Any) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor

    @property
    def longest(self) -> int:
        """Tokens of a text that the model reads; the rest is cut off."""
        return int(self.model.config.text_config.max_position_embeddings)

    def tokens(self, text: str) -> int:
        """How many tokens a text has before anything is cut off."""
        return len(self.tokenizer(text)["input_ids"])

    def _tokenized(self, texts: Sequence[str]) -> dict[str, Tensor]:
        found = self.tokenizer(
            list(texts), padding=self.padding, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        names = ("input_ids", "attention_mask") if self.padding is True else ("input_ids",)
        return {name: found[name].to(self.model.device) for name in names}

    def _pixels(self, frames: Sequence[np.ndarray]) -> Tensor:
        pixels: Tensor = self.processor(images=list(frames), return_tensors="pt")["pixel_values"]
        return pixels.to(self.model.device, self.model.dtype)

    @abstractmethod
    def read(self, texts: Sequence[str]) -> Texts:
        """Texts, made ready for `match`."""

    @abstractmethod
    def match(self, frames: Sequence[np.ndarray], texts: Any) -> Tensor:
        """How well each of some frames (height, width, 3) uint8 RGB matches each text: (Q, F) float32 on the CPU."""


class Clip(FrameScorer):
    """CLIP (arXiv 2103.00020)."""

    model_class = "CLIPModel"
    measure = "cosine similarity of the two embeddings"

    def read(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (Q, D) of length 1."""
        return normalize(self.model.get_text_features(**self._tokenized(texts)).pooler_output.float(), dim=-1)

    def match(self, frames: Sequence[np.ndarray], texts: Tensor) -> Tensor:
        """As FrameScorer."""
        pictures = self.model.get_image_features(pixel_values=self._pixels(frames)).pooler_output
        return (texts @ normalize(pictures.float(), dim=-1).T).cpu()


class SigLip(Clip):
    """SigLIP (arXiv 2303.15343), which was trained on texts that are filled up to one length, and no mask."""

    model_class = "SiglipModel"
    padding = "max_length"


class BlipItm(FrameScorer):
    """BLIP (arXiv 2201.12086) with its head for matching, which AKS's published lists were made with."""

    model_class = "BlipForImageTextRetrieval"
    measure = "probability that picture and text match"

    def read(self, texts: Sequence[str]) -> list[dict[str, Tensor]]:
        """Each text's tokens."""
        return [self._tokenized([text]) for text in texts]

    def match(self, frames: Sequence[np.ndarray], texts: list[dict[str, Tensor]]) -> Tensor:
        """As FrameScorer: each picture is encoded once for all texts."""
        states = self.model.vision_model(pixel_values=self._pixels(frames)).last_hidden_state
        return torch.stack([self._probability(states, text) for text in texts])

    def _probability(self, states_FSD: Tensor, text: dict[str, Tensor]) -> Tensor:
        read = self.model.text_encoder(
            **{name: ids.expand(len(states_FSD), -1) for name, ids in text.items()},
            encoder_hidden_states=states_FSD,
            encoder_attention_mask=states_FSD.new_ones(states_FSD.shape[:-1], dtype=torch.long),
        )
        probability: Tensor = self.model.itm_head(read.last_hidden_state[:, 0]).float().softmax(-1)[:, 1]
        return probability.cpu()


KINDS: dict[str, type[FrameScorer]] = {"clip": Clip, "siglip": SigLip, "blip": BlipItm}  # by model_type


def is_scorer(found: Checkpoint) -> bool:
    """Whether a checkpoint is of one of these kinds, by its configuration."""
    return (read_json(found, "config.json") or {}).get("model_type") in KINDS


def load(path: str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32") -> FrameScorer:
    """The scorer of a folder, or of a hub id that is in the hub's cache.

    Raises ConfigError for a checkpoint that is missing, incomplete, of another kind, or wants its own code to be run.
    """
    import transformers

    found = locate(path, revision, setting=SETTING)
    check_settings(found)
    check_no_code(found)
    if not is_scorer(found):
        kind = (read_json(found, "config.json") or {}).get("model_type")
        raise ConfigError(f"{found.asked}: expected a model_type of {', '.join(KINDS)} in config.json, got {kind!r}")
    made = KINDS[str((read_json(found, "config.json") or {})["model_type"])]
    names = tensors.headers(found, weight_files(found))
    options = {"trust_remote_code": False}
    with explained(found), quiet():
        model, outcome = getattr(transformers, made.model_class).from_pretrained(
            found.folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(found.folder, local_files_only=True, **options)
        # as the published scores were made: Pillow resizes, not torchvision
        processor = transformers.AutoImageProcessor.from_pretrained(
            found.folder, backend="pil", local_files_only=True, **options
        )
    missing = sorted(outcome["missing_keys"])
    if missing:
        raise ConfigError(
            f"{found.asked}: expected all tensors of a {made.model_class}, {len(missing)} of {len(names)} are missing, "
            f"such as {missing[0]}; {found.remedy}"
        )
    return made(model.to(pick_device(device)).eval(), tokenizer, processor)
