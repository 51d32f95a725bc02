"""How many threads of a process decode a video: a setting of the process, as torch's threads are.

The pixels are the same for any number.
"""

from __future__ import annotations

SMALL = 100_000  # pixels of a picture: up to here more threads cost CPU time and bring nothing
MOST = 16  # as many as FFmpeg takes by itself

_limit = 0


def limit(threads: int) -> None:
    """From now on at most so many; 0, as at the start: as many as FFmpeg takes, one a core and no more than MOST."""
    global _limit
    _limit = min(threads, MOST)


def count(pixels: int | None = None) -> int:
    """For pictures of so many pixels, None where they are not known; 0: as many as FFmpeg takes."""
    return 1 if pixels is not None and pixels <= SMALL else _limit
