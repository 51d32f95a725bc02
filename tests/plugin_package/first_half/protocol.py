"""A protocol: the question alone, for two benchmarks, one of them evalkit's."""

from __future__ import annotations

from evalkit.data.protocols import letters
from evalkit.data.protocols.base import official_micro
from evalkit.data.protocols.table_protocol import TableProtocol
from evalkit.data.protocols.task import Task

_TERSE = Task(
    ask=lambda question: question.text,
    letter=letters.retake,
    averages=official_micro,
    max_new_tokens=2,
    scoring_note="an unreadable reply is wrong",
)
PROTOCOL = TableProtocol(name="terse", version="1", tasks={"counting": _TERSE, "mlvu": _TERSE})
