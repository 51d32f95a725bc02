"""From a question's text to token ids on both sides of the video, by the checkpoint's own chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VIDEO_PAD = "<|video_pad|>"
VIDEO_WRAPPER = ("<|vision_start|>", "<|vision_end|>")
# Qwen2-VL's own template, for checkpoints that come without one.
SYSTEM = "You are a helpful assistant."
TEMPLATE = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|><|video_pad|><|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)
# Of families trained in LLaVA's layout, whatever template the files bring; the line break goes with the video.
# source: LLaVA-NeXT's conversation template qwen_1_5, which lmms-eval uses too; VideoChat-Flash's qwen_2
LLAVA_TEMPLATE = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    f"{VIDEO_PAD}\n{{text}}<|im_end|>\n<|im_start|>assistant\n"
)


def split(
    tokenizer: Any,
    text: str,
    *,
    video: bool,
    system: str | None = None,
    prefill: str = "",
    template: str | None = None,
    wrapper: tuple[str, str] = VIDEO_WRAPPER,
    before: Callable[[str], Sequence[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Token ids before and after the video, whose `wrapper` on both sides goes with it where there is none.

    `system` takes the place of the template's own system turn; `prefill` is how the reply begins. `template`: with
    fields for system and text, a family's own layout; None: the checkpoint's. `before`: `ids` of this tokenizer, where
    those of a text before a video, the same for most questions, are remembered.

    Raises ConfigError where the checkpoint has no tokenizer, or a template that shows no video.
    """
    if tokenizer is None:
        raise ConfigError("this checkpoint folder holds no tokenizer: add tokenizer.json, or feed token ids")
    prefix, suffix = (rendered(tokenizer, text, system, template) + prefill).split(VIDEO_PAD, 1)
    if not video:
        prefix, suffix = prefix.removesuffix(wrapper[0]), suffix.removeprefix(wrapper[1])
    return ids(tokenizer, prefix) if before is None else list(before(prefix)), ids(tokenizer, suffix)


def rendered(tokenizer: Any, text: str, system: str | None, template: str | None) -> str:
    """The whole prompt of a question about a video as text. Raises ConfigError as `split`."""
    # a question may spell special tokens; they must stay text
    safe = text.replace("<|", "< |")
    if template is not None or not tokenizer.chat_template:
        layout = (template or TEMPLATE).replace("{system}", SYSTEM if system is None else system)
        return layout.replace("{text}", safe)
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": [{"type": "video"}, {"type": "text", "text": safe}]})
    found: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if found.count(VIDEO_PAD) != 1:
        raise ConfigError(f"expected one {VIDEO_PAD} from the chat template of a video prompt, got: {found!r}")
    return found


def ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, in which special tokens are spelled."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
