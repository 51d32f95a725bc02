"""evalkit's methods as a model of lmms-eval: `python -m lmms_eval --model evalkit --model_args method=retake,…`.

Tasks, prompts and scores are lmms-eval's; videos are read, compressed and answered by the engine that run_eval.py runs.
lmms-eval finds it by the entry point `lmms_eval.models`, whose payload is `manifests`.
"""

from __future__ import annotations

from typing import Any


def manifests() -> Any:
    """How lmms-eval registers the model. It calls this whenever it is imported, so the class itself is only named."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("evalkit", simple_class_path="evalkit.lmms_plugin.model.Evalkit")
