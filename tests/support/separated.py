"""A random Qwen2 whose visual tokens have separators: two words before each frame, a newline behind each row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.separators import Separators, newlines
from evalkit.types import VisualTokens
from tests.support.small_qwen2 import HEAD, TAIL, attached

WORDS = (60, 61)  # ids of the text before a frame


class Separated(Qwen2):
    """Qwen2 with separators."""

    newline = torch.linspace(-1, 1, 32)

    def separators(self, tokens: VisualTokens) -> Separators | None:
        rows = newlines(tokens, self.newline)
        first = [int((tokens.slot == slot).nonzero()[0]) for slot in tokens.slot.unique()]
        anchor = torch.tensor(first).repeat_interleave(2)
        before = torch.zeros(len(anchor), dtype=torch.bool)
        words = self.text.embed_tokens(torch.tensor(WORDS)).repeat(len(first), 1)
        return Separators(
            embeds=torch.cat([words, rows.embeds]),
            anchor=torch.cat([anchor, rows.anchor]),
            behind=torch.cat([before, rows.behind]),
            with_row=torch.cat([before, rows.with_row]),
            ids=torch.cat([torch.tensor(WORDS).repeat(len(first)), torch.full((len(rows),), 63)]),
        )


def separated(stock: Qwen2ForCausalLM) -> Separated:
    """The same weights behind the engine."""
    return Separated(attached(stock).model)


@dataclass(frozen=True)
class Entry:
    """One entry of a prompt laid out by hand."""

    embed: Tensor  # (D,)
    token: int | None = None  # number of the visual token
    row: int | None = None  # of a visual token, or of a newline
    chunk: int = -1  # -1 of text


def by_hand(
    stock: Qwen2ForCausalLM, video: VisualTokens, chunk_cells: int, kept: set[int] | None = None
) -> list[Entry]:
    """The whole prompt, entry by entry; `kept`: numbers of the visual tokens that are there, None for all."""
    embed, (rows, columns) = stock.model.embed_tokens.weight, video.grid
    entries = [Entry(embed[i]) for i in HEAD]
    for frame in range(len(video.cell_seconds)):
        chunk = frame // chunk_cells
        places = [frame * rows * columns + p for p in range(rows * columns)]
        if kept is None or kept & set(places):
            entries += [Entry(embed[i], chunk=chunk) for i in WORDS]
        for start in places[::columns]:
            line = [n for n in range(start, start + columns) if kept is None or n in kept]
            row = start // columns
            entries += [Entry(video.features[n], token=n, row=row, chunk=chunk) for n in line]
            entries += [Entry(Separated.newline, row=row, chunk=chunk)] if line else []
    return entries + [Entry(embed[i], chunk=10**6) for i in TAIL]
