"""VidCom2: the tokens least like their frame and the video, more of them in unusual frames (arXiv 2505.14454).

Shape letters: T frames or temporal cells, P places per cell, D feature width, C = D / 2 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.selection import cells, lowest

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)  # of the kernels that are added up; source: released code
TEMPERATURE = 0.01  # of the shares of frames; source: released code


@dataclass(frozen=True, kw_only=True)
class VidCom2(Method):
    """Keep the tokens of each frame that are least like the mean of the frame and that of the video.

    Source: xuyang-liu16/VidCom2@944a17d, Apache-2.0. Question-blind, training-free, no attention of the encoder.
    Published (their project page; LLaVA-OneVision-7B, 32 frames, 25 % / 15 %): MLVU 62.5 / 58.9 (dense 63.0), VideoMME
    58.6 / 56.2 (58.6), LongVideoBench 54.9 / 52.0 (56.4). LVBench: none found.

    Differs: on LLaVA-Video newlines follow the rows that are left, as everywhere here; the released code puts all 13
    of a frame behind its last token. The released file for Qwen2-VL takes features for indices; here it is treated
    like Qwen2.5-VL. At ratio 1 not quite everything is kept, as released.
    """

    identity_at_one: ClassVar[bool] = False
    off_ratio: ClassVar[str] = "each frame's share is rounded to whole tokens, and never above all of them"

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of the kept tokens, ascending."""
        x_TPD = cells(tokens, self)
        places = x_TPD.shape[1]
        of_video, of_frame = likeness(normalize(x_TPD[:, :, channels(x_TPD.flatten(0, 1))], dim=-1))
        counts = (shares(of_video, budget.ratio) * places).round().long().clamp(min=1).tolist()
        score = (of_video + of_frame).cpu()
        kept = [lowest(score[t], count) + t * places for t, count in enumerate(counts)]
        return tokens.keep(torch.cat(kept))


def channels(x_ND: Tensor) -> Tensor:
    """The half of the channels whose variance over the video is lowest, (C,) ascending."""
    return lowest(x_ND.var(0, unbiased=False), x_ND.shape[1] // 2).to(x_ND.device)


def likeness(u_TPC: Tensor) -> tuple[Tensor, Tensor]:
    """How near each token is to the mean of the video, and to that of its frame: (T, P) each, in (0, 5]."""
    return _kernels(u_TPC, u_TPC.mean((0, 1))), _kernels(u_TPC, u_TPC.mean(1, keepdim=True))


def _kernels(u_TPC: Tensor, center: Tensor) -> Tensor:
    squared = (u_TPC - center).square().sum(-1)
    return sum((torch.exp(-squared / (2 * width)) for width in WIDTHS), torch.zeros_like(squared))


def shares(of_video_TP: Tensor, ratio: float) -> Tensor:
    """Share of each frame's tokens that stays, (T,): frames unlike the video get more, none more than all."""
    unlike = -of_video_TP.mean(1)
    weight = ((unlike - unlike.max()) / TEMPERATURE).softmax(0)
    return (ratio * (1 + weight - 1 / len(weight))).clamp(max=1.0)
