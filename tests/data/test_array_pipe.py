"""Messages with arrays: what is sent comes, whatever goes through the ring, around its end, or beside it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.data.decoding import array_pipe
from evalkit.data.decoding.array_pipe import NONE, ArrayReceiver, ArraySender, Taken, ring_file

SIZE = 1000  # bytes of the ring
SECONDS = 30.0


class Ends:
    """Both ends in one process."""

    def __init__(self, file: int) -> None:
        self.there, self.here = Pipe()
        self.sender, self.receiver = ArraySender(self.there, file), ArrayReceiver(self.here, file)

    def taken(self, number: int = 1) -> None:
        """The sender hears of what was taken."""
        for _ in range(number):
            assert self.there.recv() == Taken()
            self.sender.taken()

    def received(self) -> Any:
        assert self.receiver.poll(SECONDS)
        return self.receiver.receive()


@contextmanager
def ends(ring: bool = True) -> Iterator[Ends]:
    with ring_file() as file:
        yield Ends(file if ring else NONE)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_pipe, "RING", SIZE)


def filled(number: int, size: int) -> np.ndarray:
    return np.full(size, number, np.uint8)


@pytest.mark.parametrize("ring", [True, False])
def test_arrays_come_as_they_were(ring: bool) -> None:
    pictures = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    other = np.linspace(0, 1, 7, dtype=np.float32)
    with ends(ring) as both:
        for message in (
            {"all": pictures, "one": pictures[1], "each second": pictures[:, ::2], "n": 3},
            [other],
            "text",
        ):
            both.sender.send(message)
            found = both.received()
            assert type(found) is type(message)
            np.testing.assert_equal(found, message)


def test_what_was_sent_before_the_sender_ended_comes() -> None:
    """That the receiver can tell it of nothing any more is no loss; the end is seen where nothing is left to read."""
    with ends() as both:
        for number in range(3):
            both.sender.send([filled(number, 10)])
        both.there.close()
        for number in range(3):
            np.testing.assert_equal(both.received(), [filled(number, 10)])
        assert both.receiver.poll(SECONDS)
        with pytest.raises((EOFError, OSError)):
            both.receiver.receive()


def test_what_fits_goes_through_the_ring_and_what_does_not_through_the_pipe(small: None) -> None:
    with ends() as both:
        for size, shared in ((SIZE, True), (SIZE + 1, False), (1, True)):
            both.sender.send(filled(7, size))
            found = both.received()
            assert np.array_equal(found, filled(7, size))
            assert (both.receiver.kept(found) is not found) is shared
            both.receiver.poll(0.0)
            if shared:
                both.taken()


def test_arrays_hold_until_the_next_message_is_waited_for_and_copies_longer(small: None) -> None:
    with ends() as both:
        both.sender.send(filled(1, SIZE))
        found = both.received()
        kept = both.receiver.kept(found)
        waiting = threading.Thread(target=both.sender.send, args=(filled(2, SIZE),))
        waiting.start()
        assert found[0] == 1
        assert not both.receiver.poll(0.0)  # from now on the sender may write there
        both.taken()
        assert both.received()[-1] == 2
        waiting.join(SECONDS)
        assert np.array_equal(kept, filled(1, SIZE))
        assert np.array_equal(found, filled(2, SIZE))  # the negative control: who keeps it without a copy


def test_a_sender_waits_until_there_is_room(small: None) -> None:
    with ends() as both:
        sent: list[int] = []
        full, third = threading.Event(), 300

        def send() -> None:
            for number in range(4):
                both.sender.send(filled(number, third))
                sent.append(number)
                if len(sent) == 3:
                    full.set()

        sending = threading.Thread(target=send)
        sending.start()
        assert full.wait(SECONDS)
        assert both.received()[0] == 0
        assert sent == [0, 1, 2]
        both.receiver.poll(0.0)
        both.taken()
        sending.join(SECONDS)
        assert sent == [0, 1, 2, 3]
        assert [both.received()[0] for _ in range(3)] == [1, 2, 3]


@given(st.lists(st.one_of(st.integers(1, SIZE), st.none()), max_size=60))
def test_room_is_never_what_is_held(steps: list[int | None]) -> None:
    """Numbers are messages of so many bytes, None takes the oldest; where no room is found, too."""
    held: deque[tuple[int, int]] = deque()
    both = Pipe()[0]
    sender = ArraySender(both, NONE)
    sender._held = held
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_pipe, "RING", SIZE)
        for step in steps:
            start = None if step is None else sender._room(step)
            if start is not None and step is not None:
                assert 0 <= start <= SIZE - step
                assert all(start + step <= first or end <= start for first, end in held)
                held.append((start, start + step))
            elif held:
                held.popleft()
            else:
                assert step is None  # an empty ring has room for everything
