"""A method whose process is killed once, in the middle of a run."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evalkit.method import Budget
from evalkit.types import FramePlan, Video
from methods.uniform import Uniform

PLANS = 5  # after which a process is killed


@dataclass(frozen=True, kw_only=True)
class KilledOnce(Uniform):
    """Uniform; the process that plans the fifth time dies, unless one has died already."""

    mark: str  # a file where it notes what it has planned

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """As Uniform."""
        mark = Path(self.mark)
        with mark.open("a", encoding="utf-8") as notes:
            notes.write("planned\n")
        if len(mark.read_text(encoding="utf-8").splitlines()) >= PLANS:
            with suppress(FileExistsError):
                mark.with_suffix(".killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().frames(video, budget)
