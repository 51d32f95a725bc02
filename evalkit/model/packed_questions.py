"""Several questions about one video in one sequence, as training reads them: prefix, video, then one suffix each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100  # a target that is not learned; torch.nn.functional.cross_entropy's own default


def packed_mask(seen: int, questions: int, length: int) -> Tensor:
    """Which token may attend to which, (S, S) bool, S = seen + questions · length.

    Causal over the `seen` tokens of prefix and video; no suffix, `length` tokens long, sees another.
    """
    owner = torch.full((seen + questions * length,), -1)
    owner[seen:] = torch.arange(questions).repeat_interleave(length)
    allowed = (owner[:, None] == owner[None]) | (owner[None] == -1)
    return allowed.tril()
