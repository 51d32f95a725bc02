"""The models of a run: the backbone's, and one for each adapter that an operating point brings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.engine.backbone import Backbone
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.model.video_llm import VideoLLM

# the adapters of some operating points (None: the backbone as it is) -> what encodes and answers for each
FrameEncoders = Callable[[Collection[str | None]], Mapping[str | None, "FrameEncoder"]]


class Models:
    """Loads each model once, when an operating point first needs it.

    Where the backbone's own model is needed as well, those with an adapter share with it all tensors that their adapter
    leaves alone. An adapter alone is loaded without the backbone's model beside it.
    """

    def __init__(self, backbone: Backbone, frame_encoder: Callable[[VideoLLM], FrameEncoder]) -> None:
        """`frame_encoder`: how videos are decoded and encoded by a model."""
        self._backbone, self._frame_encoder = backbone, frame_encoder
        self._base: FrameEncoder | None = None
        self._tuned: dict[str, FrameEncoder] = {}

    def __call__(self, adapters: Collection[str | None]) -> Mapping[str | None, FrameEncoder]:
        """As `FrameEncoders`. ConfigError for weights that cannot be loaded."""
        own = {adapter: self._backbone.own(adapter) for adapter in adapters}
        if self._base is None and None in own.values():
            self._tuned.clear()  # loaded alone, before the backbone's model was needed: they can share with it now
            self._base = self._frame_encoder(self._backbone.model)
        return {adapter: self._of(name) for adapter, name in own.items()}

    def _of(self, adapter: str | None) -> FrameEncoder:
        if adapter is None:
            assert self._base is not None
            return self._base
        if adapter not in self._tuned:
            beside = None if self._base is None else self._base.backbone
            self._tuned[adapter] = self._frame_encoder(self._backbone.tuned(adapter, beside))
        return self._tuned[adapter]
