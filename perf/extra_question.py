"""What one more question about the same video costs a query-aware method, beside the first one.

python perf/extra_question.py [--methods xcomp,qccomp] [--videos 3] [--questions 4] [--runs 3]   after `data make`

Videos of the built-in lvbench set in one process and the one that decodes for it; prints a table and puts it into
RESULTS.md. The first question pays for decoding, encoding and the passes over the whole video by which frames are
chosen. That questions answered together have the answers that each has alone is asserted first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import cpu_seconds, record

from evalkit.config import build, compose
from evalkit.engine.answer import Engine
from evalkit.method import OperatingPoint
from evalkit.types import Question

BAR = 0.4  # of the first question
NOTE = """
{videos} videos of the built-in lvbench set, 128 frames, {questions} questions each. CPU seconds of the process that
answers and of the one that decodes for it. First: decoding, encoding, the passes over the video, choice, prefill and
reply. Extra: what each further question adds. Replies and margins were asserted equal to those of questions asked
alone. Medians of {runs} runs in turn. Bar: {bar:g}.
"""


def texts(engine: Engine, point: OperatingPoint, questions: Sequence[Question]) -> dict[str, tuple[str, float | None]]:
    """Reply and margin of each question."""
    found = [answer for _, answer in engine.answers({point: list(questions)})]
    assert all(answer.error is None for answer in found), [answer.error for answer in found]
    return {answer.question_id: (answer.text, answer.margin) for answer in found}


def cpu(engine: Engine, point: OperatingPoint, videos: Sequence[Sequence[Question]], count: int) -> float:
    """CPU seconds of the first `count` questions of each video, on average of a video; those of decoding included."""
    before = cpu_seconds()
    for questions in videos:
        texts(engine, point, questions[:count])
    return (cpu_seconds() - before) / len(videos)


def row(
    engine: Engine, point: OperatingPoint, videos: Sequence[Sequence[Question]], count: int, runs: int
) -> dict[str, object]:
    """One operating point: medians of runs that take turns."""
    asked = videos[0][:count]
    alone = {key: value for one in asked for key, value in texts(engine, point, [one]).items()}
    assert texts(engine, point, asked) == alone, f"{point.name} at {point.ratio:g}"
    spent = [[cpu(engine, point, videos, number) for number in (1, count)] for _ in range(runs)]
    first, all_of_them = (statistics.median(values) for values in zip(*spent, strict=True))
    ratio = (all_of_them - first) / (count - 1) / first
    verdict = "held" if ratio <= BAR else "missed"
    return {
        "method": point.name,
        "ratio": point.ratio,
        "first CPU s": first,
        "extra CPU s": ratio * first,
        "extra / first": ratio,
        f"≤ {BAR:g}": verdict,
    }


def main() -> None:
    """All methods at two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="{from: xcomp, adapter: builtin/xcomp},qccomp")
    parser.add_argument("--root", type=Path, default=Path("data/builtin"))
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"benchmark.root={args.root / 'lvbench'}", f"results_dir={folder}", "decode.ahead=0"]
        methods = [f"methods=[uniform,{args.methods}]", "ratios=[0.5,0.25]"]
        grid = build.grid(compose.composed("config", ["benchmark=lvbench", "subset=ci-50", *settings, *methods]))
    (benchmark,) = grid.benchmarks
    videos = [questions for questions in benchmark.by_video().values() if len(questions) >= args.questions]
    videos = videos[: args.videos]
    engine = grid.setup.engine
    engine.frame_encoders({point.adapter for point in grid.points})
    points = [point for point in grid.points if point.method.query_aware]
    rows = [row(engine, point, videos, args.questions, args.runs) for point in points]
    note = NOTE.format(videos=len(videos), questions=args.questions, runs=args.runs, bar=BAR).strip()
    print(record("An extra question of a query-aware method (CPU)", rows, note))


if __name__ == "__main__":
    main()
