"""The model class that lmms-eval instantiates. Nothing else imports this module, as it imports lmms-eval.

A document that cannot be answered – its video is missing or broken – does not stop the run. lmms-eval scores every
document and knows no failed ones, so its reply is empty, which counts as no answer and as wrong. It is recognised by
its record (`status` failed, with the reason), by having no token counts, by `avg_failed_requests` in the results, and
by a line on stderr.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from omegaconf import OmegaConf

from evalkit.config import build
from evalkit.engine import records
from evalkit.errors import ConfigError, EvalkitError
from evalkit.lmms_plugin import settings
from evalkit.lmms_plugin.budget import Records
from evalkit.lmms_plugin.requests import TaskProtocol, TaskRequest, read
from evalkit.progress import progress
from evalkit.runs import environment, identity
from evalkit.types import Answer, Question

log = logging.getLogger("evalkit")


class Evalkit(lmms):  # type: ignore[misc]
    """One method at one ratio on one backbone.

    lmms-eval's `clean()` deletes every torch module that a model object holds; the backbone is inside the engine, so
    the same object can be evaluated again.
    """

    is_simple = True

    def __init__(self, batch_size: Any = None, max_batch_size: Any = None, device: Any = None, **chosen: Any) -> None:
        """`chosen`: settings of run_eval.py, e.g. backbone="tiny", method="retake", ratio=0.25, **{"seed": 0}.

        `device` is backbone.device; videos are taken one by one, so batch_size is 1 and max_batch_size without effect.
        Raises ConfigError.
        """
        super().__init__()
        if str(batch_size) not in ("None", "1"):
            raise ConfigError(f"evalkit answers one question at a time: expected --batch_size 1, got {batch_size}")
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise ConfigError("evalkit in lmms-eval is one process; run it without accelerate launch or torchrun")
        if device is not None:
            chosen.setdefault("backbone.device", device)
        cfg = settings.composed(chosen)
        (self._point,) = build.points(cfg)
        setup = build.setup(cfg, TaskProtocol(0, ()))
        self._engine = setup.engine
        self._results_dir = Path(cfg.results_dir)
        settings_dict = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(settings_dict, dict)
        parts = {
            "code": identity.code(),
            "weights": setup.backbone.weights,
            "commit": setup.backbone.checkpoint.commit,
            "generation": self._engine.frame_encoder.backbone.processors.fields,
            "method": identity.method(self._point.method),
        }
        provenance = {
            str(key): settings_dict[key] for key in ("backbone", "sampling", "ratio", "reader", "share", "seed")
        }
        device_name = str(self._engine.frame_encoder.backbone.device)
        self._provenance = {**provenance, "identity_parts": parts, "environment": environment.environment(device_name)}

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Evalkit:
        """From `--model_args`; SystemExit with code 2 for wrong settings."""
        with _exit_code():
            given = {key: value for key, value in (additional_config or {}).items() if value is not None}
            return cls(**settings.parse_model_args(arg_string), **given)

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """Replies in the order of the requests; questions about one video share what they can.

        SystemExit with code 2 for tasks that cannot be run, 1 after a crash.
        """
        with _exit_code():
            return self._replies(requests)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """Not offered: SystemExit with code 2."""
        return self._refused("loglikelihood")

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        """Not offered: SystemExit with code 2."""
        return self._refused("generate_until_multi_round")

    def _refused(self, kind: str) -> list[Any]:
        with _exit_code():
            raise ConfigError(f"expected tasks of output_type generate_until, got {kind}")

    def _replies(self, requests: list[Any]) -> list[Any]:
        start = time.perf_counter()
        task_requests = [read(request, self.task_dict) for request in requests]
        unique = {a.row.id: a for a in task_requests}  # a repeated request is the same question: decoding is greedy
        answers: dict[str, Answer] = {}
        with (
            Records(self._provenance, self._results_dir / "lmms_eval") as budget,
            progress(len(unique), "answer") as bar,
        ):
            for answer in self._answers(list(unique.values())):
                answers[answer.question_id] = answer
                budget.append(unique[answer.question_id], answer)
                bar.update()
        results = {name: self._result(answer) for name, answer in answers.items()}
        self._report(list(answers.values()), list(results.values()), time.perf_counter() - start)
        _warn(list(answers.values()), sorted(map(str, budget.folders)))
        return [results[a.row.id] for a in task_requests]

    def _answers(self, task_requests: Sequence[TaskRequest]) -> Iterator[Answer]:
        groups: dict[tuple[Path, TaskProtocol], list[Question]] = {}
        for a in task_requests:
            if isinstance(a.row, Question):
                groups.setdefault((a.row.video_path, a.protocol), []).append(a.row)
            else:
                yield records.failed(self._point, a.row, a.row.message)
        for (_, protocol), questions in groups.items():
            engine = replace(self._engine, protocol=protocol)
            yield from (answer for _, answer in engine.answers({self._point: questions}))

    def _result(self, answer: Answer) -> Any:
        """`input_tokens`: all that were fed to the LLM, the ledger's llm_tokens_fed; `output_tokens`: the reply's."""
        if answer.ledger is None:
            return GenerationResult("", None)
        n_output = len(
            self._engine.frame_encoder.backbone.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        )
        return GenerationResult(answer.text, TokenCounts(answer.ledger.llm_tokens_fed, n_output))

    def _report(self, answers: Sequence[Answer], results: Sequence[Any], seconds: float) -> None:
        """`throughput` in lmms-eval's results: means over the answered documents."""
        ledgers = [answer.ledger for answer in answers if answer.ledger is not None]
        n_output = sum(result.token_counts.output_tokens for result in results if result.token_counts is not None)
        counts = {"total_requests": len(answers), "failed_requests": len(answers) - len(ledgers)}
        sums = {
            "frames_decoded": sum(s.frames_decoded for s in ledgers),
            "tokens_dense": sum(s.tokens_dense for s in ledgers),
            "llm_tokens_fed": sum(s.llm_tokens_fed for s in ledgers),
            "kv_tokens_per_layer": sum(sum(s.kv_tokens_per_layer) / len(s.kv_tokens_per_layer) for s in ledgers),
            "kv_bytes": sum(s.kv_bytes for s in ledgers),
            "ratio_achieved": sum(s.ratio_achieved for s in ledgers),
        }
        means = {key: value / len(ledgers) for key, value in sums.items()} if ledgers else {}
        log_metrics(seconds, n_output, n_output / seconds, {**counts, **means})


def _warn(answers: Sequence[Answer], folders: Sequence[str]) -> None:
    failed = sum(answer.status == "failed" for answer in answers)
    if failed:
        log.error(
            "%d of %d documents were not answered; lmms-eval counts them as wrong. Each with its reason: %s",
            failed,
            len(answers),
            ", ".join(folders),
        )


@contextmanager
def _exit_code() -> Iterator[None]:
    """lmms-eval's command line ends with exit code 0 after any Exception, so errors are raised as SystemExit."""
    try:
        yield
    except EvalkitError as error:
        log.error("%s: %s", type(error).__name__, error)
        raise SystemExit(2) from error
    except Exception as error:
        log.exception("evalkit crashed")
        raise SystemExit(1) from error
