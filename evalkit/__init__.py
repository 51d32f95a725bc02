"""evalkit: fair, fast evaluation of long-video compression for VideoLLMs.

Three functions do the work: `load_backbone`, `ask` (one question about one video) and `evaluate` (methods over a
benchmark). A compression method is a subclass of `Method`. Every name is loaded when it is first used, so that
`import evalkit` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.api import ask, evaluate, load_backbone
    from evalkit.chunk_scores import Guide, Scored, VideoPart
    from evalkit.data.sampling import Sampling
    from evalkit.engine.backbone import Backbone
    from evalkit.errors import (
        ConfigError,
        DataError,
        EvalkitError,
        MethodError,
        ModelError,
        RunLockedError,
        VideoError,
    )
    from evalkit.ledger import Flops, Ledger, Seconds
    from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
    from evalkit.types import (
        Answer,
        Benchmark,
        Evicted,
        FramePlan,
        Frames,
        LayerChunk,
        Pruned,
        Question,
        Video,
        VisualTokens,
    )

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AttentionFromQuestion",
    "Backbone",
    "Benchmark",
    "Budget",
    "ConfigError",
    "DataError",
    "EvalkitError",
    "Evicted",
    "Flops",
    "FramePlan",
    "Frames",
    "Guide",
    "LayerChunk",
    "Ledger",
    "Method",
    "MethodError",
    "ModelError",
    "OperatingPoint",
    "Pruned",
    "Question",
    "RunLockedError",
    "Sampling",
    "Scored",
    "Seconds",
    "Video",
    "VideoError",
    "VideoPart",
    "VisualTokens",
    "ask",
    "evaluate",
    "load_backbone",
]

_HOMES = {
    "evalkit.api": ("ask", "evaluate", "load_backbone"),
    "evalkit.chunk_scores": ("Guide", "Scored", "VideoPart"),
    "evalkit.data.sampling": ("Sampling",),
    "evalkit.engine.backbone": ("Backbone",),
    "evalkit.errors": (
        "ConfigError",
        "DataError",
        "EvalkitError",
        "MethodError",
        "ModelError",
        "RunLockedError",
        "VideoError",
    ),
    "evalkit.ledger": ("Flops", "Ledger", "Seconds"),
    "evalkit.method": ("AttentionFromQuestion", "Budget", "Method", "OperatingPoint"),
    "evalkit.types": (
        "Answer",
        "Benchmark",
        "Evicted",
        "FramePlan",
        "Frames",
        "LayerChunk",
        "Pruned",
        "Question",
        "Video",
        "VisualTokens",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'evalkit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
