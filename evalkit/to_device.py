"""Sending a tensor to the model's device without waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


ASYNCHRONOUS = ("cuda",)  # types of device on which work is queued and copies from pinned memory are, too


def to_device(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`x` on the device, in `dtype` where one is given.

    To a GPU it goes by pinned memory, and the CPU goes on: a plain copy waits until the GPU has done all it was given.
    """
    if device.type in ASYNCHRONOUS and x.device.type == "cpu":
        return x.to(dtype or x.dtype).pin_memory().to(device, non_blocking=True)
    return x.to(device, dtype or x.dtype)
