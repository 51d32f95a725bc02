"""Mean and standard deviation of pixel values in [0, 1], by channel."""

from __future__ import annotations

# of CLIP (arXiv 2103.00020), as Qwen uses them
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# of ImageNet, as UMT and VideoChat-Flash use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# of SigLIP (arXiv 2303.15343), as LLaVA-OneVision, LLaVA-Video and Qwen3-VL use them
SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)
