"""AdaReTaKe: ReTaKe's cache compression led by the question, its budget shared out over time and layers (2503.12559).

Source: iLearn-Lab/ACL25-AdaReTaKe at 39223a6; its README allows research alone, so this is written from a description
of what it does, without its code. Published, by that README: Qwen2.5-VL-7B, prompts of 16,000 tokens, 2048 frames:
VideoMME 64.8, MLVU 75.2 (M-Avg), LVBench 50.4; its own ablation at 1024 frames has the full method no higher than
the one without both allocations (VideoMME 66.2 and 66.7, MLVU 75.4 and 75.6, LVBench 48.5 and 49.2).
Shape letters: T temporal cells, P places per cell, C feature width, L layers, S tokens of a chunk, Q of the guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from evalkit.chunk_scores import Guide, Scored, VideoPart
from evalkit.errors import MethodError
from evalkit.method import Method
from evalkit.types import LayerChunk, VisualTokens
from methods.pivotkv import received, reforged

Slip = Literal["first_chunk", "half_video", "guide_ids", "whole_chunk"]

LEAST_OF_CHUNK = 1e-3  # share of a chunk that stays at least; source: released code
LEAST_OF_LAYER = 0.01  # share of a chunk that stays in a layer at least; source: released code


@dataclass(frozen=True, kw_only=True)
class AdaReTaKe(Method):
    """Per layer and chunk, keep the keys that the question attends to most, which is fed behind the chunk for that.

    Chunks of a video that changes more keep more, and so do layers whose scores are higher than those of others.

    Differs: the number of tokens is rounded such that the ratio is met (`counts: released` rounds down in each layer,
    and shares out as if all chunks were of one length); the next chunk and the question follow the last id that was
    kept, as in ReTaKe (`close_gaps` false: they keep the ids of the whole video, as the released code does with its
    pinned library). Where nothing of a chunk is cut, the question is not fed behind it. Equal scores go to the earlier
    layer and token; the released code leaves their order to the library. Four defects of the released code are
    corrected, and can be asked for by name in `slips`: `first_chunk`, of which only the last tokens compete, as many as
    there are before the video; `half_video`, the shares of chunks are those of its first half; `guide_ids`, the
    question's ids are lowered by a count of tokens; `whole_chunk`, the question stays in the cache behind a chunk that
    is not cut.
    """

    reforge: bool = True  # squeeze a chunk's time ids by the video's share, and score without rotation
    close_gaps: bool = True  # what follows continues from the new ids; False: from those of the whole video
    temporal: bool = True  # a share for each chunk by how much the video changes there; False: the same for all
    allocation: Literal["adakv", "even"] = "adakv"  # among layers: by pooled scores, or alike
    counts: Literal["exact", "released"] = "exact"
    max_guide_length: int | None = None  # the last so many tokens of what follows the video; None: all of it
    max_input_length: int | None = None  # tokens that the prompt may take; None: what the run's ratio leaves
    slips: tuple[Slip, ...] | None = None  # defects of the released code to repeat; None: none

    def __post_init__(self) -> None:
        if self.slips is not None:
            object.__setattr__(self, "slips", tuple(self.slips))  # from a list, as a file has it
        lengths = [length for length in (self.max_guide_length, self.max_input_length) if length is not None]
        named = self.allocation in ("adakv", "even") and self.counts in ("exact", "released")
        if not named or not set(self.slips or ()) <= set(get_args(Slip)) or min(lengths, default=1) < 1:
            raise MethodError(
                "AdaReTaKe: expected allocation adakv|even, counts exact|released, lengths above 0 or null, slips of "
                f"{'|'.join(get_args(Slip))}; got {self}"
            )

    @property
    def query_aware(self) -> bool:
        """The question's attention decides."""
        return True

    def _repeats(self, slip: Slip) -> bool:
        """Whether a defect of the released code is asked for."""
        return slip in (self.slips or ())

    def video_share(self, share: float, prompt_tokens: int) -> float:
        """What of the video stays, at most 1."""
        return share if self.max_input_length is None else min(1.0, self.max_input_length / prompt_tokens)

    # ---- among chunks

    def shares(self, tokens: VisualTokens, sizes: Sequence[int], share: float, prompt_tokens: int) -> Sequence[float]:
        """By each chunk's distance to its neighbours, such that all together keep the video's share."""
        share = self.video_share(share, prompt_tokens)
        if share >= 1 or not self.temporal:
            return [share] * len(sizes)
        distance = change_of_chunks(self._cells(tokens), len(sizes))
        mean = float(distance.mean())
        weights = torch.full_like(distance, share) if mean == 0 else share * distance / mean
        if self.counts == "released":
            return projected(weights, share * len(sizes))
        lengths = torch.tensor(sizes, dtype=torch.float64)
        return projected(weights, share * sum(sizes), lowest=1 / lengths, lengths=lengths)

    def _cells(self, tokens: VisualTokens) -> Tensor:
        """Mean feature of each cell, (T, C) float32."""
        cells, width = len(tokens.cell_seconds), tokens.features.shape[-1]
        places = len(tokens) // cells
        if places * cells != len(tokens):
            raise MethodError(f"AdaReTaKe: expected cells of equal size, got {len(tokens)} tokens of {cells} cells")
        if self._repeats("half_video") and places > 1:
            places //= 2
        return tokens.features[: cells * places].reshape(cells, places, width).float().mean(1)

    # ---- in a chunk

    def guide(self, part: VideoPart) -> Guide | None:
        """The text after the video, unless nothing of the chunk is cut."""
        count = part.suffix if self.max_guide_length is None else min(part.suffix, self.max_guide_length)
        stays = part.share >= 1
        if stays and not self._repeats("whole_chunk"):
            return None
        offset = part.left + part.suffix - count if self._repeats("guide_ids") else None
        return Guide(tokens=count, offset=offset, stays=stays)

    def evict(self, chunk: LayerChunk) -> Scored | None:
        """What each key of the chunk gets of the guide's attention to the chunk alone, summed over the guide."""
        part, guide, ids = chunk.part, chunk.guide, chunk.guide_positions
        assert part is not None
        assert guide is not None
        assert ids is not None
        if part.share >= 1:
            return None
        flops = 2 * guide.numel() * chunk.keys.shape[1]  # every query on every key
        if not self.reforge:
            scores = received(chunk.rotate(guide, ids), chunk.rotate(chunk.keys, chunk.positions))
            return Scored(scores=scores, flops=flops)
        # as released, from the lowest id of chunk and guide: the chunk's, unless `guide_ids` has put the guide below
        fed = torch.cat([chunk.positions, ids], 1)
        positions = reforged(fed, self.video_share(part.video_share, part.prompt_tokens))[:, : chunk.keys.shape[1]]
        scores = received(guide, chunk.keys)
        return Scored(scores=scores, positions=positions, closes_gap=self.close_gaps, flops=flops)

    def settle(self, scores: Tensor, part: VideoPart) -> list[Tensor]:
        """The highest scores of each layer, as many as its share of the chunk's room."""
        size = scores.shape[1]
        if part.number == 0 and part.before and self._repeats("first_chunk"):
            # all compete alike: which of them stay is torch.topk's own choice, as in the released code
            last = min(size, part.before)
            scores = torch.full((len(scores), last), 1000.0)
            counts = self._counts(scores, part.share, tied=True)
            always = torch.arange(size - last)
            rows = zip(scores, counts, strict=True)
            return [torch.cat([always, size - last + row.topk(n).indices.sort().values]) for row, n in rows]
        counts = self._counts(scores, part.share)
        order = scores.argsort(dim=1, descending=True, stable=True)
        return [row[:count].sort().values for row, count in zip(order, counts, strict=True)]

    def _counts(self, scores: Tensor, share: float, *, tied: bool = False) -> list[int]:
        """How many of a chunk's tokens stay in each layer, for scores (L, S)."""
        layers, size = scores.shape
        if self.allocation == "even":
            shares = torch.full((layers,), share, dtype=torch.float32)
        else:
            shares = adakv(scores, share, tied=tied)
        if self.counts == "released":
            return [max(1, int(max(LEAST_OF_LAYER, each) * size)) for each in shares.tolist()]
        return apportioned([each * size for each in shares.tolist()], round(share * size * layers), size)


def change_of_chunks(cells_TC: Tensor, chunks: int) -> Tensor:
    """How far the mean of each of `chunks` runs of cells is from its neighbours', (chunks,) float64 on the CPU.

    1 − cosine similarity, mean over both sides; at the ends of the video there is no distance to one of them.
    """
    cells, step = len(cells_TC), len(cells_TC) / chunks
    runs = [(int(i * step), max(int(i * step) + 1, min(int((i + 1) * step), cells))) for i in range(chunks)]
    means = torch.stack([cells_TC[start:stop].mean(0) for start, stop in runs])
    apart = (1 - cosine_similarity(means[1:], means[:-1], dim=-1)).double().cpu()
    none = apart.new_zeros(1)
    return (torch.cat([none, apart]) + torch.cat([apart, none])) / 2


def projected(
    weights: Tensor, target: float, *, lowest: float | Tensor = LEAST_OF_CHUNK, lengths: Tensor | None = None
) -> list[float]:
    """The shares in [lowest, 1] nearest to `weights` (n,) float64, scaled, whose sum is `target`.

    `lengths` (n,): how much each of them counts in that sum. One number is taken off all, found by bisection.
    """
    lengths = torch.ones_like(weights) if lengths is None else lengths
    scaled = weights / (lengths * weights).sum() * target
    low, high = float(scaled.min()) - 1.0, float(scaled.max()) - LEAST_OF_CHUNK
    least, most = torch.as_tensor(lowest, dtype=scaled.dtype), torch.ones((), dtype=scaled.dtype)
    for _ in range(100):
        if high - low <= 1e-5:
            break
        middle = (low + high) / 2
        if float((lengths * (scaled - middle).clamp(least, most)).sum()) > target:
            low = middle
        else:
            high = middle
    found: list[float] = (scaled - (low + high) / 2).clamp(least, most).tolist()
    return found


def adakv(scores: Tensor, share: float, *, tied: bool = False) -> Tensor:
    """Share of each layer's tokens, (L,) float32: by how many of the highest of all scores (L, S) are in it.

    `tied`: leave the order of equal scores to torch.topk, as the released code does.
    """
    layers, size = scores.shape
    room = int(max(1.0, share * size) * layers)
    flat = scores.flatten()
    best = flat.topk(room).indices if tied else flat.argsort(descending=True, stable=True)[:room]
    found = (torch.bincount(best // size, minlength=layers) + 1).float()
    return layers * share * found / found.sum()


def apportioned(wanted: Sequence[float], total: int, most: int) -> list[int]:
    """Whole numbers from 1 to `most` near to `wanted`, whose sum is `total` or as near to it as these bounds allow."""
    found = [min(most, max(1, int(each))) for each in wanted]
    by_rest = sorted(range(len(wanted)), key=lambda i: found[i] - wanted[i])
    while (left := min(total, most * len(found)) - sum(found)) > 0:
        for i in [i for i in by_rest if found[i] < most][:left]:
            found[i] += 1
    while (over := sum(found) - max(total, len(found))) > 0:
        for i in [i for i in reversed(by_rest) if found[i] > 1][:over]:
            found[i] -= 1
    return found
