"""A process that decodes and is killed, hangs or talks nonsense costs its video at most, with controls."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evalkit import child_process
from evalkit.data.decoding import process as decoding
from evalkit.errors import DecoderKilledError
from tests.support import clips, odd_workers

LONG = 60.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=4)


@contextmanager
def decoder(deadline: float) -> Iterator[decoding.DecodeInChild]:
    source = decoding.DecodeInChild(deadline=deadline)
    try:
        yield source
    finally:
        source.close()


@pytest.mark.slow
def test_a_decoder_that_is_killed_is_replaced_and_one_that_hangs_is_killed(
    clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with decoder(LONG) as source:
        expected = source.probe(clip)
        os.kill(source.process_id, signal.SIGKILL)
        assert source.probe(clip) == expected
        assert "ended with SIGKILL; it is tried again" in caplog.text
        os.kill(source.process_id, signal.SIGKILL)
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "TRIES", 1)  # the negative control
            with pytest.raises(DecoderKilledError, match="ended with SIGKILL"):
                source.probe(clip)
    with decoder(0.3) as source:
        stopped = source.process_id
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(DecoderKilledError, match=r"not decoded within 0\.3 s, at which its process was killed"):
            source.probe(clip)
        assert not _runs(stopped)
    with decoder(LONG) as source:  # the negative control: who continues it in time gets an answer
        source.start()
        os.kill(source.process_id, signal.SIGSTOP)
        waiting = threading.Thread(target=odd_workers.continued, args=(source.process_id,))
        waiting.start()
        assert source.probe(clip) == expected
        waiting.join()


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Processes that are started to decode do nothing but write what a function of odd_workers does."""

    def patch(write: str) -> None:
        monkeypatch.setattr(child_process, "SILENCE_SECONDS", 0.2)
        monkeypatch.setattr(decoding, "CHILD", f"tests.support.odd_workers:{write}")

    return patch


@pytest.mark.parametrize("write", ["other_object", "no_pickle", "half"])
def test_a_decoder_that_sends_nonsense_costs_its_video(write: str, clip: Path, sends: Callable[[str], None]) -> None:
    sends(write)
    with decoder(LONG) as source, pytest.raises(DecoderKilledError, match="ended with SIGKILL"):
        source.probe(clip)


@pytest.mark.parametrize(
    ("write", "raised"),
    [("other_object", AttributeError), ("no_pickle", pickle.UnpicklingError), ("half", BlockingIOError)],
)
def test_without_reading_with_care_it_ends_the_run(
    write: str,
    raised: type[Exception],
    clip: Path,
    sends: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control."""
    sends(write)
    with decoder(LONG) as source:
        source.start()
        assert source._process is not None
        pipe = source._process.pipe
        monkeypatch.setattr(source, "receive", lambda *_: pipe.poll(LONG) and pipe.recv())
        with pytest.raises(raised):
            source.probe(clip)


def _runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()
