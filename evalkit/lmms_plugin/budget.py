"""Budget records beside lmms-eval's samples: one JSON line a document, written as it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from evalkit.lmms_plugin.requests import TaskRequest
from evalkit.types import Answer

KEPT = ("video_id", "method", "ratio", "text", "error", "prompt_sha", "ledger", "repeated")


class Records:
    """`<time>_budget_<task>.jsonl` for every task of a call, and `<time>_budget.yaml` with their provenance."""

    def __init__(self, provenance: Mapping[str, Any], default: Path) -> None:
        """`default`: the folder where lmms-eval was given none."""
        self._provenance = dict(provenance)
        self._default = default
        self._time = time.strftime("%Y%m%d_%H%M%S")
        self._files: dict[Path, IO[str]] = {}
        self._stack = ExitStack()
        self.folders: set[Path] = set()

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def append(self, request: TaskRequest, answer: Answer) -> None:
        """Write one document's record; `status` is ok or failed, as lmms-eval scores the reply later."""
        values = answer.to_dict()
        status = "failed" if answer.status == "failed" else "ok"
        record = {
            "task": request.task,
            "doc_id": request.doc_id,
            "status": status,
            **{key: values[key] for key in KEPT},
        }
        file = self._file(request)
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()

    def _file(self, request: TaskRequest) -> IO[str]:
        folder = self._default if request.output_path is None else request.output_path
        path = folder / f"{self._time}_budget_{request.task}.jsonl"
        if path not in self._files:
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(self._provenance, sort_keys=False, allow_unicode=True)
            (folder / f"{self._time}_budget.yaml").write_text(text, encoding="utf-8")
            self._files[path] = self._stack.enter_context(path.open("a", encoding="utf-8"))
            self.folders.add(folder)
        return self._files[path]
