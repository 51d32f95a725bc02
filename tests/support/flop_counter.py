"""torch's own counter of operations, as the ledger's closed forms are held against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple
from typing import Any

import pytest
import torch
from torch.nn.attention import bias
from torch.utils.flop_counter import FlopCounterMode

from evalkit.types import Answer


def lower_right(queries: int, keys: int) -> torch.Tensor:
    """The mask that `causal_lower_right` stands for; torch's class for it cannot be made under the counter."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def fused(query: list[int], key: list[int], value: list[int], *_: object, **__: object) -> int:
    """The formula of torch's table for attention, for the CPU's kernel, which the table lacks."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])


def product(left: list[int], right: list[int], **_: object) -> int:
    """torch's formula, but none for the angles of rotary embeddings: they are written as a product of width one."""
    batch, rows, inner = left
    return 0 if inner == 1 else 2 * batch * rows * inner * right[-1]


class NoModules(nullcontext[None]):
    """In place of torch's bookkeeping of modules, whose hooks take long: only the sum is asked for."""

    parents = frozenset({"Global"})


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlopCounterMode]:
    """What torch counts."""
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused,
        torch.ops.aten.bmm: product,
    }
    with monkeypatch.context() as patch:
        patch.setattr(bias, "causal_lower_right", lower_right)
        counter: Any = FlopCounterMode(display=False, custom_mapping=formulas)
        counter.mod_tracker = NoModules()
        with counter:
            yield counter


def total(answer: Answer) -> int:
    """Operations of all stages in an answer's ledger."""
    assert answer.ledger is not None, answer.error
    assert answer.ledger.flops is not None
    return sum(astuple(answer.ledger.flops))
