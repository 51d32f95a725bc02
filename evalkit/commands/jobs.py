"""What the jobs of a command leave, also where a launcher of Hydra runs them in other processes or on other nodes.

Light, as evalkit.commands.run_eval: jobs that ran elsewhere leave files, which are read when all have ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

if TYPE_CHECKING:
    from evalkit.commands.run import Outcome

LAUNCHER = "hydra/launcher="  # how a setting begins by which jobs run elsewhere


class Jobs:
    """Collects outcomes. It is sent to jobs that run elsewhere, which see the disk that `folder` lies on, too."""

    def __init__(self, folder: Path | None) -> None:
        """None: all jobs run in this process."""
        self._folder = folder
        self._outcomes: list[Outcome] = []

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run in other processes."""
        return self._folder is not None

    def ended(self, outcome: Outcome) -> None:
        """A job has ended with this."""
        if self._folder is None:
            self._outcomes.append(outcome)
            return
        self._write(
            results=str(outcome.results.absolute()),
            folders=[str(folder.absolute()) for folder in outcome.folders],
            failed=outcome.failed,
            report=outcome.report,
            print_tables=outcome.print_tables,
        )

    def refused(self, code: int) -> None:
        """A job that runs elsewhere has ended with this exit code; what is wrong is in its log."""
        self._write(code=code)

    def _write(self, **values: object) -> None:
        assert self._folder is not None
        (self._folder / f"{HydraConfig.get().job.num:06}.json").write_text(json.dumps(values), encoding="utf-8")

    def any(self) -> bool:
        """Whether a job has ended with something to show."""
        return bool(self._outcomes) or any("code" not in values for values in self._left())

    def outcomes(self) -> Sequence[Outcome]:
        """Those of all jobs that were not refused."""
        from evalkit.commands.run import Outcome, results_of

        left = [values for values in self._left() if "code" not in values]
        return self._outcomes + [
            Outcome(
                Path(values["results"]),
                folders,
                values["failed"],
                results_of(folders),
                values["report"],
                values["print_tables"],
            )
            for values in left
            for folders in [tuple(map(Path, values["folders"]))]
        ]

    def codes(self) -> list[int]:
        """The exit codes of those that were."""
        return [int(values["code"]) for values in self._left() if "code" in values]

    def _left(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self._folder.glob("*.json")) if self._folder is not None else ():
            yield json.loads(file.read_text(encoding="utf-8"))


@contextmanager
def collected(arguments: Sequence[str]) -> Iterator[Jobs]:
    """For the jobs that these words of a command line ask for."""
    if not any(word.startswith(LAUNCHER) for word in arguments):
        yield Jobs(None)
        return
    with TemporaryDirectory(prefix=".jobs-", dir=Path.cwd()) as folder:  # as the launchers' own files
        yield Jobs(Path(folder))
