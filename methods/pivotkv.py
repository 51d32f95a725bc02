"""PivotKV: per layer and chunk, keep the keys that the chunk itself attends to most (ReTaKe, arXiv 2412.20504, §3.3).

Shape letters: S tokens of a chunk, H query heads, G key heads, d head width, K = tokens kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Method
from evalkit.to_device import to_device
from evalkit.types import Evicted, LayerChunk

BLOCKS = 64  # of queries; the weights of one block are in memory at a time
BLOCK_BYTES = 2**20  # but no block smaller than this


@dataclass(frozen=True, kw_only=True)
class PivotKV(Method):
    """Compress a layer's cache after its attention ran on the full chunk; text is never evicted. Question-blind.

    Differs: the released code gives protected tokens the mean score, so that they can be evicted (`pivots: released`);
    the paper, and the default here, always keeps them. Ties go to the earlier token. Scores are fp32; the released code
    takes products, weights and sums in bfloat16, where near-equal tokens tie.
    """

    pivots: Literal["strict", "released"] = "strict"
    reforge: bool = True  # squeeze the kept tokens' time ids; False: keep ids, score with rotated queries and keys
    kv_ratio: float | None = None  # share of each chunk to keep; None: what the run's ratio leaves
    max_input_length: int | None = None  # tokens that the prompt may take; compress every chunk alike to meet it
    # following text moves in time alone (released), or in all rows (aligned); auto: released on Qwen2-VL, aligned on
    # Qwen2.5-VL and Qwen3-VL, where the released rule leads to ids that training has not seen
    text_rows: Literal["auto", "released", "aligned"] = "auto"

    def __post_init__(self) -> None:
        if self.kv_ratio is not None and self.max_input_length is not None:
            raise MethodError("PivotKV: expected kv_ratio or max_input_length, got both; set one of them to null")
        ratio = 1.0 if self.kv_ratio is None else self.kv_ratio
        if not 0 < ratio <= 1 or (self.max_input_length is not None and self.max_input_length < 1):
            raise MethodError(
                "PivotKV: expected kv_ratio in (0, 1] and max_input_length above 0, "
                f"got {self.kv_ratio = }, {self.max_input_length = }"
            )
        if self.pivots not in ("strict", "released") or self.text_rows not in ("auto", "released", "aligned"):
            raise MethodError(
                "PivotKV: expected pivots strict|released and text_rows auto|released|aligned, "
                f"got {self.pivots = }, {self.text_rows = }"
            )

    def notes(self, *, aligns_text: bool) -> tuple[str, ...]:
        """How text moves, where the backbone's default is not the released code's."""
        if not self.reforge or not aligns_text or self.text_rows == "aligned":
            return ()
        if self.text_rows == "auto":
            return (
                "text after the video moves with all rows of its ids (text_rows aligned); the released code: in time",
            )
        return (
            "text after the video moves in time alone, as released: ids that this backbone's training has not seen",
        )

    @property
    def query_aware(self) -> bool:
        """A budget for the whole prompt depends on the question's length."""
        return self.max_input_length is not None

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        """The `max_keep` highest column sums of the chunk's own attention."""
        size = chunk.keys.shape[1]
        keep = self._kept(chunk, size)
        if keep >= size:
            return None
        score = chunk.once("received", lambda: self._scores(chunk))
        index = self._picked(score, to_device(chunk.protected, score.device), keep)
        flops = 2 * chunk.queries.numel() * size  # every query on every key
        if not self.reforge:
            return Evicted(index=index, flops=flops)
        positions = reforged(to_device(chunk.positions, index.device)[:, index], keep / size)
        align = None if self.text_rows == "auto" else self.text_rows == "aligned"
        return Evicted(index=index, positions=positions, align_text=align, flops=flops)

    def _scores(self, chunk: LayerChunk) -> Tensor:
        if self.reforge:
            return received(chunk.queries, chunk.keys)
        return received(*(chunk.rotate(x, chunk.positions) for x in (chunk.queries, chunk.keys)))

    def _kept(self, chunk: LayerChunk, size: int) -> int:
        if self.max_input_length is not None:
            return max(1, int(min(1.0, self.max_input_length / chunk.prompt_tokens) * size))
        return chunk.max_keep if self.kv_ratio is None else max(1, int(self.kv_ratio * size))

    def _picked(self, score: Tensor, protected: Tensor, keep: int) -> Tensor:
        if self.pivots == "released":
            # protected tokens tie at 1.0: which of them stay is torch.topk's own choice, as in the released code
            return score.masked_fill(protected, 1.0).topk(keep).indices.sort().values
        return (score + protected * (score.max() + 1)).argsort(descending=True, stable=True)[:keep].sort().values


def received(queries_HSd: Tensor, keys_GSd: Tensor) -> Tensor:
    """Attention that each of a chunk's keys receives from all queries, mean over heads, (S,) fp32.

    1 on average where the queries are the chunk's own. Softmax over the chunk's own keys, no causal mask. Summed in
    blocks of queries: the S × S weights of a head are never in memory at once.
    """
    heads, size, width = queries_HSd.shape
    groups = len(keys_GSd)
    queries = queries_HSd.float().reshape(groups, heads // groups, size, width) * width**-0.5
    keys = keys_GSd.float().transpose(1, 2)
    total = queries.new_zeros(keys.shape[2])
    block = max(1, BLOCK_BYTES // (4 * heads * keys.shape[2]), -(-size // BLOCKS))
    for start in range(0, size, block):
        rows = queries[:, :, start : start + block].flatten(1, 2)
        total += (rows @ keys).softmax(-1).sum((0, 1))
    out: Tensor = total / heads
    return out


def reforged(positions_3K: Tensor, share: float) -> Tensor:
    """Time ids squeezed towards the earliest one: t' = t_min + trunc((t − t_min) · share) in fp32; rows stay."""
    out = positions_3K.clone()
    start = out[0].min()
    out[0] = start + ((out[0] - start).float() * torch.tensor(share, dtype=torch.float32)).long()
    return out
