"""What a CUDA device must compute as the CPU does."""

from __future__ import annotations

import pytest
import torch

from evalkit.method import Method, no_question
from evalkit.model.attention import attend
from evalkit.model.load import load
from methods.pivotkv import received
from methods.retake import ReTaKe
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("chunk", "length"), [(1, 300), (128, 300), (300, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(chunk: int, length: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 8, chunk, 64), torch.randn(1, 2, length, 64), torch.randn(1, 2, length, 64)
    expected, _ = attend(torch.nn.Module(), query, key, value)
    found, _ = attend(torch.nn.Module(), *(x.to("cuda", dtype) for x in (query, key, value)))
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize(("chunk", "length"), [(1, 300), (128, 300), (300, 300)])
def test_a_flash_kernel_runs(chunk: int, length: int) -> None:
    """For a chunk after a cache too, with fewer key heads than queries have; and no softmax of its own."""
    query, key, value = (
        torch.randn(1, heads, size, 64, device="cuda", dtype=torch.bfloat16)
        for heads, size in ((8, chunk), (2, length), (2, length))
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as run:
        attend(torch.nn.Module(), query, key, value)
        torch.cuda.synchronize()
    names = " ".join(event.key.lower() for event in run.key_averages())
    assert "flash" in names
    assert "softmax" not in names


def test_scores() -> None:
    torch.manual_seed(0)
    queries, keys = torch.randn(8, 700, 64), torch.randn(2, 700, 64)
    torch.testing.assert_close(received(queries.cuda(), keys.cuda()).cpu(), received(queries, keys), rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", [Method(), ReTaKe()])
def test_logits(method: Method, checkpoint: str) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        backbone = load(str(checkpoint), device=device)
        tokens = visual(backbone, frames=16)
        budget = budget_of(backbone.layers, tokens, 0.5)
        with torch.inference_mode():
            context = backbone.new_state()
            backbone.prefill_text(context, [1, 2])
            backbone.prefill_video(context, method.select(tokens, budget, no_question), method, budget, chunk_cells=4)
            found[device] = backbone.logits(backbone.prefill_text(context, [3, 4])).cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=0, atol=1e-3)
