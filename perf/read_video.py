"""CPU-seconds of the three readers for a few frames of a long clip, side by side in one process.

python perf/read_video.py [--minutes 10] [--frames 64 256]     prints a Markdown table
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from evalkit.data.readers import REGISTRY
from evalkit.data.video import decode, probe
from evalkit.errors import ConfigError
from evalkit.types import FramePlan, Frames, Video


def main() -> None:
    """Generate the clip, read it with every reader, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = probe(clip(Path(folder) / "clip.mp4", arguments.minutes))
        print(f"{video.duration_s:.0f} s of {video.width}×{video.height} H.264, a key frame every 10 s at most\n")
        print("| reader |" + "".join(f" {n} frames, CPU s |" for n in arguments.frames))
        print("|---|" + "---:|" * len(arguments.frames))
        expected = {n: timed(video, n, "pyav")[0] for n in arguments.frames}
        for name in REGISTRY:
            print(f"| {name} |" + "".join(f" {cell(video, n, name, expected[n])} |" for n in arguments.frames))


def cell(video: Video, n: int, reader: str, expected: Frames) -> str:
    """CPU-seconds of one reading, after the frames were found equal to PyAV's."""
    try:
        frames, _ = timed(video, n, reader)
    except ConfigError as error:
        return str(error).partition(":")[0] + " not installed"
    if not np.array_equal(frames.pixels, expected.pixels) or frames.seconds != expected.seconds:
        raise SystemExit(f"{reader} returned other frames than pyav: its time says nothing")
    return f"{timed(video, n, reader)[1]:.1f}"


def timed(video: Video, n: int, reader: str) -> tuple[Frames, float]:
    """`n` frames, evenly spread and resized to 224×392, and the CPU-seconds that they took."""
    indices = tuple(int(index) for index in np.linspace(0, video.frames - 1, n))
    start = time.process_time()
    (frames,) = decode(video, [FramePlan(indices=indices, height=224, width=392)], reader)
    return frames, time.process_time() - start


def clip(path: Path, minutes: float, height: int = 360, width: int = 640, fps: int = 30) -> Path:
    """A moving pattern with a cut every few seconds, in x264's default shape: B-frames and sparse key frames."""
    rows, columns = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "28"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = 10 * fps
        for index in range(int(minutes * 60 * fps)):
            scene = np.random.default_rng(index // (7 * fps)).integers(1, 9, 3)
            drawn = [(rows * scene[c] + columns * scene[2 - c] + 3 * index) % 256 for c in range(3)]
            frame = av.VideoFrame.from_ndarray(np.stack(drawn, -1).astype(np.uint8), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
