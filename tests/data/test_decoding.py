"""Decoding in a child process: the same frames, whatever dies or hangs, and no more of them in memory than allowed."""

from __future__ import annotations

import os
import platform
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.data.decoding import child, process
from evalkit.data.decoding.array_pipe import NONE, ArrayReceiver, ArraySender
from evalkit.data.decoding.process import DecodeInChild, not_again
from evalkit.data.decoding.source import DecodeInProcess, FrameSource
from evalkit.data.readers import threads
from evalkit.data.video import RawFrame, SizedFrame, probe, sized, wanted_sizes
from evalkit.errors import ConfigError, DecoderKilledError, VideoError
from evalkit.types import FramePlan
from tests.support import clips, odd_readers
from tests.support.golden import ROOT
from tests.support.outbox import Kept

PLANS = [FramePlan(indices=(0, 5, 11), height=48, width=64), FramePlan(indices=(5, 29), height=48, width=64)]
RESIZED = [*PLANS, FramePlan(indices=(5, 7), height=28, width=28)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("decoding")
    with odd_readers.installed(folder):
        yield clips.make(folder / "clip.mp4", frames=30)


@pytest.fixture
def source(clip: Path) -> Iterator[DecodeInChild]:
    """Started after the readers were installed."""
    found = DecodeInChild(limit=1 << 20)
    yield found
    found.close()


def read(
    source: FrameSource, path: Path, reader: str = "pyav", plans: Sequence[FramePlan] = PLANS
) -> list[tuple[object, ...]]:
    return [flat(frame) for frame in source.frames(source.probe(path), plans, reader)]


def flat(frame: SizedFrame) -> tuple[object, ...]:
    pixels = {size: rgb.tobytes() for size, rgb in frame.pixels.items()}
    return frame.wanted, frame.shown, frame.seconds, pixels


def test_frames_are_those_of_the_own_process(clip: Path, source: DecodeInChild) -> None:
    expected = read(DecodeInProcess(), clip, plans=RESIZED)
    assert [frame[0] for frame in expected] == [0, 5, 7, 11, 29]
    assert read(source, clip, plans=RESIZED) == expected
    assert read(source, clip, "swap", RESIZED) != expected  # the negative control
    other = source.probe(clip)
    assert (other, other.seconds) == (probe(clip), probe(clip).seconds)


def test_frames_are_the_same_where_no_memory_can_be_shared(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with closing(DecodeInChild(limit=1 << 20)) as source:
        assert read(source, clip, plans=RESIZED) == read(DecodeInProcess(), clip, plans=RESIZED)


def test_frames_are_the_same_on_any_number_of_threads(tmp_path: Path) -> None:
    large = clips.make(tmp_path / "large.mp4", frames=30, size=(288, 384))
    expected = read(DecodeInProcess(), large)
    for number in (1, 2, 99):
        with closing(DecodeInChild(threads=number)) as source:
            assert read(source, large) == expected


def test_threads_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_limit", 0)
    assert [threads.count(pixels) for pixels in (10_000, 100_001, None)] == [1, 0, 0]
    for most, expected in {3: 3, 99: 16, 0: 0}.items():
        threads.limit(most)
        assert (threads.count(10_000), threads.count(100_001), threads.count()) == (1, expected, expected)


def test_what_is_wrong_with_a_file_or_a_setting_is_said(clip: Path, source: DecodeInChild, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no.mp4: expected a video file") as found:
        source.probe(tmp_path / "no.mp4")
    assert type(found.value) is VideoError
    with pytest.raises(ConfigError, match="expected one of pyav"):
        read(source, clip, "nothing")
    source.announce(clip)
    assert read(source, clip)[0][0] == 0


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_two_cost_the_video(
    clip: Path, source: DecodeInChild, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DecoderKilledError, match="ended with SIGSEGV, as did one before it; it is not tried") as found:
        read(source, clip, "crash")
    assert not_again(clip, None) in str(found.value)
    assert "ended with SIGSEGV; it is tried again" in caplog.text
    assert read(source, clip) == read(DecodeInProcess(), clip)  # the next video
    assert read(source, clip, "crash_once") == read(DecodeInProcess(), clip)


def test_a_second_process_gives_the_frames_that_the_first_one_has_not(clip: Path) -> None:
    frames = [SizedFrame(number, number, 0.0, {}) for number in range(4)]
    came = iter(
        [child.Decoded(frames[:2]), None, child.Decoded(frames[:1]), child.Decoded(frames[1:]), child.Finished(7)]
    )
    asked: list[object] = []

    class Twice(DecodeInChild):
        """Its first process ends after a message."""

        def ask(self, request: object) -> None:
            asked.append(request)

        def receive(self, wait: object, *expected: object) -> Any:
            if (message := next(came)) is None:
                raise process._EndedError("SIGSEGV")
            return message

    stream = Twice().frames(probe(clip), PLANS, "pyav")
    assert list(stream) == frames
    assert stream.seconds >= 7
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_a_decoder_that_hangs_is_killed_at_the_deadline(clip: Path) -> None:
    source = DecodeInChild(limit=1 << 20, deadline=0.3)
    video = probe(clip)
    with pytest.raises(DecoderKilledError, match=r"clip.mp4: not decoded within 0.3 s"):
        list(source.frames(video, PLANS, "hang"))
    source.close()


def test_what_says_that_a_file_is_not_tried_again_changes_with_file_and_deadline(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    said = not_again(copy, None)
    assert not_again(copy, None) == said
    assert not_again(copy, 500.0) != said
    copy.write_bytes(clip.read_bytes() + b"\0")
    assert not_again(copy, None) != said


@pytest.mark.parametrize(("limit", "held"), [(0, 1), (100, 1), (300, 3), (1000, 10)])
def test_no_more_waits_than_is_allowed(limit: int, held: int) -> None:
    """Nobody reads the pipe: as many messages of 100 bytes are accepted as may wait, beside the one on its way."""
    here, there = Pipe()
    outbox, receiver = child.Outbox(ArraySender(there, NONE), limit), ArrayReceiver(here, NONE)
    pixels = np.zeros(1 << 22, np.uint8)  # more than a pipe takes
    message = child.Decoded([SizedFrame(0, 0, 0.0, {(1, 100, None): pixels})])
    accepted: list[int] = []
    full = threading.Event()

    def fill() -> None:
        for number in range(held + 1):
            outbox.put(message, 100)
            accepted.append(number)
            if len(accepted) == held:
                full.set()

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    assert full.wait(30)
    assert len(accepted) == held
    first: Any = receiver.receive()
    assert np.array_equal(first.frames[0].pixels[1, 100, None], pixels)
    filling.join(30)
    assert len(accepted) == held + 1
    for _ in range(held):
        receiver.receive()
    outbox.drain()


@pytest.mark.parametrize(("small", "resized"), [(0, 5 * 48 * 64 * 3 + 2 * 28 * 28 * 3 - 48 * 64 * 3), (1 << 20, 0)])
def test_large_frames_are_resized_in_the_child(
    small: int, resized: int, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And small ones by the parent, which has torch in any case."""
    monkeypatch.setattr(child, "SMALL", small)
    outbox: Any = Kept()
    child._answer(child.Decode(probe(clip), tuple(RESIZED), "pyav"), outbox)
    *messages, finished = outbox.messages
    assert isinstance(finished, child.Finished)
    frames = [frame for message in messages for frame in message.frames]
    assert outbox.bytes == (resized or 5 * 48 * 64 * 3)
    sizes = wanted_sizes(RESIZED)
    found = [flat(frame) for frame in (frames if resized else sized(frames, sizes))]
    assert found == read(DecodeInProcess(), clip, plans=RESIZED)
    assert all(isinstance(frame, SizedFrame if resized else RawFrame) for frame in frames)


FRAME = 48 * 64 * 3  # bytes of a frame of the clip


@pytest.mark.parametrize(
    ("size", "messages"), [(1, [1, 1, 1, 1, 1]), (FRAME + 1, [2, 2, 1]), (5 * FRAME, [5]), (5 * FRAME + 1, [5])]
)
def test_small_frames_are_sent_together(
    size: int, messages: list[int], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "MESSAGE", size)
    outbox: Any = Kept()
    child._answer(child.Decode(probe(clip), (FramePlan(indices=(0, 1, 2, 3, 4), height=28, width=28),), "pyav"), outbox)
    *sent, finished = outbox.messages
    assert isinstance(finished, child.Finished)
    assert [len(message.frames) for message in sent] == messages
    assert [frame.wanted for message in sent for frame in message.frames] == [0, 1, 2, 3, 4]


def test_small_frames_need_no_torch(clip: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom evalkit.data.decoding import child\n"
        "from evalkit.types import FramePlan\nfrom tests.support.outbox import Kept\n"
        f"video = child.video_file.probe(Path({str(clip)!r}))\n"
        "plan, outbox = FramePlan(indices=(0, 3), height=28, width=28), Kept()\n"
        "child._answer(child.Decode(video, (plan,), 'pyav'), outbox)\nassert len(outbox.messages) == 2\n"
        "assert not {'torch', 'transformers', 'hydra', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_torch_is_there_before_large_frames_are_asked_for(clip: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom evalkit.data.decoding import child\n"
        "from tests.support.outbox import Kept\n"
        f"request, outbox = child.Probe(Path({str(clip)!r})), Kept()\n"
        "child._answer(request, outbox)\nassert 'torch' not in sys.modules\n"
        "child.SMALL = 0\nchild._answer(request, outbox)\nassert 'torch' in sys.modules\n"
        "assert [type(message) for message in outbox.messages] == [child.Probed] * 2\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's mallopt")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_of_frames_is_used_again(kept: bool) -> None:
    """Page faults of 64 MB of frames that are taken a second time. Each page is a fault where all was given back."""
    code = (
        "import resource, sys\nimport numpy as np\nfrom evalkit.data.decoding.child import keep_freed_memory\n"
        f"if {kept}: keep_freed_memory(80_000_000)\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def frames(): return [np.ones(640_000, np.uint8) for _ in range(100)]\n"
        "found = frames()\ndel found\nbefore = faults()\nfound = frames()\nprint(faults() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert (int(done.stdout) < 1000) is kept  # of 15,625 pages


def test_the_process_ends_with_its_parent(clip: Path) -> None:
    """A parent that is killed while its child hangs in a decoder."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom evalkit.data.decoding.process import DecodeInChild\n"
        "from evalkit.types import FramePlan\n"
        f"sys.path.insert(0, {str(clip.parent)!r})\n"
        f"source = DecodeInChild()\nvideo = source.probe(Path({str(clip)!r}))\n"
        "frames = source.frames(video, [FramePlan(indices=(0, 1), height=48, width=64)], 'hang')\n"
        "print(source.process_id, flush=True)\nnext(frames)\n"
    )
    hangs = clip.with_suffix(".hangs")
    os.mkfifo(hangs)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        decoding = os.pidfd_open(int(parent.stdout.readline()))
        hangs.read_bytes()  # until it says so
        hangs.unlink()
        os.kill(parent.pid, signal.SIGKILL)
    assert select.select([decoding], [], [], 30)[0] == [decoding]
    os.close(decoding)
