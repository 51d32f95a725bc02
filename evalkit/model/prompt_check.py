"""Can a checkpoint's tokenizer and chat template write the prompt of a video? Found before the first answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError
from evalkit.model import chat_template

if TYPE_CHECKING:
    from evalkit.model.checkpoint import Checkpoint
    from evalkit.model.video_llm import VideoLLM

PROBE = "What is seen?"  # a question
SPECIAL = re.compile(r"<\|\w+\|>")


def expect_prompt(found: Checkpoint, model: VideoLLM, *, system: str | None = None, prefill: str = "") -> None:
    """ConfigError where a question about a video cannot be put into ids that `model`, which may be a skeleton, knows.

    `system`, `prefill`: as `chat_template.split`.
    """
    try:
        rendered = chat_template.rendered(model.tokenizer, PROBE, system, model.template)
        model.prompt(PROBE, video=True, system=system, prefill=prefill)
    except ConfigError:
        raise
    except Exception as error:  # a template is a program, which raises what it likes
        raise ConfigError(
            f"backbone.path={found.name}: its chat template cannot write a question about a video; "
            f"{type(error).__name__}: {' '.join(str(error).split())}; {found.remedy}"
        ) from error
    if PROBE not in rendered:
        raise ConfigError(
            f"backbone.path={found.name}: its chat template leaves the question out: {rendered!r}; {found.remedy}"
        )
    _expect_tokens(
        found, model.tokenizer, [name for name in SPECIAL.findall(rendered) if name != chat_template.VIDEO_PAD]
    )
    _expect_embedded(found, model)


def _expect_tokens(found: Checkpoint, tokenizer: Any, names: list[str]) -> None:
    """What the template writes as special tokens, the tokenizer must read so, and not letter by letter."""
    missing = [
        name for name in dict.fromkeys(names) if len(tokenizer(name, add_special_tokens=False)["input_ids"]) != 1
    ]
    if missing:
        raise ConfigError(
            f"backbone.path={found.name}: expected a tokenizer with the special tokens of its chat template, it has no "
            f"{', '.join(missing)}; {found.remedy}"
        )


def _expect_embedded(found: Checkpoint, model: VideoLLM) -> None:
    rows = int(model.text.get_input_embeddings().weight.shape[0])
    beyond = sorted((number, name) for name, number in model.tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        raise ConfigError(
            f"backbone.path={found.name}: the embedding has {rows} rows, and the tokenizer gives {len(beyond)} ids "
            f"beyond them, such as {beyond[0][0]} for {beyond[0][1]!r}; it is another model's tokenizer; {found.remedy}"
        )
