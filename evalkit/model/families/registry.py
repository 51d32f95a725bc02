"""The families of models, by the `model_type` of a checkpoint's config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.plugins import Registry

if TYPE_CHECKING:
    from evalkit.model.video_llm import VideoLLM

FAMILIES: Registry[type[VideoLLM]] = Registry(
    "families",
    {
        "qwen2_vl": "evalkit.model.families.qwen2_vl:Qwen2VL",
        "llava_onevision": "evalkit.model.families.llava_onevision:LlavaOnevision",
        "llava": "evalkit.model.families.llava_video:LlavaVideo",  # as lmms-lab's repositories have it
        "llava_qwen": "evalkit.model.families.llava_video:LlavaVideo",  # as LLaVA-NeXT's training writes it
        "qwen2_5_vl": "evalkit.model.families.qwen2_vl:Qwen25VL",
        "videochat_flash_qwen": "evalkit.model.families.videochat_flash:VideoChatFlash",
        "qwen3_vl": "evalkit.model.families.qwen3_vl:Qwen3VL",
    },
    check=lambda value: isinstance(value, type),
    expected="a class of a decoder",
)

# models that evalkit could be taken to support, by how their `model_type` begins: why it does not
UNSUPPORTED = {
    "qwen3_5": (
        "only every fourth of its layers has a KV cache, the others a state of one size; evalkit drops tokens in every "
        "layer and counts entries over all of them"
    ),
}
