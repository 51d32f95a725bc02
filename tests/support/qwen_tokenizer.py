"""A tokenizer as Qwen publishes them: special tokens under their published ids, few words below them."""

from __future__ import annotations

import json
from pathlib import Path

from evalkit.tiny import tokenizer

# of Qwen2-VL; LLaVA and VideoChat-Flash have the first three alone
QWEN2_VL = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|object_ref_start|>": 151646,
    "<|object_ref_end|>": 151647,
    "<|box_start|>": 151648,
    "<|box_end|>": 151649,
    "<|quad_start|>": 151650,
    "<|quad_end|>": 151651,
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
QWEN2 = dict(list(QWEN2_VL.items())[:3])
LLAVA = QWEN2 | {"<image>": 151646}
LLAVA_HF = LLAVA | {"<video>": 151647}


def vision_ids(vocab: dict[str, int]) -> dict[str, int]:
    """The settings of a configuration that name tokens around and in place of pictures and videos."""
    ids = {f"{name}_token_id": vocab[f"<|{name}|>"] for name in ("vision_start", "vision_end")}
    return ids | {f"{name}_token_id": vocab[f"<|{name}_pad|>"] for name in ("image", "video")}


def save(folder: Path, specials: dict[str, int], *, chat_template: str | None = tokenizer.CHAT_TEMPLATE) -> None:
    """tokenizer.json, vocab.json, merges.txt and tokenizer_config.json, for transformers' Qwen2Tokenizer.

    Words are those of the small model's tokenizer; ids between these and the special tokens stand for nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = json.loads(tokenizer.build().backend_tokenizer.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocab, merges = whole["model"]["vocab"], whole["model"]["merges"]
    whole["added_tokens"] = [{"id": number, "content": token, **flags} for token, number in specials.items()]
    whole["model"]["vocab"] = vocab | specials  # tokenizers gives a token that is not in here the next free id
    _write(folder / "tokenizer.json", whole)
    _write(folder / "vocab.json", vocab)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(number): {"content": token, **flags} for token, number in specials.items()},
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write(
        folder / "tokenizer_config.json",
        {key: value for key, value in settings.items() if key != "chat_template" or value},
    )


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
