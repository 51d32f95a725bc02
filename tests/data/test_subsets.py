"""Nested subsets: whole videos, in proportion, the same ones for ever, and the same answers as the full run's."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evalkit.__main__ import main
from evalkit.analysis.compare import subset_gaps
from evalkit.analysis.stats import accuracy_interval
from evalkit.commands import run
from evalkit.config import build
from evalkit.data import benchmarks
from evalkit.data.benchmarks.files import SUBSET_LISTS
from evalkit.data.prepare import subsets, verify
from evalkit.data.prepare.checksums import rows_sha256
from evalkit.data.prepare.subsets import FULL, NAMES, SIZES
from evalkit.errors import ConfigError, DataError
from evalkit.runs import load
from evalkit.runs.folder import ANSWERS
from evalkit.tiny.videos import make as tiny
from evalkit.types import Benchmark, Question
from tests.support import clips, rows, run_folders
from tests.support.configs import composed

pytestmark = pytest.mark.slow

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"
TASKS = ("Counting Problem", "OCR Problems", "Action Reasoning", "Object Recognition", "Temporal Reasoning")


def question(number: int, video: str, **groups: tuple[str, ...]) -> Question:
    return Question(
        benchmark="mlvu",
        id=f"q{number}",
        video_id=video,
        video_path=Path(video),
        text=f"{number}?",
        options=("one", "two"),
        answer="A",
        groups=groups,
        row={"video_name": video},
    )


def synthetic(videos: int = 500, seed: int = 0) -> Benchmark:
    """Videos of 1 to 6 questions; durations and tasks are uneven, and some rows have two tasks."""
    rng, questions = random.Random(seed), []
    for v in range(videos):
        duration = rng.choices(["short", "medium", "long"], [5, 3, 1])[0]
        for _ in range(rng.randint(1, 6)):
            tasks = tuple(rng.choices(TASKS, [8, 4, 2, 1, 1], k=rng.choice([1, 1, 2])))
            questions.append(question(len(questions), f"v{v}", duration=(duration,), task_type=tasks))
    return Benchmark(name="mlvu", label="MLVU", root=Path("nowhere"), split="dev", questions=tuple(questions))


def picked(benchmark: Benchmark, ids: tuple[str, ...]) -> list[Question]:
    return [q for q in benchmark.questions if q.id in set(ids)]


def generated(root: Path) -> list[Benchmark]:
    """The built-in sets' annotations, without a frame."""
    for name, planned in tiny.SETS.items():
        layout = planned(root / name)
        for path, text in layout.texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for path, save in layout.savers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path)
        rows.write_json(root / name / tiny.DONE, tiny.STAMP)
    return benchmarks.load("builtin", root)


# ---- drawing


def test_subsets_are_nested_whole_videos_of_about_the_size() -> None:
    benchmark = synthetic()
    drawn = subsets.draw(benchmark)
    assert list(drawn) == ["ci-600", "ci-200", "ci-50"] == list(SIZES)
    assert set(drawn["ci-50"]) < set(drawn["ci-200"]) < set(drawn["ci-600"]) < {q.id for q in benchmark.questions}
    for name, ids in drawn.items():
        assert len(set(ids)) == len(ids)
        assert abs(len(ids) - SIZES[name]) <= 3  # half the largest video
        inside = {q.video_id for q in picked(benchmark, ids)}
        assert sum(q.video_id in inside for q in benchmark.questions) == len(ids)


def test_subsets_are_stratified() -> None:
    """Their shares lie far closer to the whole set's than those of random videos."""
    benchmark = synthetic()
    whole, groups = subsets.shares(benchmark.questions), benchmark.by_video()
    rng = random.Random(1)
    for name, ids in subsets.draw(benchmark).items():
        ours = subsets.distance(subsets.shares(picked(benchmark, ids)), whole)
        videos = len({q.video_id for q in picked(benchmark, ids)})
        chance = []
        for _ in range(50):
            chosen = rng.sample(list(groups), videos)
            chance.append(subsets.distance(subsets.shares(q for v in chosen for q in groups[v]), whole))
        assert ours < min(chance), name
        assert ours < statistics.median(chance) / 4, name


def test_every_video_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing the best of many draws must not shut out videos: over other seeds, nearly all turn up."""
    benchmark, seen = synthetic(60), set()
    monkeypatch.setattr(subsets, "DRAWS", 20)
    for seed in range(60):
        monkeypatch.setattr(subsets, "SEED", seed)
        seen |= {q.video_id for q in picked(benchmark, subsets.draw(benchmark)["ci-50"])}
    assert len(seen) > 57


def test_the_same_rows_give_the_same_subsets_in_any_order() -> None:
    benchmark = synthetic(200)
    shuffled = list(benchmark.questions)
    random.Random(3).shuffle(shuffled)
    assert subsets.draw(replace(benchmark, questions=tuple(shuffled))) == subsets.draw(benchmark)
    assert rows_sha256(replace(benchmark, questions=tuple(shuffled))) == rows_sha256(benchmark)


def test_another_seed_gives_others(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = synthetic(200)
    before = subsets.draw(benchmark)
    monkeypatch.setattr(subsets, "SEED", 1)
    assert subsets.draw(benchmark)["ci-50"] != before["ci-50"]


def test_rows_without_groups_and_small_sets() -> None:
    plain = Benchmark(
        name="mlvu",
        label="MLVU",
        root=Path("nowhere"),
        split="dev",
        questions=tuple(question(n, f"v{n // 3}") for n in range(90)),
    )
    drawn = subsets.draw(plain)
    assert [len(ids) for ids in drawn.values()] == [90, 90, 51]
    assert subsets.restrict(plain, "ci-200") == plain  # it would hold everything: it is the full set
    assert subsets.draw(replace(plain, questions=())) == dict.fromkeys(SIZES, ())


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotations at {ANNOTATIONS}")
@pytest.mark.parametrize("name", ["mlvu", "lvbench"])
def test_real_rows(name: str, tmp_path: Path) -> None:
    for file in (ANNOTATIONS / name).glob("[1-7l]*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (benchmark,) = benchmarks.load(name, tmp_path)
    drawn = subsets.lists(benchmark)
    assert set(drawn["ci-50"]) < set(drawn["ci-200"]) < set(drawn["ci-600"])
    tasks = {label for q in benchmark.questions for label in q.groups["task_type"]}
    assert {label for q in picked(benchmark, drawn["ci-50"]) for label in q.groups["task_type"]} == tasks
    for subset, ids in drawn.items():
        assert abs(len(ids) - SIZES[subset]) <= 0.1 * SIZES[subset]


# ---- stored lists


def test_the_built_in_lists_are_those_of_the_built_in_rows(tmp_path: Path) -> None:
    """If this fails because the generated questions changed: raise their version, then
    `data subset builtin --root DIR --write` and copy each subsets.json to evalkit/data/lists/NAME.json.
    """
    for benchmark in generated(tmp_path):
        published = json.loads((SUBSET_LISTS / f"{benchmark.name}.json").read_text(encoding="utf-8"))
        assert published == json.loads(json.dumps(subsets.document(benchmark)))
        assert subsets.lists(benchmark) == subsets.draw(benchmark)
        assert verify.rows_problem(benchmark) == ""


def test_changed_rows_of_a_built_in_set_are_refused(tmp_path: Path) -> None:
    benchmark = generated(tmp_path)[1]
    changed = replace(benchmark, questions=(replace(benchmark.questions[0], text="?"), *benchmark.questions[1:]))
    with pytest.raises(DataError, match=r"drawn from 124 rows.*restore the annotation files"):
        subsets.restrict(changed, "ci-50")
    assert "not those that evalkit generates" in verify.rows_problem(changed)
    rows.write_json(benchmark.root / tiny.DONE, {"version": "mine"})  # no set of ours: drawn from its own rows
    assert subsets.restrict(changed, "ci-50").questions


def test_stored_lists_outlive_the_way_of_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = replace(synthetic(100), root=tmp_path)
    subsets.write(benchmark)
    before = subsets.lists(benchmark)
    monkeypatch.setattr(subsets, "SEED", 1)
    assert subsets.lists(benchmark) == before != subsets.draw(benchmark)


@pytest.mark.parametrize("fault", ["rows", "edited", "torn", "shape", "name"])
def test_lists_that_do_not_belong_here_are_refused(fault: str, tmp_path: Path) -> None:
    benchmark = replace(synthetic(100), root=tmp_path)
    path = subsets.write(benchmark)
    value = json.loads(path.read_text())
    if fault == "rows":
        benchmark = replace(benchmark, questions=benchmark.questions[1:])
    elif fault == "edited":
        value["subsets"]["ci-50"]["questions"].pop()
    elif fault == "shape":
        value["subsets"]["ci-50"] = []
    elif fault == "name":
        del value["subsets"]["ci-200"]
    path.write_text("{" if fault == "torn" else json.dumps(value))
    with pytest.raises(DataError, match=r"subsets\.json.*--write"):
        subsets.restrict(benchmark, "ci-50")
    assert subsets.restrict(benchmark, FULL) == benchmark  # which needs no list
    subsets.write(benchmark)
    assert subsets.restrict(benchmark, "ci-50").questions


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        subsets.write(replace(synthetic(10), root=tmp_path / "nowhere"))


def test_what_a_subset_says_of_itself() -> None:
    benchmark = replace(synthetic(), notes=("a quirk",))
    part = subsets.restrict(benchmark, "ci-200")
    assert part.label == "MLVU ci-200"
    assert part.notes[0].startswith(f"subset ci-200: {len(part.questions)} of {len(benchmark.questions)} questions, ")
    assert part.notes[1] == "of the full set: a quirk"
    with pytest.raises(ConfigError, match="ci-600, ci-200, ci-50"):
        subsets.restrict(benchmark, "ci-100")


# ---- runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 MLVU questions on 20 videos, of which one file is missing; verified."""
    root = tmp_path_factory.mktemp("mlvu")
    clip = clips.make(root / "clip.mp4", frames=24, size=(56, 56))
    asked = [rows.mlvu_row(video=f"v{n // 4}.mp4", question=f"Bus {n}?", duration=100 + n) for n in range(80)]
    rows.write_json(root / "json" / "1_plotQA.json", asked[:40])
    rows.write_json(root / "json" / "4_count.json", asked[40:])
    for n in range(20):
        path = root / "video" / ("1_plotQA" if n < 10 else "4_count") / f"v{n}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(clip)
    (benchmark,) = benchmarks.load("mlvu", root)
    lost = subsets.restrict(benchmark, "ci-50").questions[0].video_path
    lost.unlink()
    verify.write(verify.verify(benchmark), root)
    return root


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full run and one of the subset, in the same results folder."""
    folder = tmp_path_factory.mktemp("results")
    for subset in (FULL, "ci-50"):
        settings_ = ["methods=[uniform]", "ratios=[1.0]", "sampling.frames=4"]
        where = ["benchmark=mlvu", f"benchmark.root={data}", f"results_dir={folder}"]
        assert run.run(composed(*settings_, *where, f"subset={subset}")).failed == 4
    return folder


def runs(results: Path) -> dict[str, Path]:
    """Run folder by subset."""
    folders = [file.parent for file in results.rglob(ANSWERS)]
    return {yaml.safe_load((folder / "config.yaml").read_text())["subset"]: folder for folder in folders}


@pytest.mark.slow
def test_a_subset_run_gives_the_full_runs_answers_in_a_folder_of_its_own(results: Path, data: Path) -> None:
    (benchmark,) = benchmarks.load("mlvu", data)
    folders = runs(results)
    assert set(folders) == {FULL, "ci-50"}
    said = {
        subset: {a.question_id: (a.text, a.correct, a.prompt_sha) for a in load.load(folder)[0].answers}
        for subset, folder in folders.items()
    }
    assert len(said[FULL]) == 80
    assert len({text for text, _, _ in said[FULL].values()}) > 2
    assert set(said["ci-50"]) == set(subsets.lists(benchmark)["ci-50"])
    assert len(said["ci-50"]) < 60
    assert said["ci-50"].items() <= said[FULL].items()


def test_tables_name_the_subset_and_the_missing(results: Path, data: Path) -> None:
    text = (results / "accuracy.md").read_text()  # of the last run: the subset's
    (benchmark,) = benchmarks.load("mlvu", data)
    part = subsets.restrict(benchmark, "ci-50")
    assert f"MLVU ci-50, split dev: {len(part.questions)} questions, {len(part.by_video())} videos" in text
    assert f"subset ci-50: {len(part.questions)} of 80 questions" in text
    assert "1 video missing or broken (4 questions), found by data verify" in text


def test_a_wrong_name_is_explained_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="ci-50"):
        build.question_sets(composed("benchmark=mlvu", "benchmark.root=nowhere", "subset=ci-7"))
    assert composed().subset == FULL
    assert NAMES[0] == FULL


# ---- how far off


def full_run(folder: Path, benchmark: Benchmark, **changes: object) -> Path:
    """A run with some failures, right where the video's number is even."""
    lines = [
        run_folders.row(q.id, None if n % 50 == 7 else int(q.video_id[1:]) % 2 == 0, q.video_id)
        for n, q in enumerate(benchmark.questions)
    ]
    return run_folders.write_run(folder, lines, ratio=1.0, **changes)


def test_gaps_are_differences_of_accuracy(tmp_path: Path) -> None:
    benchmark = synthetic(300)
    lists = subsets.draw(benchmark)
    ((_, run),) = subset_gaps.full_runs(full_run(tmp_path / "run", benchmark) / ANSWERS, [benchmark])
    table = subset_gaps.gaps(run, lists).set_index("subset")
    right = {a.question_id: a.correct for a in run.answers if a.correct is not None}
    for name, ids in {FULL: tuple(right), **lists}.items():
        marks = [right[id_] for id_ in ids if id_ in right]
        assert table.loc[name, "n"] == len(marks)
        assert table.loc[name, "percent"] == pytest.approx(100 * sum(marks) / len(marks))
        assert table.loc[name, "gap"] == pytest.approx(
            100 * (sum(marks) / len(marks) - sum(right.values()) / len(right))
        )
    half = table["half_width"]
    assert half[FULL] == 0 < half["ci-600"] < half["ci-200"] < half["ci-50"]
    part = [a for a in run.answers if a.question_id in set(lists["ci-50"]) and a.correct is not None]
    assert (
        half["ci-50"]
        < accuracy_interval.accuracy([bool(a.correct) for a in part], [a.video_id for a in part]).half_width
    )


def test_a_run_that_is_not_full_or_not_alone_is_refused(tmp_path: Path) -> None:
    benchmark = synthetic(100)
    part = replace(benchmark, questions=benchmark.questions[:50])
    with pytest.raises(ConfigError, match="the most is 50"):
        list(subset_gaps.full_runs(full_run(tmp_path / "part", part), [benchmark]))
    full_run(tmp_path / "both" / "one", benchmark, identity="1")
    full_run(tmp_path / "both" / "two", benchmark, identity="2")
    with pytest.raises(ConfigError, match="2 of 2 runs do"):
        list(subset_gaps.full_runs(tmp_path / "both", [benchmark]))
    other = replace(benchmark, name="lvbench")
    with pytest.raises(ConfigError, match="expected a run on lvbench, it holds mlvu"):
        list(subset_gaps.full_runs(tmp_path / "part", [other]))
    whole = full_run(tmp_path / "whole", benchmark)
    assert [b.name for b, _ in subset_gaps.full_runs(whole, [other, benchmark])] == ["mlvu"]


def test_the_command(data: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows.write_json(tmp_path / "json" / "1_plotQA.json", json.loads((data / "json" / "1_plotQA.json").read_text()) * 3)
    command = ["data", "subset", "mlvu", "--root", str(tmp_path)]
    assert main([*command, "--write"]) == 0
    assert "full     120 questions    10 videos" in capsys.readouterr().out
    assert (tmp_path / subsets.FILE).is_file()
    judged = ["data", "subset", "mlvu", "--root", str(data), "--answers", str(runs(results)[FULL] / ANSWERS)]
    assert main(judged) == 0
    out = capsys.readouterr().out
    assert "| ci-50" in out
    assert "uniform at ratio 1" in out
    assert main([*judged[:-1], str(runs(results)["ci-50"])]) == 2
    assert main([*command[:-1], str(tmp_path / "nowhere")]) == 2
