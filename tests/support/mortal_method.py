"""A method whose process is killed once, in the middle of a run."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from evalkit.method import Budget
from evalkit.types import FramePlan, Video
from methods.uniform import Uniform


@dataclass(frozen=True, kw_only=True)
class KilledOnce(Uniform):
    """Uniform; the process that plans the second video dies, unless one has died already."""

    mark: str  # a file where it notes what it has planned

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """As Uniform."""
        with Path(self.mark).open("a+", encoding="utf-8") as notes:
            notes.write("planned\n")
            notes.seek(0)
            if len(notes.readlines()) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().frames(video, budget)
