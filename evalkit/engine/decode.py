"""How a run decodes its videos: in a child process, ahead of the model where a core is free for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit import machine
from evalkit.data.decoding.process import DecodeInChild, not_again

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.engine.backbone import Backbone

MEGABYTE = 1_000_000
AHEAD = 512  # megabytes, where nothing else is said: thousands of frames of the built-in experiment, hundreds of others


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """Memory and time of decoding, on which no answer depends, and which videos are taken."""

    ahead: int | None = None  # megabytes of frames that may wait for the model; 0: none; None: AHEAD if a core is free
    deadline: float | None = None  # seconds that a run waits for one video; None: 120 and its duration
    tolerate_short: bool = False  # True: videos of which less is there than their files announce are shown

    def given_up(self, path: Path, error: str) -> bool:
        """Whether a failed row says that its file ended or held up the decoder, and nothing has changed since."""
        return not_again(path, self.deadline) in error

    def source(self, backbone: Backbone, processes: int) -> DecodeInChild:
        """What decodes in each of `processes` that answer on this machine."""
        free = free_cores(backbone, processes)
        ahead = self.ahead if self.ahead is not None else AHEAD * (free > 0)
        return DecodeInChild(
            limit=ahead * MEGABYTE,
            # the model goes on meanwhile where frames are decoded ahead, else it waits for them
            threads=max(1, (free if ahead else machine.cores()) // processes),
            deadline=self.deadline,
            tolerate_short=self.tolerate_short,
        )


def free_cores(backbone: Backbone, processes: int) -> int:
    """Cores that the models leave to decoding, when so many processes answer; below 1: none."""
    each = 1 if backbone.torch_device.type == "cuda" else backbone.threads or machine.cores()
    return machine.cores() - processes * each
