"""Rotary position ids and what a decoder makes of them: RoPE, M-RoPE, M-RoPE in absolute time.

transformers' own `get_rope_index` starts the text after a video at `start + max(rows, columns)` in 5.3–5.23, so that
the question lands inside the video's time span; here text continues after the largest id of any row, as the models
were trained (Qwen2-VL, arXiv 2409.12191, §2.1). Rows of ids: time, height, width.
Shape letters: R rows of ids, N visual tokens, S tokens, T slots, d head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from evalkit.model.rotary_memo import RotaryMemo
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.model.separators import Separators
    from evalkit.types import Evicted, Pruned, VisualTokens


def text(start: int, length: int) -> Tensor:
    """Ids of `length` text tokens from `start` on, (3, length): three equal rows."""
    return torch.arange(start, start + length).expand(3, -1)


def video(start: int, time: Tensor, place: Tensor, columns: int) -> Tensor:
    """Ids of visual tokens, (3, N): `time` (N,) long from 0 on, `place` (N,) raster index in a grid of `columns`."""
    return torch.stack([time, place // columns, place % columns]) + start


def following(ids: Tensor) -> int:
    """The id that comes after every one in `ids` (R, n)."""
    return int(ids.max()) + 1


class Positions:
    """How a model family numbers text and video, and the model's own rotary embedding of these ids."""

    rows: ClassVar[int]  # of ids: 1 (RoPE), or 3 (M-RoPE: time, height, width)
    renumbers_pruned: ClassVar[bool]  # whether what `prune` leaves is numbered anew, unless the method says so itself
    aligns_text: ClassVar[bool] = False  # whether text after re-indexed ids moves in all rows, unless the method says
    moves_together: ClassVar[bool] = False  # whether visual tokens after re-indexed ids do so, too

    def __init__(self, rotary: Any) -> None:
        """`rotary`: the model's module, (x, ids as `model_ids` has them) -> cos and sin (1, S, d)."""
        self._rotary, self._memo = rotary, RotaryMemo(rotary)

    @classmethod
    def of(cls, config: Any, rotary: Any) -> Positions:
        """For a checkpoint's configuration."""
        return cls(rotary)

    def text_ids(self, start: int, length: int) -> Tensor:
        """Ids of text tokens from `start` on, (R, length): equal rows."""
        return text(start, length)[: self.rows]

    def video_ids(self, start: int, tokens: VisualTokens, separators: Separators | None = None) -> Tensor:
        """Ids of visual tokens, and of the separators between them, that follow the id before `start`, (R, n)."""
        raise NotImplementedError

    def ids_after(self, tokens: VisualTokens, separators: Separators | None = None) -> int:
        """How many ids the video takes before text goes on."""
        raise NotImplementedError

    def with_separators(self, old: Tensor, visual: Tensor, new: Tensor) -> Tensor:
        """Ids (R, n) of what an eviction keeps, where the method gives its visual tokens new ids.

        `old` (R, n) are the ids until then, `visual` (n,) bool says which entries are visual tokens, `new` (R, K) are
        their ids. In each row that changes a separator goes where it was between its neighbours: linearly, rounded
        down. Before the first visual token it keeps its id, unless that token's is lower now; after the last one ids
        go on without a gap.
        """
        out = old.clone()
        out[:, visual] = new
        for row in range(len(old)):
            if not torch.equal(old[row, visual], new[row]):
                out[row, ~visual] = _between(old[row], visual, new[row])
        return out

    def model_ids(self, ids: Tensor, device: torch.device) -> Tensor:
        """Ids (R, S) in the shape that the language model takes, with its batch of one."""
        raise NotImplementedError

    def prompt_ids(self, prefix: int, video: Tensor, after: int, suffix: int, *, renumbered: bool) -> Tensor:
        """Ids (R, prefix + n + suffix) of text, what is left of a video, and text.

        `video` (R, n) are the ids of the tokens that are left, separators included, and `after` how many ids the video
        takes, both in the uncompressed layout. `renumbered`: instead, everything is numbered from 0 without gaps.
        """
        if renumbered:
            return self.text_ids(0, prefix + video.shape[1] + suffix)
        return torch.cat([self.text_ids(0, prefix), video, self.text_ids(prefix + after, suffix)], 1)

    def rotary(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (1, S, d) for ids (R, S), on the device and in the dtype of `x`."""
        cos, sin = self._memo(x, ids, lambda: self._rotary(x, self.model_ids(ids, x.device)))
        return cos, sin

    def rotate(self, x: Tensor, ids: Tensor) -> Tensor:
        """Rotary embedding of `x` (heads, S, d) at ids (R, S)."""
        cos, sin = self.rotary(x, ids)
        return rotate(x, cos[0], sin[0])

    def renumbers(self, pruned: Pruned) -> bool:
        """Whether tokens are numbered anew from the layer on before which they were pruned."""
        return self.renumbers_pruned if pruned.renumber is None else pruned.renumber

    def aligns(self, evicted: Evicted) -> bool:
        """Whether text after an eviction's new ids moves in all rows, not in time alone."""
        return self.aligns_text if evicted.align_text is None else evicted.align_text


class RopePositions(Positions):
    """RoPE (arXiv 2104.09864): one row of ids, visual tokens one after the other like text."""

    rows = 1
    renumbers_pruned = True

    def video_ids(self, start: int, tokens: VisualTokens, separators: Separators | None = None) -> Tensor:
        """Ids (1, n): separators count like visual tokens."""
        if not tokens.original_ids:
            return self.text_ids(start, self.ids_after(tokens, separators))
        visual = _dense_ids(tokens, tokens.place, separators)
        if separators is None:
            return start + visual[None]
        row_ends = _dense_ids(tokens, (tokens.place // tokens.grid[1] + 1) * tokens.grid[1] - 1, separators) + 1
        behind = _dense_slots(tokens, separators) + (~separators.with_row).long().cumsum(0) - 1
        between = torch.where(separators.with_row, row_ends[separators.anchor], behind)
        return start + torch.cat([between, visual])[separators.order(len(tokens))][None]

    def ids_after(self, tokens: VisualTokens, separators: Separators | None = None) -> int:
        """As many as there are tokens; in the dense run where they keep its ids."""
        if not tokens.original_ids:
            return len(tokens) + (0 if separators is None else len(separators))
        fixed = 0 if separators is None else int((~separators.with_row).sum())
        return _dense_slots(tokens, separators) + fixed

    def model_ids(self, ids: Tensor, device: torch.device) -> Tensor:
        """Ids (1, S): the one row is the batch."""
        return to_device(ids, device)


class MRopePositions(Positions):
    """M-RoPE (Qwen2-VL, arXiv 2409.12191, §2.1): a slot is one step in time, whatever the seconds between slots."""

    rows = 3
    renumbers_pruned = False  # time steps do not depend on how many tokens a cell has left

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """Temporal id of each of the video's T slots, counted from its start, (T,) long."""
        return torch.arange(len(tokens.cell_seconds))

    def video_ids(self, start: int, tokens: VisualTokens, separators: Separators | None = None) -> Tensor:
        """Ids (3, N) by slot and place."""
        assert separators is None, "a family with separators has a layout of its own"
        return video(start, self.slot_times(tokens)[tokens.slot], tokens.place, tokens.grid[1])

    def ids_after(self, tokens: VisualTokens, separators: Separators | None = None) -> int:
        """Up to the end of the slots in use, and of rows and columns.

        Where fewer slots are in use than there are rows or columns, ReTaKe's code lets text begin among those.
        """
        last = self.slot_times(tokens)[(len(tokens.cell_seconds) if tokens.span is None else tokens.span) - 1]
        return max(int(last) + 1, *tokens.grid)

    def model_ids(self, ids: Tensor, device: torch.device) -> Tensor:
        """Ids (3, 1, S)."""
        return to_device(ids[:, None], device)


class TimedMRopePositions(MRopePositions):
    """M-RoPE in absolute time (Qwen2.5-VL, arXiv 2502.13923, §2.1.2): `tokens_per_second` ids a second.

    An hour is thousands of ids in time, while a row or column is tens. Text that moved in time alone, as ReTaKe's code
    has it, would stand at ids such as (2835, 7015, 7015), which no training has seen; so it moves in all rows here.
    """

    aligns_text = True

    def __init__(self, rotary: Any, tokens_per_second: float) -> None:
        super().__init__(rotary)
        self.tokens_per_second = tokens_per_second

    @classmethod
    def of(cls, config: Any, rotary: Any) -> TimedMRopePositions:
        """For a checkpoint's configuration, which says how many ids a second takes."""
        return cls(rotary, float(config.vision_config.tokens_per_second))

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """Seconds of each slot since the first, in ids; (T,) long."""
        seconds = tokens.times - tokens.times[0]
        # timestamps are binary fractions of a frame's time: 0.4999… s is half a second
        return torch.floor(seconds * self.tokens_per_second + 1e-3).long()


class TimestampMRopePositions(MRopePositions):
    """M-RoPE of single cells with text before each (Qwen3-VL, arXiv 2511.21631): the time is said in words, not by ids.

    A cell of `rows` × `columns` tokens that follows the id before s has ids (s, s + row, s + column), and what follows
    it goes on at s + max(rows, columns), as after an image; a cell that has lost tokens takes as many ids. A slot that
    has no tokens at all takes none: the prompt is that of the cells which are left. transformers 5.17 numbers the same
    way (5.3, which did not split a video into its cells, did not).

    Time that PivotKV squeezes alone would end up far below rows and columns, which no training has seen; so a cell's
    rows and columns move along with its time, and text in all rows.
    """

    aligns_text = True
    moves_together = True

    def video_ids(self, start: int, tokens: VisualTokens, separators: Separators | None = None) -> Tensor:
        """Ids (3, n) of visual tokens and of the text that stands before and behind each slot's."""
        slot, before, after = _text_around(tokens, separators)
        side, columns = max(tokens.grid), tokens.grid[1]
        first = start + _offsets(before + side + after)
        block = (first + before)[slot]
        visual = torch.stack([block, block + tokens.place // columns, block + tokens.place % columns])
        if separators is None:
            return visual
        at, rank = slot[separators.anchor], torch.empty(len(separators), dtype=torch.long)
        for behind, count, start_of in ((False, before, first), (True, after, first + before + side)):
            chosen = separators.behind == behind
            rank[chosen] = start_of[at[chosen]] + torch.arange(int(chosen.sum())) - _offsets(count)[at[chosen]]
        return torch.cat([rank.expand(3, -1), visual], 1)[:, separators.order(len(tokens))]

    def ids_after(self, tokens: VisualTokens, separators: Separators | None = None) -> int:
        """As many as the slots in use take, with the text around them."""
        _, before, after = _text_around(tokens, separators)
        return int((before + max(tokens.grid) + after).sum())

    def with_separators(self, old: Tensor, visual: Tensor, new: Tensor) -> Tensor:
        """Ids (3, n) of what an eviction keeps; rows and columns that the method left move with their token's time.

        Text goes in time as on other families, and has the same id in all rows; behind the last cell it goes on after
        every id.
        """
        was, moved = old[:, visual], new.clone()
        for row in (1, 2):
            if torch.equal(new[row], was[row]):
                moved[row] += new[0] - was[0]
        out = super().with_separators(old[:1], visual, new[:1]).expand(3, -1).clone()
        out[:, visual] = moved
        last = int(visual.nonzero()[-1, 0]) + 1
        if not torch.equal(moved, was):
            out[:, last:] = text(following(moved), out.shape[1] - last)
        return out


def _text_around(tokens: VisualTokens, separators: Separators | None) -> tuple[Tensor, Tensor, Tensor]:
    """Number of each token's slot among those in use (N,), and how much text stands before and behind each of these."""
    slot = torch.cat([torch.zeros(1, dtype=torch.long), (tokens.slot.diff() != 0).long()]).cumsum(0)
    used = int(slot[-1]) + 1
    if separators is None:
        none = torch.zeros(used, dtype=torch.long)
        return slot, none, none
    before, after = (
        torch.bincount(slot[separators.anchor[separators.behind == behind]], minlength=used) for behind in (False, True)
    )
    return slot, before, after


def _newline_ids(separators: Separators | None) -> int:
    """Ids that the end of a row takes."""
    return int(separators is not None and bool(separators.with_row.any()))


def _dense_ids(tokens: VisualTokens, place: Tensor, separators: Separators | None) -> Tensor:
    """Ids in the dense run of places (N,) in the tokens' slots, where each is one token after the other, (N,) long."""
    rows, columns = tokens.grid
    newline = _newline_ids(separators)
    return tokens.slot * rows * (columns + newline) + place + place // columns * newline


def _dense_slots(tokens: VisualTokens, separators: Separators | None) -> int:
    """Ids that all slots of the dense run take, with the ends of their rows."""
    rows, columns = tokens.grid
    return len(tokens.cell_seconds) * rows * (columns + _newline_ids(separators))


def _offsets(lengths: Tensor) -> Tensor:
    """Where each of some runs begins that follow each other, (n,) long."""
    return lengths.cumsum(0) - lengths


def _between(old: Tensor, visual: Tensor, new: Tensor) -> Tensor:
    """New ids of the separators of one row; see Positions.with_separators."""
    before = visual.long().cumsum(0)[~visual]  # visual tokens before each
    left, right = (before - 1).clamp(min=0), before.clamp(max=len(new) - 1)
    was, known = old[~visual], old[visual]
    steps = (was - known[left]) * (new[right] - new[left])
    found = new[left] + steps.div((known[right] - known[left]).clamp(min=1), rounding_mode="floor")
    first, last = before == 0, before == len(new)
    found[first] = was[first].clamp(max=int(new[0]))
    found[last] = int(new[-1]) + 1 + torch.arange(int(last.sum()))
    return found


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x` (heads, S, d) with cos and sin (S, d), halves paired as Qwen does."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin
