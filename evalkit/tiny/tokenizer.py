"""The small model's own tokenizer: a byte-level BPE whose vocabulary has the words of the generated questions.

Any text round-trips; words of the questions, with the space before them, are single tokens, and so are letters.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.tiny.videos.questions import COUNTS
from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD = "<|endoftext|>"
SPECIAL = (
    PAD,
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Sentences of the three benchmarks' prompts and of their usual variants; only their words matter.
SENTENCES = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles.",
    "Respond with only the letter (A, B, C, or D) of the correct option. The best answer is:",
    "Answer with the option's letter from the given choices directly.",
    "Only give the best option. Best option: (",
    "Answer the question with the option letter",
    "You are a helpful assistant. system user assistant",
    "Carefully watch this video and pay attention to every detail. Based on your observations, select",
    "These are the frames of a video. Question: Options: Answer:",
    "What number is on the sign? What color is the main color of the objects? Which object is shown?",
    "Which object comes right after the first? Which object comes right before the last?",
    "How many objects appear? Which place is shown? Where is the object?",
)
# The chat layout that Qwen2-VL was trained with: a default system turn, then turns whose parts are text or video.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, the same at every call."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(*_merges(_words()), ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",  # noqa: S106 – a token of text
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )


def save(folder: Path) -> PreTrainedTokenizerFast:
    """Write the tokenizer's files into `folder`."""
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    return tokenizer


def _words() -> list[str]:
    """Words to become single tokens, in the byte-level alphabet, without repeats."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    answers = " ".join(("", *PLACES, *COLORS, *OBJECTS, *DIGITS, *COUNTS))
    texts = (*SENTENCES, answers, *_bare(" ".join(SENTENCES)))
    return list(dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text)))


def _bare(text: str) -> list[str]:
    """Words as they stand at the start of a line."""
    return sorted({word.strip(string.punctuation) for word in text.split()})


def _merges(words: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges that build every word from its bytes, left to right."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda c: (c not in string.printable, c))
    vocab = {c: i for i, c in enumerate(letters)}
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for end in range(2, len(word) + 1):
            merges[word[: end - 1], word[end - 1]] = None
            vocab.setdefault(word[:end], len(vocab))
    return vocab, list(merges)
