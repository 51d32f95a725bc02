"""The lmms_eval protocol: prompts byte for byte, its reader, its averages, and what importing it does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.data.benchmarks import load
from evalkit.data.protocols import get
from evalkit.errors import ConfigError
from tests.support import rows

REPO = Path(__file__).parents[2]
ANNOTATIONS = REPO.parent / "shared" / "annotations"
real_rows = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotation files in {ANNOTATIONS}")
BENCHMARKS = ("videomme", "mlvu", "lvbench")


@pytest.fixture
def protocol():
    return get("lmms_eval")


@pytest.fixture
def question(tmp_path):
    """name -> the one question of a small set."""
    return lambda name, **changes: rows.one_question(tmp_path / name, name, **changes)


PROMPTS = {
    "videomme": (
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "How many lamps\nare lit?\nA. One.\nB. Two.\nC. Three.\nD. None.\n"
        "\nAnswer with the option's letter from the given choices directly."
    ),
    "mlvu": (
        "Which bus comes first?\n(A) Red\n(B) Green\n(C) Blue\n(D) White\n"
        "\nOnly give the best option.\nBest option: ("
    ),
    "lvbench": (
        "What does the sign say?\n(A) Stop\n(B) Go\n(C) Wait\n(D) Turn\nAnswer the question with the option letter"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_prompt(protocol, question, name):
    assert protocol.prompt(question(name)) == PROMPTS[name]
    assert protocol.prompt(question(name)) == PROMPTS[name]  # asking once leaves nothing behind


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda root: rows.write_parquet(root / rows.MLVU_FILE, [rows.mlvu_parquet_row()]), "mlvu"),
        (lambda root: rows.write_parquet(root / rows.LVBENCH_FILE, [rows.lvbench_parquet_row()]), "lvbench"),
        (lambda root: rows.write_json(root / "list.json", [rows.lvbench_reshaped_row()]), "lvbench"),
    ],
)
def test_every_shape_of_a_row_gives_the_same_prompt(protocol, tmp_path, write, name):
    write(tmp_path)
    assert protocol.prompt(load(name, tmp_path)[0].questions[0]) == PROMPTS[name]


READER = [
    ("B", "B"),
    ("B.", "B"),
    ("(B)", "B"),
    ("The answer is B", "B"),
    ("Answer: B", "B"),
    ("Based on the video, the answer is C.", "C"),
    ("Certainly! The correct option is (D).", "D"),
    ("b", None),
    ("E", None),
    ("", None),
    ("  \n", None),
    ("The man is wearing a Blue shirt", "B"),
]


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize(("reply", "letter"), READER)
def test_reader(protocol, question, name, reply, letter):
    asked = question(name)
    read = protocol.read(asked, reply)
    assert read.letter == letter
    assert read.correct is (letter == asked.answer)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_right_letter_is_right_and_the_others_wrong(protocol, question, name):
    asked = question(name)
    right = {letter: protocol.read(asked, letter).correct for letter in "ABCD"}
    assert right == {letter: letter == asked.answer for letter in "ABCD"}


@pytest.mark.parametrize("reply", ["", "no idea", "A", "B", "C", "D"])
def test_without_a_right_option_every_reply_is_wrong(protocol, question, reply):
    asked = question("mlvu", answer="Black")
    assert asked.answer == ""
    assert protocol.read(asked, reply).correct is False


@pytest.mark.parametrize("name", BENCHMARKS)
def test_generation_settings(protocol, name):
    assert protocol.max_new_tokens(name) == 16
    assert protocol.stop == ("\n\n",)


def test_identity(protocol):
    assert protocol.name == "lmms_eval"
    assert protocol.version.startswith("lmms-eval 0.")
    assert protocol == get("lmms_eval")


def scored(questions, protocol, reply):
    return [(question.groups, protocol.read(question, reply).correct) for question in questions]


@real_rows
def test_always_b_on_the_real_mlvu(protocol):
    (benchmark,) = load("mlvu", ANNOTATIONS / "mlvu")
    averages = protocol.averages("mlvu", scored(benchmark.questions, protocol, "B"))
    assert list(averages) == ["macro (official)", "micro"]
    assert averages["macro (official)"] == pytest.approx(25.0179, abs=5e-5)
    assert averages["micro"] == pytest.approx(25.0115, abs=5e-5)


@real_rows
def test_always_b_on_the_real_lvbench(protocol):
    (benchmark,) = load("lvbench", ANNOTATIONS / "lvbench")
    averages = protocol.averages("lvbench", scored(benchmark.questions, protocol, "B"))
    assert averages == {"micro (official)": pytest.approx(100 * 364 / 1519)}


def test_always_b_on_2700_rows_with_the_real_videomme_letters(protocol, tmp_path):
    letters = "B" * 735 + "C" * 684 + "A" * 677 + "D" * 604
    durations = ["short"] * 900 + ["medium"] * 900 + ["long"] * 900
    made = [
        rows.videomme_row(n + 1, answer=a, duration=d) for n, (a, d) in enumerate(zip(letters, durations, strict=True))
    ]
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, made)
    (benchmark,) = load("videomme", tmp_path)
    assert (len(benchmark.questions), benchmark.bad_rows, benchmark.notes) == (2700, (), ())
    averages = protocol.averages("videomme", scored(benchmark.questions, protocol, "B"))
    assert averages == {"micro (official)": pytest.approx(27.2222, abs=5e-5)}


@pytest.mark.parametrize("name", ["videomme", "mlvu"])
def test_averages_equal_lmms_evals_aggregation(protocol, tmp_path, name):
    draw = random.Random(1)
    if name == "videomme":
        made = [rows.videomme_row(n, answer=draw.choice("ABCD")) for n in range(1, 120)]
        rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, made)
    else:
        for stem in ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning"):
            made = [rows.mlvu_row(answer=draw.choice(["Red", "Green", "Blue"])) for _ in range(draw.randint(3, 40))]
            rows.write_json(tmp_path / "json" / f"{stem}.json", made)
    questions = load(name, tmp_path)[0].questions
    ours = protocol.averages(name, scored(questions, protocol, "B"))
    theirs = sys.modules[f"lmms_eval.tasks.{name}.utils"]
    process = {"videomme": "videomme_process_results", "mlvu": "mlvu_process_results"}[name]
    aggregate = {"videomme": "videomme_aggregate_results", "mlvu": "mlvu_aggregate_results_dev"}[name]
    results = [next(iter(getattr(theirs, process)(q.row, ["B"]).values())) for q in questions]
    assert next(iter(ours.values())) == pytest.approx(getattr(theirs, aggregate)(results))


def test_macro_weighs_tasks_and_micro_questions(protocol):
    answered = [({"task_type": ("ego",)}, True), *[({"task_type": ("order",)}, False)] * 3]
    assert protocol.averages("mlvu", answered) == {"macro (official)": 50.0, "micro": 25.0}
    assert protocol.averages("videomme", answered) == {"micro (official)": 25.0}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_rows_give_no_average(protocol, name):
    assert protocol.averages(name, []) == {}


def test_unknown_names(protocol):
    with pytest.raises(ConfigError, match=r"expected one of lmms_eval, official, retake, xcomp \(evalkit\)"):
        get("nobody")
    for use in (protocol.max_new_tokens, lambda name: protocol.averages(name, [])):
        with pytest.raises(ConfigError, match="videomme, mlvu, lvbench"):
            use("nextqa")


FIRST_USE = """
import sys
from pathlib import Path
from evalkit.data.benchmarks import load
from evalkit.data.protocols import get
protocol = get("lmms_eval")
assert "lmms_eval" not in sys.modules, "get() imports nothing"
for name in ("videomme", "mlvu", "lvbench"):
    (question,) = load(name, Path(sys.argv[1]) / name)[0].questions
    protocol.prompt(question), protocol.read(question, "B")
heavy = {"torch", "transformers", "lmms_eval.tasks"} & set(sys.modules)
assert not heavy, heavy
assert not list(Path.home().iterdir())
print("light")  # nothing comes before it
print("light", file=sys.stderr)
"""
# their index is of three folders: all of them are nearly two thousand files
AFTERWARDS = """
import gc, warnings
gc.disable()  # libraries make half a million objects, which stay
warnings.simplefilter("ignore")  # what the whole of lmms-eval warns of is not ours
import lmms_eval.tasks
from lmms_eval.api.task import TaskConfig
from lmms_eval.tasks._task_utils import mcq_extract
from lmms_eval.tasks.mlvu import utils
assert Path(mcq_extract.__file__).parent.name == "_task_utils"
assert mcq_extract is sys.modules["lmms_eval.tasks._task_utils.mcq_extract"]
assert utils.mlvu_doc_to_text({"question": "Q"}, {}) == "Q"
assert tuple(TaskConfig(output_type="generate_until").generation_kwargs["until"]) == protocol.stop
folders = [str(Path(lmms_eval.tasks.__file__).parent / name) for name in ("videomme", "mlvu", "lvbench")]
known = lmms_eval.tasks.TaskManager(include_path=folders, include_defaults=False).all_tasks
assert {"videomme", "mlvu_dev", "lvbench"} <= set(known)
gc.freeze()  # they go with the process
"""


@pytest.mark.slow
def test_first_use_is_light_and_quiet_and_lmms_eval_itself_still_imports_afterwards(tmp_path, question):
    """A new interpreter with an empty home; every warning is an error, and nothing is written."""
    for name in BENCHMARKS:
        question(name)
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", FIRST_USE + AFTERWARDS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("light\n")
    assert done.stderr.startswith("light\n")
