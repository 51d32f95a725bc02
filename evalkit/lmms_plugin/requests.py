"""lmms-eval's requests as evalkit's questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.errors import ConfigError
from evalkit.types import BadRow, Question, Reply


@dataclass(frozen=True)
class TaskProtocol(Protocol):
    """A task's own prompts and limits. Replies are not read here: lmms-eval scores them."""

    limit: int  # tokens of a reply
    stop: tuple[str, ...]
    name: str = "lmms_eval"
    version: str = ""
    subtitles: bool = False

    def prompt(self, question: Question, shown: PromptContext | None = None) -> str:
        """As lmms-eval wrote it."""
        return question.text

    def max_new_tokens(self, benchmark_name: str) -> int:
        """As the task's generation_kwargs say."""
        return self.limit

    def read(self, question: Question, text: str) -> Reply:
        """Left to lmms-eval."""
        return Reply(letter=None, correct=None)

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """Left to lmms-eval."""
        return {}


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """One request."""

    task: str
    doc_id: int
    row: Question | BadRow  # BadRow: lmms-eval finds no video for this document
    protocol: TaskProtocol
    output_path: Path | None  # lmms-eval's --output_path


def read(request: Any, datasets: Mapping[str, Any]) -> TaskRequest:
    """A request of a simple model: (context, gen_kwargs, doc_to_visual, doc_id, task, split).

    Raises ConfigError for a task that is not about one video, or that does not decode greedily.
    """
    context, generation, doc_to_visual, doc_id, task, split = request.args
    doc = datasets[task][split][doc_id]
    return TaskRequest(
        task=task,
        doc_id=doc_id,
        row=_row(task, doc_id, context, doc, doc_to_visual),
        protocol=_protocol(task, generation),
        output_path=_output_path(doc_to_visual),
    )


def _row(task: str, doc_id: int, context: str, doc: Any, doc_to_visual: Any) -> Question | BadRow:
    name = f"{task}:{doc_id}"
    try:
        visuals = doc_to_visual(doc)
    except (SystemExit, AssertionError) as error:  # how its tasks report a missing video
        message = f"{type(error).__name__} from the task's doc_to_visual: {error}"
        return BadRow(benchmark=task, id=name, message=f"{message}; is the video below HF_HOME?")
    if not isinstance(visuals, list) or len(visuals) != 1 or not isinstance(visuals[0], str | Path):
        kinds = [type(v).__name__ for v in visuals] if isinstance(visuals, list) else type(visuals).__name__
        raise ConfigError(f"task {task}, document {doc_id}: expected the path of one video, got {kinds}")
    path = Path(visuals[0])
    return Question(
        benchmark=task,
        id=name,
        video_id=path.stem,
        video_path=path,
        text=context,
        options=(),
        answer="",
        groups={},
        row={},
    )


def _protocol(task: str, generation: Mapping[str, Any]) -> TaskProtocol:
    sampled = generation.get("do_sample", (generation.get("temperature") or 0) > 0)
    if sampled or (generation.get("num_beams") or 1) > 1:
        raise ConfigError(
            f"task {task}: evalkit decodes greedily, got {dict(generation)}; --gen_kwargs do_sample=False"
        )
    limit = generation.get("max_new_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise ConfigError(
            f"task {task}: expected max_new_tokens=N, got {dict(generation)}; --gen_kwargs max_new_tokens=16"
        )
    until = generation.get("until") or ()
    return TaskProtocol(limit, (until,) if isinstance(until, str) else tuple(until))


def _output_path(doc_to_visual: Any) -> Path | None:
    """lmms-eval gives its command line to the tasks, and a model sees the task as the owner of this method."""
    found = getattr(getattr(getattr(doc_to_visual, "__self__", None), "args", None), "output_path", None)
    return Path(found) if found else None
