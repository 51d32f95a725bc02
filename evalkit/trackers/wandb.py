"""Weights & Biases: a run for every run, its numbers in the summary. `pip install 'evalkit[wandb]'`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wandb import Settings, init, login, setup
from wandb.errors import AuthenticationError, UsageError

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.trackers.tracked import Tracked

Mode = Literal["online", "offline"]


@dataclass(frozen=True)
class WandB:
    """One project of W&B. None is whatever W&B was set to by its own means, else project evalkit."""

    project: str | None
    entity: str | None
    mode: Mode | None

    def log(self, run: Tracked) -> str:
        """Set the run's config and summary; a number that is no longer known becomes nan.

        There is no history, to which a second time would add. Offline, a later `wandb sync` overwrites by run id.
        """
        theirs = setup().settings
        mode = self.mode or theirs.mode
        with init(
            project=self.project or theirs.project or "evalkit",
            entity=self.entity,
            mode=mode,
            id=run.key,
            name=run.name,
            group=run.group,
            resume="allow" if mode == "online" else None,
            reinit="create_new",  # one that the process has open already is not ours
            settings=Settings(console="off", silent=True),
        ) as shown:
            shown.config.update(dict(run.settings), allow_val_change=True)
            known = [name for name in shown.summary.keys() if not name.startswith("_")]  # noqa: SIM118 – not a dict
            shown.summary.update({**dict.fromkeys(known, math.nan), **run.metrics})
            offline = f"wandb sync {Path(shown.dir).parents[1]}/offline-run-*"
            return offline if shown.offline else shown.project_url or "nowhere, W&B is disabled"


def connect(*, project: str | None, entity: str | None, mode: Mode | None) -> WandB:
    """Logs in where it has to be, so that W&B asks for a key now and not after days.

    Raises ConfigError for an unknown mode, and where there is neither a key nor a terminal to ask for one.
    """
    if mode not in (None, "online", "offline"):
        raise ConfigError(f"tracker.wandb.mode: expected online, offline, or null for W&B's own setting; got {mode!r}")
    if mode != "offline":
        try:
            login()
        except (AuthenticationError, UsageError) as error:
            raise ConfigError(f"trackers: wandb: {error} Or log to files: tracker.wandb.mode=offline") from error
    return WandB(project, entity, mode)
