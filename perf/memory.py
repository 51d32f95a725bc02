"""Memory of one long video, whatever the number of operating points, and of many videos one after the other.

python perf/memory.py [--frames 4096] [--points 1 16] [--videos 60]     puts a table into RESULTS.md

Every number of operating points is a process of its own. Bytes are resident memory above what the process held once its
model had answered about a short video.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import record

from evalkit.data.decoding.process import DecodeInChild
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
from evalkit.testing import clips
from evalkit.testing.loop import answer, engine, question
from evalkit.testing.method_contract import backbone
from evalkit.types import FramePlan, VisualTokens

ROOT = Path(__file__).parents[1]
BAR, GROWTH_MB = 1.2, 150
AHEAD = 64_000_000
CELLS = 32  # of a slice
SIDE = 112
M_MMAP_THRESHOLD = -3  # source: malloc.h of glibc
NOTE = """
{frames} frames of {side}×{side} pixels on a small random Qwen2-VL, slices of {cells} cells, at most {ahead} MB
of frames decoded ahead. Peak: of the answering process above its model, with methods that keep 64 tokens, so
that no cache is in it. Slice: the peak of a video of one slice. Bar: peak ≤ {bar:g} × (visual tokens + slice).
`mallopt` has malloc return what is freed at once. Decoding: peak of the process that decodes, above what it
held after the short video. Beside that, {videos} videos of 1080p one after the other: the process that decodes
grew by {growth:.0f} MB between the fifth and the last (bar: below {most} MB).
"""


@dataclass(frozen=True, kw_only=True)
class Few(Method):
    """Leaves next to nothing, so that what is measured is everything before the LLM."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """The first 64 tokens."""
        return tokens.keep(torch.arange(64))


def resident(process: int | str = "self", field: str = "VmRSS") -> int:
    """Bytes that a process holds now, or `VmHWM`: held at most since `forget_peak`."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def forget_peak(process: int | str = "self") -> None:
    """The peak counts from now on."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def one_video(path: Path, short: Path, points: int) -> dict[str, float]:
    """Bytes of the peak above the model, and of what the bar is made of."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)  # else malloc keeps what is freed, and fragments it
    torch.set_num_threads(1)
    source = DecodeInChild(limit=AHEAD)
    own = engine(backbone(), frames=1 << 20, source=source, encode_cells=CELLS)
    grid = [OperatingPoint(f"few{n}", Few(), 0.5) for n in range(points)]
    answer(own, grid, [question(short, 0)])
    child = source.process_id
    held, decoding = resident(), resident(child)
    forget_peak()
    forget_peak(child)
    found = answer(own, grid, [question(path, 0)])
    peak, peak_decoding = resident(field="VmHWM") - held, resident(child, "VmHWM") - decoding
    assert all(one.status != "failed" for one in found.values()), found
    tokens = next(iter(found.values())).ledger.tokens_encoded  # type: ignore[union-attr]
    width = backbone().model.config.text_config.hidden_size
    source.close()
    # features, and beside each three numbers of 8 bytes and a mark that say where it comes from
    return {"peak": peak, "tokens": tokens * (4 * width + 3 * 8 + 1), "decoding": peak_decoding}


def many_videos(path: Path, videos: int) -> float:
    """Megabytes by which the process that decodes grows after the fifth of so many videos."""
    source, last = DecodeInChild(limit=AHEAD), 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(videos):
            link = Path(folder) / f"{number}.mp4"
            os.link(path, link)
            video = source.probe(link)
            plan = FramePlan(indices=(0, 4, 8), height=video.height, width=video.width)
            assert len(list(source.frames(video, [plan], "pyav"))) == 3
            last = last if number > 4 else resident(source.process_id)
        growth = resident(source.process_id) - last
    source.close()
    return growth / 1e6


def main() -> None:
    """Every number of operating points in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=4096)
    parser.add_argument("--points", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # files and operating points, of a process
    args = parser.parse_args()
    if args.measure:
        path, short, points = args.measure
        print(json.dumps(one_video(Path(path), Path(short), int(points))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"long": args.frames, "slice": 2 * CELLS, "short": 8}
        files = {n: clips.make(folder / f"{n}.mp4", frames=f, size=(SIDE, SIDE)) for n, f in sizes.items()}
        large = clips.make(folder / "large.mp4", frames=12, size=(1080, 1920))
        one_slice = in_process(files["slice"], files["short"], 1)["peak"]
        rows = []
        for points in args.points:
            found = in_process(files["long"], files["short"], points)
            bound = found["tokens"] + one_slice
            rows.append(
                {
                    "operating points": points,
                    "peak MB": found["peak"] / 1e6,
                    "visual tokens MB": found["tokens"] / 1e6,
                    "slice MB": one_slice / 1e6,
                    "peak / (tokens + slice)": found["peak"] / bound,
                    f"≤ {BAR:g}": "held" if found["peak"] <= BAR * bound else "missed",
                    "decoding MB": found["decoding"] / 1e6,
                }
            )
        growth = many_videos(large, args.videos)
    note = NOTE.format(
        frames=args.frames,
        side=SIDE,
        cells=CELLS,
        ahead=AHEAD // 10**6,
        bar=BAR,
        videos=args.videos,
        growth=growth,
        most=GROWTH_MB,
    )
    print(record("Memory of a long video (CPU)", rows, note.strip()))


def in_process(path: Path, short: Path, points: int) -> dict[str, float]:
    """`one_video` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(path), str(short), str(points)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
