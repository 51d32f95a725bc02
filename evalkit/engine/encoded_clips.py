"""Clips of one video that a vision encoder has encoded, for other sets of frames that hold the same clips.

The encoder treats clips one by one, so that a clip's features do not depend on what it is encoded with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Key = tuple[int, ...]  # frame numbers of a clip
    Encoded = tuple[Tensor, Tensor | None]  # features (n·P, D) of n clips, and their deepstack features


@dataclass
class EncodedClips:
    """At one size and by one encoder. Features are views of those that a set of frames holds."""

    encoded: int = 0  # clips, each time that one was
    seconds: float = 0.0  # that this took
    _found: dict[Key, Encoded] = field(default_factory=dict, repr=False)

    @property
    def seconds_each(self) -> float:
        """Of one clip, on average."""
        return self.seconds / max(1, self.encoded)

    def missing(self, keys: Sequence[Key]) -> list[int]:
        """Which of these clips have not been encoded."""
        return [i for i, key in enumerate(keys) if key not in self._found]

    def encode(self, keys: Sequence[Key], pixels: np.ndarray, encode: Callable[[np.ndarray], Encoded]) -> Encoded:
        """Features of clips `keys` with frames `pixels` (frames, height, width, 3); `encode` gets those missing."""
        missing = self.missing(keys)
        if len(missing) == len(keys):
            return encode(pixels)
        frames = pixels.reshape(len(keys), -1, *pixels.shape[1:])[missing]
        new = _parts(encode(frames.reshape(-1, *pixels.shape[1:])), len(missing)) if missing else []
        encoded = dict(zip(missing, new, strict=True))
        clips = [encoded[i] if i in encoded else self._found[key] for i, key in enumerate(keys)]
        deepstack = [levels for _, levels in clips if levels is not None]
        return torch.cat([features for features, _ in clips]), torch.cat(deepstack) if deepstack else None

    def add(self, keys: Sequence[Key], encoded: Encoded) -> None:
        """Features of clips, where they stay."""
        self._found.update(zip(keys, _parts(encoded, len(keys)), strict=True))

    def forget(self) -> None:
        """Hold no features any more."""
        self._found.clear()


def _parts(encoded: Encoded, clips: int) -> list[Encoded]:
    """Features of each of so many clips."""
    features, deepstack = encoded
    levels = [None] * clips if deepstack is None else deepstack.chunk(clips)
    return list(zip(features.chunk(clips), levels, strict=True))
