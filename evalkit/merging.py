"""Merging: which encoded visual tokens a token stands for that a method has made of several.

Shape letters: N visual tokens, M pairs of a token and one of its sources, K tokens kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Pairs of a token and a source; each token has one or more. A source may be in several tokens, or in none."""

    token: Tensor = field(repr=False)  # (M,) long, ascending: position among the visual tokens
    source: Tensor = field(repr=False)  # (M,) long: cell · P + place among the encoded tokens

    @classmethod
    def of(cls, own: Tensor, token: Tensor, source: Tensor) -> Merged:
        """N tokens of which `own` (N,) long are the encoded ones whose places they take.

        `token` and `source` (M,) in any order: the pairs of those that are made of several; a token that is in no pair
        stands for its own alone.
        """
        import torch

        if len(token) != len(source) or (len(token) and not 0 <= int(token.min()) <= int(token.max()) < len(own)):
            raise MethodError(
                f"expected pairs of a token below {len(own)} and its source, got {len(token)} and {len(source)} numbers"
            )
        alone = torch.ones(len(own), dtype=torch.bool).index_fill(0, token, False).nonzero()[:, 0]
        tokens, sources = torch.cat([token, alone]), torch.cat([source, own[alone]])
        order = (tokens * (int(sources.max()) + 1) + sources).argsort(stable=True)
        return cls(token=tokens[order], source=sources[order])

    def counts(self, tokens: int) -> Tensor:
        """How many encoded tokens each of `tokens` stands for, (N,) long."""
        return self.token.bincount(minlength=tokens)

    def keep(self, index: Tensor, tokens: int) -> Merged:
        """Of the tokens at `index` (K,) long, of `tokens`; positions may be in any order and occur twice."""
        import torch

        counts = self.counts(tokens)
        first, size = (counts.cumsum(0) - counts)[index], counts[index]
        within = torch.arange(int(size.sum())) - (size.cumsum(0) - size).repeat_interleave(size)
        return Merged(
            token=torch.arange(len(index)).repeat_interleave(size),
            source=self.source[first.repeat_interleave(size) + within],
        )
