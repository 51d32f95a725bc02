"""The protocol of lmms-eval: prompts, reader and scores by its own task code, read from its own task files.

lmms-eval's YAML loader executes a task's utils.py from its path; so do we, since a plain import of anything below
`lmms_eval.tasks` runs that package's __init__, which takes 5–10 s and 900 MB for code that is not used here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data import benchmarks
from evalkit.data.protocols import subtitles
from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.data.protocols.table_protocol import needed
from evalkit.errors import ConfigError
from evalkit.types import Reply

if TYPE_CHECKING:
    from types import ModuleType

    from evalkit.data.benchmarks.spec import LmmsEvalTask
    from evalkit.types import Question

_READER = "lmms_eval.tasks._task_utils.mcq_extract"  # imported by every utils.py when it first reads a reply


@dataclass(frozen=True)
class _Task:
    """The parts of one task's utils.py that its YAML names."""

    doc_to_text: Callable[..., str]
    process_results: Callable[[Mapping[str, Any], list[str]], Mapping[str, Any]]
    extract: Callable[[str], str]  # reply -> letter, "" if none; what process_results reads with


@dataclass(frozen=True)
class LmmsEval(Protocol):
    """lmms-eval's tasks, such as videomme, mlvu_dev and lvbench, with the prompts of its default models.

    With subtitles, videomme_w_subtitle: those at 32 frames spread over the video, not at the frames shown. (Its
    `videomme_long` has the same subtitled prompt, against its name.)

    Differs: a reply that cannot be read is wrong even where the row has no right option, whereas their comparison takes
    an empty letter to equal an empty gold. Frames are counted by evalkit's reader where they ask OpenCV.
    """

    name: str = "lmms_eval"
    subtitles: bool = False
    version: str = field(default_factory=lambda: f"lmms-eval {importlib.metadata.version('lmms-eval')}")
    stop: tuple[str, ...] = ("\n\n",)  # its tasks' default `until`, the few-shot delimiter

    def prompt(self, question: Question, context: PromptContext | None = None) -> str:
        """Their doc_to_text of the row."""
        if not self.subtitles:
            return _task(question.benchmark).doc_to_text(question.row)
        if _known(question.benchmark).file_with_subtitles is None:
            raise ConfigError(f"protocol={self.name}: {question.benchmark} has no subtitles; use protocol=lmms_eval")
        return _subtitled(question, needed(context, self.name))

    def with_subtitles(self) -> Protocol:
        """Its tasks whose names end with w_subtitle."""
        return replace(self, name=f"{self.name}_subtitles", subtitles=True)

    def covers(self, benchmark_name: str) -> bool:
        """Whether lmms-eval has a task for it."""
        return benchmarks.REGISTRY[benchmark_name].lmms_eval is not None

    def scoring_note(self, benchmark_name: str) -> str:
        """As their comparison treats them."""
        return _known(benchmark_name).scoring_note

    def max_new_tokens(self, benchmark_name: str) -> int:
        """As in the task's YAML."""
        return int(_config(benchmark_name)["generation_kwargs"]["max_new_tokens"])

    def read(self, question: Question, text: str) -> Reply:
        """Their process_results of the row and the reply."""
        task = _task(question.benchmark)
        letter = task.extract(text) or None
        (metric,) = task.process_results(question.row, [text]).values()
        right = metric["pred_answer"] == metric["answer"] if isinstance(metric, Mapping) else bool(metric)
        return Reply(letter=letter, correct=letter is not None and right)

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """MLVU: mean of the tasks' accuracies, and micro; the others: micro.

        Equal to their aggregation over whole sets; a subset's macro is taken over the tasks in it, where theirs counts
        an absent task as 0.
        """
        task = _known(benchmark_name)
        return task.averages(rows) if rows else {}


PROTOCOL = LmmsEval()


def _subtitled(question: Question, context: PromptContext) -> str:
    """Not by their function, which reads the video with OpenCV from a folder below HF_HOME. The text before the
    question is taken from their task; the text around the subtitles is copied, as only their code has it.
    """
    frames = _yaml(_known(question.benchmark).file_with_subtitles)["lmms_eval_specific_kwargs"]["default"]["frame_num"]
    listed = "No subtitles available"
    if question.subtitle_path is not None:
        found = subtitles.cues(question)
        listed = subtitles.at_spread_frames(found, frames, context.video.frames, context.video.fps)
    ending = {"post_prompt": "The best answer is:"}
    asked = _task(question.benchmark).doc_to_text(question.row, lmms_eval_specific_kwargs=ending)
    return f"This video's subtitles are listed below: \n{listed}\n{asked}"


@cache
def _task(benchmark: str) -> _Task:
    config, file = _config(benchmark), _file(benchmark)
    reader = file.parent.parent / "_task_utils" / "mcq_extract.py"
    _module(_READER, reader)
    module = _module(f"lmms_eval.tasks.{file.parent.name}.utils", file.parent / "utils.py")
    wording = config["lmms_eval_specific_kwargs"]["default"]
    ask, score = (getattr(module, config[key].removeprefix("utils.")) for key in ("doc_to_text", "process_results"))
    return _Task(partial(ask, lmms_eval_specific_kwargs=wording), score, module.extract_characters_regex)


def _config(benchmark: str) -> dict[str, Any]:
    return _yaml(_known(benchmark).file)


@cache
def _yaml(task: str) -> dict[str, Any]:
    """A task's YAML, with the names of its functions as plain strings."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda _, node: node.value)
    config: dict[str, Any] = yaml.load((_tasks_folder() / task).read_text(encoding="utf-8"), Loader)  # noqa: S506 – a SafeLoader
    return config


def _known(benchmark: str) -> LmmsEvalTask:
    spec = benchmarks.REGISTRY[benchmark]
    if spec.lmms_eval is None:
        own = ", ".join(spec.protocols) or "none that is a table"
        raise ConfigError(f"lmms-eval has no task for {benchmark}; set protocol=NAME, {benchmark} has: {own}")
    return spec.lmms_eval


def _file(benchmark: str) -> Path:
    return _tasks_folder() / _known(benchmark).file


def _tasks_folder() -> Path:
    return Path(str(importlib.resources.files("lmms_eval"))) / "tasks"


def _module(name: str, file: Path) -> ModuleType:
    """lmms-eval's module `name`, executed from its own file under its own name unless it is there already."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(
            f"{file}: expected this file of lmms-eval, found none; install lmms-eval in the tested version"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
