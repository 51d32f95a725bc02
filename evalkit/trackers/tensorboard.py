"""TensorBoard: a folder of scalars and hyper-parameters for every run. `pip install 'evalkit[tensorboard]'`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from evalkit.trackers.tracked import slug

if TYPE_CHECKING:
    from evalkit.trackers.tracked import Tracked


@dataclass(frozen=True)
class TensorBoard:
    """Event files below `folder`; they hold the time at which they were written."""

    folder: Path

    def log(self, run: Tracked) -> str:
        """Write the run's folder anew. The old event files go last, so that there is always one to read."""
        place = self.folder / slug(run.group) / slug(run.name)
        before = list(place.glob("events.out.tfevents.*"))
        with SummaryWriter(str(place)) as writer:
            # Without the first part, which would fix the columns of the HPARAMS table by one run, TensorBoard
            # collects them from all runs.
            settings = {name: str(v) if isinstance(v, bool) else v for name, v in run.settings.items()}  # else 1.0
            _, *session = hparams(settings, {})  # type: ignore[no-untyped-call]
            for part in session:
                writer.file_writer.add_summary(part)
            for name, value in run.metrics.items():
                writer.add_scalar(name, value)
        for file in before:
            file.unlink()
        return f"tensorboard --logdir {self.folder}"


def connect(*, folder: str) -> TensorBoard:
    """Event files go below `folder`."""
    return TensorBoard(Path(folder))
