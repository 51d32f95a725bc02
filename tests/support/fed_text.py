"""Questions that are fed after a text, on several families, and all that a state holds of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.model.decoder import Decoder
from evalkit.model.prefill_state import PrefillState
from tests.support import llava, qwen2_vl, videochat_flash

QUESTIONS = [list(range(4, 4 + length)) for length in (9, 30, 17, 6)]
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": qwen2_vl.tiny_2_5,
    "videochat_flash": videochat_flash.random_checkpoint,
    "llava_video": lambda folder: llava.write(folder, llava.random_video(), llava.video_settings()),
}


def begun(family: Decoder) -> PrefillState:
    """A state that has read a text."""
    state = family.new_state()
    family.prefill_text(state, list(range(3, 40)))
    return state


def facts(state: PrefillState) -> list[Any]:
    tensors = [*state.positions, state.read, *(x for layer in state.layers for x in (layer.keys, layer.values))]
    return [state.lengths, state.next_id, state.op_counts, *(one.tolist() for one in tensors)]
