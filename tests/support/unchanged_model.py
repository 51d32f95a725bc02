"""A model that many tests share must be left as it was: else their order decides what they find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evalkit.model.video_llm import VideoLLM
from evalkit.testing import method_contract


@contextmanager
def held(model: VideoLLM) -> Iterator[VideoLLM]:
    """The model; AssertionError at the end of the block if weights, modes or hooks are others than before."""
    before = state(model)
    yield model
    changed = [name for name, value in state(model).items() if before.get(name) != value]
    assert not changed, f"a test has changed the model that all share: {', '.join(changed)}"


def state(model: VideoLLM) -> dict[str, Any]:
    """What a test may leave changed, by name; weights by their version, which counts writes in place."""
    found: dict[str, Any] = {"hooks": method_contract.hooks(model)}
    for name, weight in [*model.model.named_parameters(), *model.model.named_buffers()]:
        found[name] = weight._version, weight.data_ptr(), weight.dtype, weight.requires_grad
    found |= {f"{name} in training": module.training for name, module in model.model.named_modules()}
    return found
