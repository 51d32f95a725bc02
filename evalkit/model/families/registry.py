"""The families that `evalkit.model.load` can load, by the `model_type` of a checkpoint's config.json."""

from __future__ import annotations

from evalkit.model.families.qwen2_vl import Qwen2VL, Qwen25VL

FAMILIES: dict[str, type[Qwen2VL]] = {"qwen2_vl": Qwen2VL, "qwen2_5_vl": Qwen25VL}
