"""Takes the messages of the process that decodes, in place of a pipe."""

from __future__ import annotations


class Kept:
    """An outbox that keeps what is put into it."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.bytes = 0

    def put(self, message: object, size: int = 0) -> None:
        self.messages.append(message)
        self.bytes += size
