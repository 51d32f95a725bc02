"""Tiny random CLIP, SigLIP and BLIP-ITM checkpoints, with a tokenizer of a few words and a processor of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("how", "many", "objects", "appear", "which", "place", "is", "shown", "what", "comes", "next")
PAD, UNKNOWN, END = 0, 1, 2
SIDE = 32


def checkpoint(kind: str, folder: Path) -> Path:
    """A checkpoint of one kind: clip, siglip or blip."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text: dict[str, Any] = {**vision, "vocab_size": 16, "max_position_embeddings": 12, "bos_token_id": END}
    text |= {"pad_token_id": PAD, "eos_token_id": END, "sep_token_id": END, "encoder_hidden_size": 16}
    vision |= {"image_size": SIDE, "patch_size": 16}
    config, model, size = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel, {"shortest_edge": SIDE}),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel, {"height": SIDE, "width": SIDE}),
        "blip": (transformers.BlipConfig, transformers.BlipForImageTextRetrieval, {"height": SIDE, "width": SIDE}),
    }[kind]
    made = model(config(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)).eval()
    with torch.no_grad():
        for weight in made.parameters():  # of a size that tells pictures apart
            weight.normal_(0, 0.3)
    made.save_pretrained(folder)
    processor = {
        "clip": transformers.CLIPImageProcessor,
        "siglip": transformers.SiglipImageProcessor,
        "blip": transformers.BlipImageProcessor,
    }[kind]
    processor(size=size, **({"crop_size": SIDE} if kind == "clip" else {})).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """One token a word, and one that ends a text."""
    vocabulary = {"<pad>": PAD, "<unk>": UNKNOWN, "<end>": END, **{word: i + 3 for i, word in enumerate(WORDS)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )
