"""Numbers that an answer may rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from evalkit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def check_finite(values: Tensor, what: str) -> Tensor:
    """`values` of any shape, not empty, as they came. Raises ModelError where one is NaN or infinite."""
    smallest, largest = torch.aminmax(values.detach())  # both are NaN where a value is; no tensor of that size is made
    if not bool(torch.isfinite(smallest) & torch.isfinite(largest)):
        count = int((~torch.isfinite(values)).sum())
        wider = ", and take bfloat16 or float32, as float16 ends at 65504" if values.dtype == torch.float16 else ""
        raise ModelError(
            f"{what}: expected finite numbers, {count} of {values.numel()} are NaN or infinite in {values.dtype}; "
            f"check the weights{wider}"
        )
    return values
