"""Mean and standard deviation of pixel values in [0, 1], by channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# of CLIP (arXiv 2103.00020), as Qwen uses them
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# of ImageNet, as UMT and VideoChat-Flash use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# of SigLIP (arXiv 2303.15343), as LLaVA-OneVision, LLaVA-Video and Qwen3-VL use them
SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)


class PixelNormalization:
    """The processors' fused form of "divide by 255, subtract the mean, divide by the deviation"."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Mean and deviation of pixel values in [0, 1], by channel."""
        self._mean, self._std = torch.tensor(mean) * 255, torch.tensor(std) * 255

    def __call__(self, pixels: np.ndarray, *, behind: int = 0) -> Tensor:
        """uint8 pixels -> float32 of the same shape; `behind`: dimensions after that of the 3 channels."""
        own = torch.from_numpy(np.ascontiguousarray(pixels)).to(torch.float32, copy=True)
        mean, std = (x.view(-1, *[1] * behind) for x in (self._mean, self._std))
        return own.sub_(mean).div_(std)  # in place: few tensors are larger
