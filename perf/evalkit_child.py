"""One run of evalkit in a process of its own, as `against_lmms_eval.py` starts it.

python perf/evalkit_child.py OUT.json key=value …     settings of run_eval.py

Into OUT.json go the replies, and CPU and wall seconds when all is loaded, after the first video's answers and at the
end, of this process and all that it started.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import Mark, mark

from evalkit.config import build
from evalkit.config.compose import composed
from evalkit.engine.executor.base import Executor, Given

if TYPE_CHECKING:
    from evalkit.engine.encoded_video import Pending
    from evalkit.engine.setup import EngineSetup


@dataclass(frozen=True)
class Noted(Executor):
    """Another executor, with its replies and what they had cost."""

    executor: Executor
    replies: dict[str, str] = field(default_factory=dict)  # by question
    marks: list[Mark] = field(default_factory=list)  # when all is loaded, after the first video, at the end

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        """As the other's."""
        with self.executor.answers(setup, videos) as given:
            self.marks.append(mark())
            yield self._noted(given, sum(map(len, videos[0].values())))

    def _noted(self, given: Iterator[Given], first: int) -> Iterator[Given]:
        for one in given:
            yield one  # it is stored before the next one is asked for
            self.replies[one.answer.question_id] = one.answer.text
            if len(self.replies) == first:
                self.marks.append(mark())
        self.marks.append(mark())


def main() -> None:
    """Run the grid of these settings, and write what came of it."""
    out, *words = sys.argv[1:]
    grid = build.grid(composed("config", words))
    noted = Noted(grid.executor)
    replace(grid, executor=noted).run()
    Path(out).write_text(json.dumps({"marks": noted.marks, "replies": noted.replies}), encoding="utf-8")


if __name__ == "__main__":
    main()
