"""PivotKV's column sums on a GPU: evalkit's blocked products, the same on tensor cores, and two Triton kernels.

python perf/gpu_column_sums.py [--sizes 1152 2304 4608]     needs a CUDA device; puts a table into RESULTS.md
python perf/gpu_column_sums.py --rehearse                   the kernels in Triton's interpreter, on the CPU: no times

A form may take the place of `methods.pivotkv.received` on a GPU where it is faster and keeps the same tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import record

from methods.pivotkv import received

Form = Callable[[Tensor, Tensor], Tensor]

HEADS, KEY_HEADS, WIDTH = 28, 4, 128  # source: huggingface.co/Qwen/Qwen2-VL-7B-Instruct, config.json
RATIOS = (0.5, 0.25)
BLOCK = 1024  # queries whose products are in memory at once
WARM, RUNS = 3, 20
NOTE = """
One layer's column sums over one chunk: {heads} heads, {key_heads} for keys, width {width}, random bf16 queries and
keys. Median of {runs} runs by CUDA events, after {warm}. Tokens that differ: kept at 1/2 and at 1/4 by one form and not
by the first, summed. {name}.
"""


def on_tensor_cores(queries_HSd: Tensor, keys_GSd: Tensor) -> Tensor:
    """As `received`, of 16-bit numbers, whose products tensor cores add in fp32: on a GPU alone."""
    heads, size, width = queries_HSd.shape
    groups = len(keys_GSd)
    queries, keys = queries_HSd.reshape(groups, heads // groups, size, width), keys_GSd.transpose(1, 2)
    total = torch.zeros(size, device=queries.device)
    for start in range(0, size, BLOCK):
        rows = queries[:, :, start : start + BLOCK].flatten(1, 2)
        total += (torch.bmm(rows, keys, out_dtype=torch.float32) * width**-0.5).softmax(-1).sum((0, 1))
    return total / heads


def differing(found: Tensor, expected: Tensor) -> int:
    """Tokens that one keeps and the other does not, over all ratios."""
    count = 0
    for ratio in RATIOS:
        kept = int(ratio * len(expected))
        chosen, other = (set(sums.argsort(descending=True, stable=True)[:kept].tolist()) for sums in (found, expected))
        count += len(chosen - other)
    return count


def chunk(heads: int, key_heads: int, size: int, width: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    """Random queries and keys."""
    torch.manual_seed(size)
    return tuple(torch.randn(n, size, width, device=device, dtype=dtype) for n in (heads, key_heads))


def seconds(call: Callable[[], Tensor]) -> float:
    """Median by CUDA events."""
    times = []
    for run in range(WARM + RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if run >= WARM:
            times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def measured(name: str, form: Form, queries: Tensor, keys: Tensor, expected: Tensor) -> dict[str, object]:
    """One row."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = form(queries, keys)
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "chunk S": len(expected),
        "form": name,
        "ms": 1e3 * seconds(partial(form, queries, keys)),
        "MB": peak / 1e6,
        "largest difference": float((found - expected).abs().max()),
        "tokens that differ": differing(found, expected),
    }


def rehearse(form: Form) -> None:
    """The kernels against `received` on small chunks. SystemExit where they say something else."""
    for dtype in (torch.float32, torch.float16):  # the interpreter does not multiply bf16
        for heads, key_heads, size, width in ((4, 4, 64, 16), (8, 2, 100, 64), (6, 2, 190, 32)):
            queries, keys = chunk(heads, key_heads, size, width, dtype, "cpu")
            found, expected = form(queries, keys), received(queries, keys)
            largest = float((found - expected).abs().max())
            if largest > 1e-5 or differing(found, expected):
                raise SystemExit(f"{dtype}, {size} tokens: differs by {largest:.3g}")
            print(f"{dtype}, {heads} and {key_heads} heads, {size} tokens: differs by {largest:.3g}, same tokens kept")


def main() -> None:
    """The table, or the rehearsal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1152, 2304, 4608])
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
    elif not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing is measured (--rehearse compares the kernels' results on the CPU)")
    from column_sums_kernel import received as by_triton

    if args.rehearse:
        rehearse(by_triton)
        return
    forms: dict[str, Form] = {"evalkit's": received, "tensor cores": on_tensor_cores, "Triton": by_triton}
    rows = []
    for size in args.sizes:
        queries, keys = chunk(HEADS, KEY_HEADS, size, WIDTH, torch.bfloat16, "cuda")
        expected = received(queries, keys)
        rows += [measured(name, form, queries, keys, expected) for name, form in forms.items()]
    note = NOTE.format(
        heads=HEADS, key_heads=KEY_HEADS, width=WIDTH, runs=RUNS, warm=WARM, name=torch.cuda.get_device_name()
    )
    print(record("PivotKV: column sums of one layer in three forms (CUDA)", rows, note.strip()))


if __name__ == "__main__":
    main()
