"""The tokens that a merging method hands over, put together part by part.

Shape letters: K tokens of a part, M pairs of a token and a source, D feature width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.types import VisualTokens


class MergedParts:
    """Positions are those of the encoded tokens, cell · P + place."""

    def __init__(self) -> None:
        self._index: list[Tensor] = []
        self._features: list[Tensor] = []
        self._token: list[Tensor] = []
        self._source: list[Tensor] = []
        self._count = 0
        self.flops = 0  # of the choice so far

    def add(self, index: Tensor, features: Tensor) -> None:
        """Tokens that stand for themselves: index (K,), features (K, D)."""
        self._index.append(index)
        self._features.append(features)
        self._count += len(index)

    def add_merged(self, index: Tensor, features: Tensor, token: Tensor, source: Tensor) -> None:
        """Tokens that are made of several: `token` (M,) below K, and the position of each `source` (M,)."""
        self._token.append(token + self._count)
        self._source.append(source)
        self.add(index, features)

    def tokens(self, encoded: VisualTokens, *, ascending: bool) -> VisualTokens:
        """All parts in the order in which they were added, or by rising position. MethodError where there are none."""
        none = torch.empty(0, dtype=torch.long)
        index = torch.cat(self._index)
        if not len(index):
            raise MethodError(f"no token of {len(encoded)} would be left at this ratio; raise it")
        merged = encoded.merge(
            index,
            torch.cat(self._features),
            token=torch.cat([none, *self._token]),
            source=torch.cat([none, *self._source]),
        )
        merged = merged.keep(index.argsort(stable=True)) if ascending else merged
        return replace(merged, flops=self.flops)
