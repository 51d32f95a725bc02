"""Separators: tokens that stand between visual tokens in the language model's sequence, such as newlines and times.

Some families end every row of a frame with a learned newline, some write each frame's time before it as text. A method
never sees these tokens, and no ratio counts them: it keeps visual tokens, and what becomes of the separators follows
from a rule that is the same in every verb. The newline of a row goes when the last visual token of that row goes,
whether `select`, `prune` or `evict` (in one layer's cache) drops it; every other separator stays.
Shape letters: N visual tokens, M separators, D width, K kept, n = N + M entries of the mixed sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.types import VisualTokens

NO_ROW = -1  # of a separator that stays whatever is dropped
NO_CELL = -1  # the temporal cell of a separator
TEXT = -2  # row and cell of a token of the prompt's text that is fed with the video; it stays, too


@dataclass(frozen=True, kw_only=True)
class Separators:
    """M tokens beside N visual ones; those at one place stand in the order in which they are given."""

    embeds: Tensor  # (M, D)
    anchor: Tensor  # (M,) long: the visual token beside which each stands, and with which it is fed
    behind: Tensor  # (M,) bool: after its anchor, else before it
    with_row: Tensor  # (M,) bool: it goes with the row of its anchor; False: it stays
    ids: Tensor | None = None  # (M,) long: token ids that count as read; None: the video's placeholder

    def __len__(self) -> int:
        return len(self.anchor)

    def order(self, count: int) -> Tensor:
        """(n,) long: the mixed sequence of these and `count` visual tokens, as numbers 0..M-1 and M..n-1."""
        places = torch.cat([3 * self.anchor + 2 * self.behind, 3 * torch.arange(count) + 1])
        return places.argsort(stable=True)

    def interleave(self, features: Tensor) -> Tensor:
        """Features (N, D) -> the mixed sequence (n, D), on their device and in their dtype."""
        order = self.order(len(features)).to(features.device)
        return torch.cat([self.embeds.to(features.device, features.dtype), features])[order]

    def read_as(self, count: int, placeholder: int | None) -> list[int]:
        """Token ids of the mixed sequence; what has none, as the family has no placeholder, is left out."""
        unknown = -1
        own = torch.full((len(self),), unknown if placeholder is None else placeholder)
        video = torch.full((count,), unknown if placeholder is None else placeholder)
        mixed = torch.cat([own if self.ids is None else self.ids, video])[self.order(count)]
        return [token for token in mixed.tolist() if token != unknown]

    def beside(self, index: Tensor) -> Separators:
        """Those of the visual tokens at `index` (ascending and without gaps), which are then counted from 0."""
        mine = torch.isin(self.anchor, index)
        return replace(
            self,
            embeds=self.embeds[mine.to(self.embeds.device)],
            anchor=self.anchor[mine] - int(index[0]),
            behind=self.behind[mine],
            with_row=self.with_row[mine],
            ids=None if self.ids is None else self.ids[mine],
        )

    def positions_beside(self, index: Tensor) -> Tensor:
        """Where in the mixed sequence the visual tokens at `index` (as in `beside`) and their separators are."""
        first, last = int(index[0]), int(index[-1])
        before, through = int((self.anchor < first).sum()), int((self.anchor <= last).sum())
        return torch.arange(first + before, last + 1 + through)


@dataclass(frozen=True)
class SequenceLayout:
    """What the entries of a mixed sequence are."""

    visual: Tensor  # (n,) bool
    row: Tensor  # (n,) long: the row, counted over all slots, with which an entry goes; NO_ROW, TEXT

    @classmethod
    def of(cls, tokens: VisualTokens, separators: Separators | None, text: tuple[int, int] = (0, 0)) -> SequenceLayout:
        """Of visual tokens, what stands beside them, and so many tokens of text before and after all that."""
        visual, row = torch.ones(len(tokens), dtype=torch.bool), row_of(tokens)
        if separators is not None:
            theirs = row[separators.anchor].masked_fill(~separators.with_row, NO_ROW)
            order = separators.order(len(tokens))
            visual, row = order >= len(separators), torch.cat([theirs, row])[order]
        before, after = (torch.full((length,), TEXT) for length in text)
        return cls(
            visual=torch.cat([before == 0, visual, after == 0]),
            row=torch.cat([before, row, after]),
        )

    def entries(self, index: Tensor) -> Tensor:
        """Entries that stay where the visual tokens at `index` (K,) do, ascending."""
        stays = ~self.visual & ((self.row < 0) | torch.isin(self.row, self.row[self.visual][index]))
        stays[self.visual.nonzero()[index, 0]] = True
        return stays.nonzero()[:, 0]

    def keep(self, entries: Tensor) -> SequenceLayout:
        """Of the entries that stay."""
        return SequenceLayout(self.visual[entries], self.row[entries])

    def spread(self, values: Tensor, fill: int) -> Tensor:
        """Values of the visual tokens (N,) as values of all entries (n,), `fill` for separators."""
        out = values.new_full((len(self.visual),), fill)
        out[self.visual] = values
        return out


def row_of(tokens: VisualTokens) -> Tensor:
    """The row of each visual token, counted over all slots, (N,) long; it rises along the sequence."""
    rows, columns = tokens.grid
    return tokens.slot * rows + tokens.place // columns


def newlines(tokens: VisualTokens, embed: Tensor) -> Separators:
    """One newline (D,) behind the last token of every row that has one."""
    row = row_of(tokens)
    last = torch.cat([(row[1:] != row[:-1]).nonzero()[:, 0], torch.tensor([len(row) - 1])])
    return Separators(
        embeds=embed.expand(len(last), -1),
        anchor=last,
        behind=torch.ones(len(last), dtype=torch.bool),
        with_row=torch.ones(len(last), dtype=torch.bool),
    )


def ending(tokens: VisualTokens, embed: Tensor) -> Separators:
    """One token (D,) behind the whole video, which stays."""
    yes = torch.ones(1, dtype=torch.bool)
    return Separators(embeds=embed[None], anchor=torch.tensor([len(tokens) - 1]), behind=yes, with_row=~yes)
