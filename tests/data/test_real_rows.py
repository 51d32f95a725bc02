"""All real MLVU and LVBench rows through scorers, and a subset of them through the whole engine.

The videos are stand-ins: a few generated clips, linked under the real names. Where the annotations are absent, what
needs them is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalkit.__main__ import main
from evalkit.commands import run
from evalkit.data.benchmarks import files, load
from evalkit.data.prepare import subsets, verify
from evalkit.data.protocols import REGISTRY, get
from evalkit.errors import DataError
from evalkit.runs.folder import ANSWERS
from evalkit.types import LETTERS, Benchmark
from tests.support import clips, rows
from tests.support.configs import composed

pytestmark = pytest.mark.slow

ANNOTATIONS = Path(__file__).parents[2].parent / "shared" / "annotations"
ROWS = {"mlvu": 2175, "lvbench": 1519}
VIDEOS = {"mlvu": 1122, "lvbench": 101}
WITHOUT_OPTION = {"mlvu": {"2_needle:34", "2_needle:338"}, "lvbench": set()}
SUBSET = "ci-50"
ARMS = 2


@dataclass(frozen=True)
class Tree:
    """A data folder with the real annotations and a stand-in for every video."""

    benchmark: Benchmark
    missing: str  # video ids, both of the subset
    broken: str

    @property
    def root(self) -> Path:
        return self.benchmark.root

    @property
    def chosen(self) -> Benchmark:
        return subsets.restrict(self.benchmark, SUBSET)


@pytest.fixture(scope="module", params=sorted(ROWS))
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """One video of the subset is missing, another is no video."""
    if not ANNOTATIONS.is_dir():
        pytest.skip(f"no real annotation files in {ANNOTATIONS}")
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    for file in (ANNOTATIONS / name).glob("*.json"):
        if "test_res" not in file.name:
            (root / file.name).symlink_to(file)
    found = [clips.make(root / f"clip{k}.mp4", frames=16 + 8 * k, size=(56, 56 + 28 * k)) for k in range(3)]
    (benchmark,) = load(name, root)
    paths = {questions[0].video_path: video for video, questions in benchmark.by_video().items()}
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(found[number % len(found)])
    (benchmark,) = load(name, root)
    missing, broken, *_ = subsets.restrict(benchmark, SUBSET).by_video()
    places = {video: path for path, video in paths.items()}
    places[missing].unlink()
    places[broken].unlink()
    places[broken].write_bytes(b"no video")
    return Tree(benchmark, missing, broken)


def test_every_real_row_is_loaded_and_finds_its_video(tree: Tree) -> None:
    benchmark = tree.benchmark
    assert (len(benchmark.questions), benchmark.bad_rows) == (ROWS[benchmark.name], ())
    assert len(benchmark.by_video()) == VIDEOS[benchmark.name]
    absent = {q.video_id for q in benchmark.questions if not q.video_path.exists()}
    assert absent == {tree.missing}


def right_texts(name: str) -> dict[str, str]:
    """The right option's words by question id, straight from the files."""
    found = {}
    for file in sorted((ANNOTATIONS / name).glob("[1-7]_*.json" if name == "mlvu" else "*.json")):
        for number, row in enumerate(json.loads(file.read_text(encoding="utf-8"))):
            found[f"{file.stem}:{number}"] = row["answer"] if name == "mlvu" else row["answer"][3:]
    return found


@pytest.mark.parametrize("protocol", list(REGISTRY))
def test_every_real_row_is_scored_under_every_protocol(tree: Tree, protocol: str) -> None:
    """The right letter is right and every other one wrong; ReTaKe leaves out the rows without a right option."""
    rules, texts, without = get(protocol), right_texts(tree.benchmark.name), set()
    for question in tree.benchmark.questions:
        gold = rules.gold(question)
        said = {letter: rules.read(question, letter).correct for letter in LETTERS[: len(question.options)]}
        if gold:
            assert said == {letter: letter == gold for letter in said}, question.id
            assert question.options[LETTERS.index(gold)] == texts[question.id].strip(), question.id
        else:
            without.add(question.id)
            assert set(said.values()) == {None if protocol == "retake" else False}, question.id
        assert rules.read(question, "").correct is not True, question.id
    assert without == WITHOUT_OPTION[tree.benchmark.name]


def stored(results: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(config, answers) of every run folder."""
    for file in results.rglob(ANSWERS):
        config = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        yield config, [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_what_evalkit_leaves_beside_annotations_is_not_taken_for_them(tmp_path: Path) -> None:
    """LVBench's reshaped list goes by any name."""
    rows.write_json(tmp_path / "mine.json", [rows.lvbench_reshaped_row()])
    (before,) = load("lvbench", tmp_path)
    for name in (verify.FILE, subsets.FILE, files.GENERATED):
        rows.write_json(tmp_path / name, {"version": "1"})
    (after,) = load("lvbench", tmp_path)
    assert after.questions == before.questions
    rows.write_json(tmp_path / "other.json", [rows.lvbench_reshaped_row()])
    with pytest.raises(DataError, match=r"mine\.json, other\.json"):
        load("lvbench", tmp_path)


@pytest.mark.slow
def test_a_subset_through_the_whole_engine(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`data verify` finds the two videos; the run answers all other questions and fails on theirs alone."""
    name = tree.benchmark.name
    assert main(["data", "verify", name, "--root", str(tree.root), "--subset", SUBSET]) == 1
    seen = capsys.readouterr().out
    assert "1 missing, 1 broken" in seen
    assert f"missing: {tree.missing} " in seen
    assert f"broken: {tree.broken} " in seen
    assert "rows:" not in seen  # they are those published
    asked = {q.id: q for q in tree.chosen.questions}
    lost = {id_ for id_, q in asked.items() if q.video_id in (tree.missing, tree.broken)}
    assert 40 <= len(asked) <= 60
    assert lost
    words = [f"benchmark={name}", f"benchmark.root={tree.root}", f"subset={SUBSET}", f"results_dir={tmp_path}"]
    words += ["backbone=tiny", "sampling.frames=8", "sampling.fps=null"]  # trained: its replies are short
    outcome = run.run(composed(*words, "methods=[uniform,retake]", "ratios=[0.5]"))
    assert outcome.failed == ARMS * len(lost)
    runs = list(stored(tmp_path))
    assert len(runs) == ARMS
    for config, answers in runs:
        assert [a["question_id"] for a in answers] == list(dict.fromkeys(a["question_id"] for a in answers))
        assert {a["question_id"] for a in answers} == set(asked)
        assert {a["question_id"] for a in answers if a["status"] == "failed"} == lost
        assert all(a["ledger"]["ratio_achieved"] == 0.5 for a in answers if a["status"] != "failed")
        assert all(a["gold"] == asked[a["question_id"]].answer for a in answers)
        assert (
            f"2 videos missing or broken ({len(lost)} questions), found by data verify" in config["benchmark"]["notes"]
        )
    assert "2 videos missing or broken" in (tmp_path / "accuracy.md").read_text(encoding="utf-8")
