"""PivotKV's scoring against the straightforward form, alone and inside a prefill of a 2-layer model with d = 512.

python perf/pivotkv.py [--context 16384] [--runs 3]     prints a table and puts it into RESULTS.md

The straightforward form is the paper's text: the softmax weights of all heads at once, then one sum. Kept indices are
asserted equal before anything is timed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import in_turn, peak_bytes, record

from evalkit.method import Budget
from evalkit.model import attention
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import Evicted, LayerChunk, VisualTokens
from methods import pivotkv
from methods.pivotkv import PivotKV, received

PLACES = 64  # tokens of a cell


def plain_received(queries_HSd: Tensor, keys_GSd: Tensor) -> Tensor:
    """Column sums of the S × S weights of every head, all held at once."""
    heads, _, width = queries_HSd.shape
    keys = keys_GSd.repeat_interleave(heads // len(keys_GSd), 0)
    weights = (queries_HSd @ keys.transpose(1, 2) / width**0.5).softmax(-1)
    return weights.sum(1).mean(0)


@dataclass(frozen=True, kw_only=True)
class Watched(PivotKV):
    """PivotKV that notes what it keeps."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        """As PivotKV."""
        keep = super().evict(chunk)
        if keep is not None:
            kept.append(keep.index)
        return keep


kept: list[Tensor] = []


def model() -> Qwen2VL:
    """Random weights: 2 layers, width 512, 8 heads, 2 of them for keys."""
    text = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "vocab_size": 256}
    text |= {
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    text["initializer_range"] = 0.05  # attention with a shape: scores that differ by more than rounding
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 512, "num_heads": 2, "mlp_ratio": 1}
    ids = {"video_token_id": 250, "image_token_id": 251, "vision_start_token_id": 252, "vision_end_token_id": 253}
    torch.manual_seed(0)
    inner = Qwen2VLForConditionalGeneration._from_config(
        Qwen2VLConfig(text_config=text, vision_config=vision, **ids),
        attn_implementation={"text_config": attention.register(), "vision_config": "sdpa"},
    )
    return Qwen2VL(inner.eval(), None)


def video(tokens: int) -> VisualTokens:
    """Random features."""
    features = torch.randn(tokens, 512, generator=torch.Generator().manual_seed(1))
    return VisualTokens.dense(features, seconds=range(tokens // PLACES), grid=(8, 8))


@torch.inference_mode()
def prefill(backbone: Qwen2VL, tokens: VisualTokens, chunk: int, method: PivotKV) -> None:
    """Head and video."""
    budget = Budget.encoded(len(tokens.cell_seconds), tokens.grid, ratio=0.5, layers=backbone.layers)
    context = backbone.context()
    backbone.prefill_text(context, [1, 2, 3])
    backbone.prefill_video(context, tokens, method, budget, chunk_cells=chunk // PLACES)


def row(backbone: Qwen2VL, chunk: int, context: int, runs: int) -> dict[str, object]:
    """One chunk size: equal picks first, then memory and time of the scoring alone, then of a whole prefill."""
    tokens = video(context)

    def plainly(call: object) -> object:
        with patch.object(pivotkv, "received", plain_received):
            return call()  # type: ignore[operator]

    ours = partial(prefill, backbone, tokens, chunk, Watched())
    plain = partial(plainly, ours)
    picks = []
    for form in (ours, plain):
        kept.clear()
        form()
        picks.append(torch.cat(kept))
    assert torch.equal(*picks), "the two forms keep other tokens: their times say nothing"

    generator = torch.Generator().manual_seed(2)
    queries, keys = (torch.randn(heads, chunk, 64, generator=generator) for heads in (8, 2))
    scoring = [partial(received, queries, keys), partial(plain_received, queries, keys)]
    memory = [peak_bytes(call) for call in scoring]
    seconds = in_turn(scoring, runs)
    whole = in_turn([ours, plain], runs)
    return {
        "chunk S": chunk,
        "context": context,
        "scoring MB": memory[0] / 1e6,
        "plain MB": memory[1] / 1e6,
        "memory ratio": memory[0] / memory[1],
        "scoring s": seconds[0],
        "plain s": seconds[1],
        "time ratio": seconds[0] / seconds[1],
        "prefill s": whole[0],
        "plain prefill s": whole[1],
        "prefill ratio": whole[0] / whole[1],
    }


def main() -> None:
    """All chunk sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    backbone = model()
    rows = [row(backbone, chunk, args.context, args.runs) for chunk in (1024, 2048, 4096)]
    note = "Same kept indices, asserted. Scoring: one layer's column sums over a chunk (8 heads, 2 for keys, width 64)."
    print(record("PivotKV: blocked column sums against the S × S form (CPU)", rows, note))


if __name__ == "__main__":
    main()
