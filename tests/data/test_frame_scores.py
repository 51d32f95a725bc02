"""Scores of frames from a file: the layouts that are read, what is refused, and what becomes of them in a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.data.benchmarks import frame_scores
from evalkit.errors import DataError, MethodError
from evalkit.method import Method, OperatingPoint
from evalkit.runs import identity
from evalkit.runs.config_file import SetupRecord, TablePlace, describe
from evalkit.testing.method_contract import budget, video
from evalkit.types import Benchmark, FrameScores
from methods.aks import AKS
from methods.bolt import BOLT
from methods.uniform import Uniform
from tests.support.loop import question


@pytest.fixture
def loaded(tmp_path: Path) -> Benchmark:
    questions = tuple(replace(question(tmp_path / "v.mp4", n), frame_scores=None) for n in range(2))
    return Benchmark(name="mlvu", label="MLVU", root=tmp_path, split="dev", questions=questions)


def placed(loaded: Benchmark, content: Any) -> Benchmark:
    file = loaded.root / "scores.json"
    file.write_text(json.dumps(content))
    (found,) = frame_scores.placed([loaded], file)
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"q1": {"frames": [0, 30], "scores": [0.5, 0.25]}}, [None, FrameScores(at=(0, 30), scores=(0.5, 0.25))]),
        ({"q0": {"seconds": [1.5]}}, [FrameScores(at=(1.5,), in_seconds=True), None]),
        ([[3, 9], [4.0]], [FrameScores(at=(3, 9)), FrameScores(at=(4.0,))]),
        ({"v": [{"question_id": "q1", "frames": [2.0, 2.0]}]}, [None, FrameScores(at=(2.0, 2.0), in_seconds=True)]),
    ],
    ids=["scores", "seconds", "published by AKS", "published by BOLT"],
)
def test_layouts(loaded: Benchmark, content: Any, expected: list[FrameScores | None]) -> None:
    found = placed(loaded, content)
    assert [q.frame_scores for q in found.questions] == expected
    named = sum(one is not None for one in expected)
    assert found.notes == (f"frame scores of {named} of 2 questions from scores.json; what they cost is in no table",)
    assert identity.rows(found) == identity.rows(loaded)  # other methods' runs stay the same
    assert identity.frame_scores(found) != identity.frame_scores(loaded)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[1]], "a list of frames for each of the 2 rows of MLVU"),
        ({"other": {"frames": [1]}}, "such as 'q0', found none of them"),
        ({"q0": {"frames": [2, 1], "scores": [1, 2]}}, "a score for each of 2 ascending frames"),
        ({"q0": {"frames": []}}, "question q0: expected a list of numbers"),
        ({"v": [{"frames": [1]}]}, "an object with 'question_id'"),
        ({"q0": 5}, "an object with 'frames'"),
        ("text", "an object with question ids"),
    ],
    ids=str,
)
def test_what_is_refused(loaded: Benchmark, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        placed(loaded, content)


def test_frames_of_another_file_are_refused() -> None:
    scores = FrameScores(at=(0.0, 9.0), in_seconds=True)
    with pytest.raises(MethodError, match="expected frames 0 to 23"):
        scores.frame_numbers(video(8))
    assert FrameScores(at=(0.5,), in_seconds=True).frame_numbers(video(8)) == (12,)


@pytest.mark.parametrize("method", [AKS(), BOLT()], ids=["aks", "bolt"])
def test_a_published_list_is_shown_as_it_is(method: Method) -> None:
    listed = replace(video(8), frame_scores=FrameScores(at=(1, 4, 4, 20, 21)))
    plan = method.frames(listed, budget(8, 0.5))
    assert [plan.indices[slot] for slot in plan.slots] == [1, 4, 4, 20]
    assert plan.keeps_times
    short = replace(listed, frame_scores=FrameScores(at=(1, 4)))
    assert method.frames(short, budget(8, 0.5)) == Uniform().frames(short, budget(8, 0.5))


def test_what_does_not_divide_goes_to_the_best() -> None:
    """12 of 64 frames: 8 parts of one each, as the released code; then the four highest of the rest."""
    scores = [((7 * i) % 64) / 64 for i in range(64)]
    assert AKS(short="uniform").chosen(scores, 12) == []  # 32 parts of 12 / 32 frames each
    assert len(AKS(depth=3, short="uniform").chosen(scores, 12)) == 8
    filled = AKS().chosen(scores, 12)
    assert len(filled) == 12
    rest = sorted((s for i, s in enumerate(scores) if i not in AKS(depth=3, short="uniform").chosen(scores, 12)))[-4:]
    assert {scores[i] for i in filled} >= set(rest)


def test_equal_scores_have_no_scale() -> None:
    assert len(AKS().chosen([0.5] * 40, 8)) == 8
    assert BOLT().chosen([0.5] * 4, 2) == [1, 1]
    assert BOLT(power=2.0).chosen([0.0, 1.0], 1) == [1]


def test_scores_belong_to_the_method_that_reads_them(loaded: Benchmark) -> None:
    """Other scores are another run, of the same setup: AKS is compared with uniform sampling."""
    setup = SetupRecord(identity_parts={}, backbone={}, sampling={}, protocol={}, reader="pyav", share=True, seed=0)
    table = TablePlace(place=0, reference="uniform", notes=())
    scored = placed(loaded, {"q0": {"frames": [0, 30], "scores": [0.5, 0.25]}})

    def parts(benchmark: Benchmark, method: Method) -> dict[str, Any]:
        described = describe(setup, benchmark, "rows", OperatingPoint("m", method, 0.5), table, "full")
        found: dict[str, Any] = described["identity_parts"]
        return found

    assert parts(loaded, Uniform()) == parts(scored, Uniform())
    before, after = parts(loaded, AKS()), parts(scored, AKS())
    assert before != after
    assert {**before, "method": None} == {**after, "method": None}
