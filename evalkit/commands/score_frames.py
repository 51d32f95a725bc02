"""`python -m evalkit data score-frames`: how well the frames of each video match its questions, for AKS and BOLT."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evalkit.errors import ConfigError
from evalkit.sanitize import printable

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.data.decoding.source import FrameSource
    from evalkit.data.prepare.frame_scores_file import FrameScoresFile
    from evalkit.model.frame_scorer import FrameScorer
    from evalkit.types import Benchmark, Question, Video

    T = TypeVar("T")

log = logging.getLogger(__name__)

WAITING_BYTES = 2**26  # of frames that are decoded ahead


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command reads from the command line."""
    parser.add_argument("--root", type=Path, required=True, help="folder with annotations and videos")
    parser.add_argument("--model", required=True, help="CLIP, SigLIP or BLIP-ITM checkpoint: a folder or a hub id")
    parser.add_argument("--revision", help="of a hub id: commit, branch or tag (default: what was fetched at main)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for benchmark.frame_scores; resumes")
    parser.add_argument("--every", type=_positive, default=1.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--batch", type=_count, default=32, help="frames at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a complete number above 0, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """0: every question has scores; 1: some videos could not be read."""
    from evalkit.data import benchmarks
    from evalkit.data.decoding.process import DecodeInChild
    from evalkit.data.prepare import subsets
    from evalkit.data.prepare.frame_scores_file import FrameScoresFile
    from evalkit.model import frame_scorer

    subsets.check(args.subset)
    loaded = [subsets.restrict(one, args.subset) for one in benchmarks.load(args.benchmark, args.root.expanduser())]
    questions = _unique(loaded)
    scorer = frame_scorer.load(args.model, revision=args.revision, device=args.device, dtype=args.dtype)
    file = FrameScoresFile(args.out.expanduser(), made_with(args, questions))
    with closing(DecodeInChild(limit=WAITING_BYTES)) as source:
        lost = score(loaded, scorer, file, source, every=args.every, batch=args.batch)
    out = file.finish(complete=not lost)
    print(printable(f"{len(file.scored)} of {len(questions)} questions scored ({scorer.measure}): {out}"))
    for video, reason in lost.items():
        print(printable(f"  left out: {video}: {reason}"))
    if lost:
        print("call again to try those once more; what is scored is kept")
    print(
        f"then: python run_eval.py benchmark={args.benchmark} benchmark.root={args.root} benchmark.frame_scores={out} "
        "'methods=[uniform,aks,bolt]'"
    )
    return 1 if lost else 0


def made_with(args: argparse.Namespace, questions: dict[str, Question]) -> dict[str, Any]:
    """Every setting that changes a score."""
    from evalkit.data.prepare.checksums import sha256
    from evalkit.model.checkpoint import locate
    from evalkit.model.frame_scorer import SETTING
    from evalkit.model.weights_identity import weights_identity

    return {
        "model": weights_identity(locate(args.model, args.revision, setting=SETTING)),
        "dtype": args.dtype,
        "every": args.every,
        "questions": sha256(sorted([id_, question.text] for id_, question in questions.items())),
    }


def _unique(loaded: list[Benchmark]) -> dict[str, Question]:
    found = {question.id: question for benchmark in loaded for question in benchmark.questions}
    if len(found) < sum(len(benchmark.questions) for benchmark in loaded):
        raise ConfigError(
            f"score-frames: expected ids that no other question has, {' and '.join(b.label for b in loaded)} share "
            "some; score one question set at a time, by its own name and --root"
        )
    return found


def score(
    loaded: list[Benchmark],
    scorer: FrameScorer,
    file: FrameScoresFile,
    source: FrameSource,
    *,
    every: float,
    batch: int,
) -> dict[str, str]:
    """Score what `file` has not yet, one video after the other; returns the videos that failed, and why."""
    from evalkit.progress import progress

    lost: dict[str, str] = {}
    videos = [asked for benchmark in loaded for asked in benchmark.by_video().items()]
    left = [(video, asked) for video, asked in videos if any(q.id not in file.scored for q in asked)]
    cut = sum(scorer.tokens(q.text) > scorer.longest for _, asked in left for q in asked)
    if cut:
        log.warning(
            "questions longer than the %d tokens that the model reads, so that ends are cut: %d", scorer.longest, cut
        )
    with progress(len(left), "video") as bar:
        for video, asked in left:
            try:
                frames, scores = score_video(source.probe(asked[0].video_path), asked, scorer, source, every, batch)
            except ConfigError:
                raise
            except Exception as error:  # one bad video costs its own questions, never the command
                lost[video] = str(error) or type(error).__name__
                log.warning("video %s: %d questions not scored: %s", video, len(asked), error)
                log.debug("where it failed", exc_info=error)
            else:
                for question, row in zip(asked, scores.tolist(), strict=True):
                    file.add(question.id, frames, row)
            bar.update()
    return lost


def score_video(
    video: Video, asked: list[Question], scorer: FrameScorer, source: FrameSource, every: float, batch: int
) -> tuple[tuple[int, ...], Tensor]:
    """Frame numbers, one every so many seconds, and their scores for each question, (questions, frames) float32."""
    import torch

    from evalkit.data.video import size_of
    from evalkit.model.finite import check_finite
    from evalkit.types import FramePlan

    frames = scored_frames(video, every)
    plan = FramePlan(indices=frames, height=video.height, width=video.width)
    with torch.inference_mode():
        texts = scorer.read([question.text for question in asked])
        found = [
            scorer.match([frame.pixels[size_of(plan)] for frame in lot], texts)
            for lot in _lots(source.frames(video, [plan], "pyav"), batch)
        ]
        return frames, check_finite(torch.cat(found, 1), "scores of frames")


def scored_frames(video: Video, every: float) -> tuple[int, ...]:
    """Every int(fps · seconds)-th frame, as AKS's and BOLT's released code has it for one second; at least one."""
    step = max(1, int(video.fps * every))
    return tuple(range(0, max(1, video.frames // step) * step, step))


def _lots(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left, full = iter(items), True
    while full and (lot := list(islice(left, size))):
        yield lot
        full = len(lot) == size  # a stream of frames that has ended is not asked again
