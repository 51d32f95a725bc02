"""Logging in a process of its own, for a client may hang: in a call, or as its process ends (W&B without a network)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.child_process import ChildProcess
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.trackers.tracked import Tracked, Tracker

SECONDS = 120.0  # for one run: more than any client waits for a first answer before it says why there is none
END_SECONDS = 30.0  # to end by itself: W&B may write out its files only then


@dataclass(frozen=True)
class _Log:
    """What the process does: logs a run; whether that went well, and where to look at it or the reason."""

    tracker: Tracker

    def __call__(self, run: Tracked) -> tuple[bool, str]:
        try:
            return True, self.tracker.log(run)
        except Exception as error:  # noqa: BLE001 – clients raise what they like
            return False, f"{type(error).__name__}: {error}"


def log_all(runs: Sequence[Tracked], tracker: Tracker, seconds: float = SECONDS) -> tuple[int, str]:
    """Log one run after the other. Returns how many were logged, and where; if not all were, the reason."""
    process = ChildProcess(_Log(tracker))
    done, text = 0, ""
    try:
        process.start()
        process.wait()
        for run in runs:
            well, text = process.ask(run, seconds)
            if not well:
                break
            done += 1
    except TimeoutError as error:
        text = str(error)
    except EOFError:
        text = "its process died; see stderr for why"
    except (OSError, EvalkitError) as error:
        text = f"no process could be started: {error}"
    finally:
        process.stop(END_SECONDS)
    return done, text
