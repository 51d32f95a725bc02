"""Prompts of the published protocols, byte for byte, with and without subtitles."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from evalkit.data.benchmarks import load
from evalkit.data.protocols import REGISTRY, PromptContext, get
from evalkit.data.protocols.subtitles import cues
from evalkit.data.video import probe
from evalkit.errors import ConfigError, DataError
from evalkit.types import Video
from tests.support import clips, rows

ANNOTATIONS = Path(__file__).parents[2].parent / "shared" / "annotations"
real_rows = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotation files in {ANNOTATIONS}")

LETTER = "Answer with the option's letter from the given choices directly."
SELECT = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
PROMPTS = {
    ("official", "videomme"): (
        f"{SELECT}\nHow many lamps\nare lit?\nA. One.\nB. Two.\nC. Three.\nD. None.\nThe best answer is:"
    ),
    ("official", "mlvu"): (
        "Question: Which bus comes first?\nOptions:\n(A) Red\n(B) Green\n(C) Blue\n(D) White\n"
        "Only give the best option."
    ),
    ("official", "lvbench"): "What does the sign say?\n(A) Stop\n(B) Go\n(C) Wait\n(D) Turn",
    ("retake", "videomme"): f"How many lamps\nare lit?\nOptions:\nA. One.\nB. Two.\nC. Three.\nD. None.\n{LETTER}",
    ("retake", "mlvu"): f"Which bus comes first?\nOptions:\nA. Red.\nB. Green.\nC. Blue.\nD. White.\n{LETTER}",
    ("retake", "lvbench"): f"What does the sign say?\nOptions:\nA. Stop\nB. Go\nC. Wait\nD. Turn.\n{LETTER}",
    ("xcomp", "videomme"): (
        f"These are the frames of a video. {SELECT}\n"
        f"Question: How many lamps\nare lit?\nOption:\nA. One.\nB. Two.\nC. Three.\nD. None.\n{LETTER}"
    ),
    ("xcomp", "mlvu"): (f"Question:Which bus comes first?\nOption:\n(A) Red\n(B) Green\n(C) Blue\n(D) White\n{LETTER}"),
    ("xcomp", "lvbench"): f"What does the sign say?\nA. (A) Stop\nB. (B) Go\nC. (C) Wait\nD. (D) Turn\n{LETTER}",
}
SRT = """1
00:00:00,000 --> 00:00:00,500
<font color="white" size=".72c">Good</font>
<font color="white" size=".72c">morning</font>

2
00:00:01,000 --> 00:00:02,000
no mark-up

3
00:00:02,000 --> 00:00:03,000
<font color="white" size=".72c">Bye</font>
"""


@pytest.fixture
def question(tmp_path):
    """benchmark -> the one question of a small set."""
    return lambda name, **changes: rows.one_question(tmp_path / name, name, **changes)


@pytest.fixture
def subtitled(tmp_path, question):
    """A Video-MME question whose video has the subtitles above."""
    file = tmp_path / "videomme" / "subtitle" / "vid-_001.srt"
    file.parent.mkdir(parents=True)
    file.write_text(SRT, encoding="utf-8")
    return question("videomme")


def shown(*seconds, tokenizer=None, frames=75):
    video = Video(path=Path("v.mp4"), duration_s=3.0, fps=25.0, frames=frames, height=48, width=64)
    return PromptContext(video=video, seconds=seconds, tokenizer=tokenizer)


@pytest.mark.parametrize(("name", "benchmark"), PROMPTS)
def test_prompt(question, name, benchmark):
    protocol = get(name)
    assert protocol.prompt(question(benchmark)) == PROMPTS[name, benchmark]
    assert protocol.prompt(question(benchmark), shown(0.0)) == PROMPTS[name, benchmark]


@pytest.mark.parametrize("name", ["official", "retake", "xcomp"])
@pytest.mark.parametrize(
    ("write", "benchmark"),
    [
        (lambda root: rows.write_parquet(root / rows.MLVU_FILE, [rows.mlvu_parquet_row()]), "mlvu"),
        (lambda root: rows.write_parquet(root / rows.LVBENCH_FILE, [rows.lvbench_parquet_row()]), "lvbench"),
        (lambda root: rows.write_json(root / "list.json", [rows.lvbench_reshaped_row()]), "lvbench"),
    ],
)
def test_every_shape_of_a_row_gives_the_same_prompt(tmp_path, name, write, benchmark):
    write(tmp_path)
    assert get(name).prompt(load(benchmark, tmp_path)[0].questions[0]) == PROMPTS[name, benchmark]


def test_white_space_of_an_mlvu_row_stays(question):
    asked = question("mlvu", question=" Which bus? ", candidates=["Red ", " Green", "Blue", "White "], answer=" Green")
    prompt = get("official").prompt(asked)
    assert prompt.startswith("Question:  Which bus? \nOptions:\n(A) Red \n(B)  Green\n")
    assert prompt.endswith("(D) White\nOnly give the best option.")  # theirs cuts the end of the last option
    assert "\nA. Red .\nB.  Green.\n" in get("retake").prompt(asked)


@pytest.mark.parametrize("options", ["\n (A) Stop\n (B) Go", "\n(A) Stop\n\t(B) Go"])
def test_indented_options_of_lvbench(question, options):
    asked = question("lvbench", question=f"What does it say?{options}", answer="A")
    assert get("xcomp").prompt(asked) == f"What does it say?\nA. (A) Stop\nB. (B) Go\n{LETTER}"


def test_system_turn_prefill_and_length():
    official = get("official")
    assert official.system("mlvu") == (
        "Carefully watch this video and pay attention to every detail. "
        "Based on your observations, select the best option that accurately addresses the question."
    )
    assert official.prefill("mlvu") == "Best Option: ("
    others = [(p, b) for p in REGISTRY for b in ("videomme", "mlvu", "lvbench") if (p, b) != ("official", "mlvu")]
    assert {(get(p).system(b), get(p).prefill(b)) for p, b in others} == {(None, "")}
    assert [get(p).max_new_tokens("mlvu") for p in REGISTRY] == [16, 100, 128, 16]
    assert [get(p).stop for p in REGISTRY] == [("\n\n",), (), (), ()]


def test_prompts_of_videochat_flash(whole_golden, tmp_path):
    prompts = json.loads((whole_golden / "xcomp" / "parsing" / "parsing.json").read_text(encoding="utf-8"))["prompts"]
    rows.write_json(tmp_path / "mlvu" / "json" / "1_plotQA.json", [prompts["mlvu_mc"]["doc"]])
    rows.write_json(tmp_path / "lvbench" / "list.json", [prompts["lvbench"]["doc"]])
    for benchmark, key in (("mlvu", "mlvu_mc"), ("lvbench", "lvbench")):
        (asked,) = load(benchmark, tmp_path / benchmark)[0].questions
        assert get("xcomp").prompt(asked) == prompts[key]["text"]


@real_rows
def test_prompts_of_every_real_row():
    """Against a plain reading of the files."""
    mlvu = {q.id: q for q in load("mlvu", ANNOTATIONS / "mlvu")[0].questions}
    for file in sorted((ANNOTATIONS / "mlvu").glob("[1-7]_*.json")):
        for k, row in enumerate(json.loads(file.read_text(encoding="utf-8"))):
            a, b, c, d = row["candidates"]
            asked = f"{row['question']}\nOptions:\nA. {a}.\nB. {b}.\nC. {c}.\nD. {d}.\n{LETTER}"
            assert get("retake").prompt(mlvu[f"{file.stem}:{k}"]) == asked
            lines = f"(A) {a}\n(B) {b}\n(C) {c}\n(D) {d}\n"
            assert (
                get("xcomp").prompt(mlvu[f"{file.stem}:{k}"]) == f"Question:{row['question']}\nOption:\n{lines}{LETTER}"
            )
    lvbench = load("lvbench", ANNOTATIONS / "lvbench")[0].questions
    plain = json.loads((ANNOTATIONS / "lvbench" / "lvbench_clean.json").read_text(encoding="utf-8"))
    for asked, row in zip(lvbench, plain, strict=True):
        options = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", row["candidates"], strict=True))
        assert get("xcomp").prompt(asked) == f"{row['question']}\n{options}{LETTER}"


def test_official_subtitles_are_those_at_the_frames(subtitled):
    protocol, bare = get("official_subtitles"), PROMPTS["official", "videomme"]
    head = "This video's subtitles are listed below:\n"
    assert protocol.prompt(subtitled, shown(0.0, 0.49, 2.5)) == f"{head}Good morning\nBye\n{bare}"
    assert protocol.prompt(subtitled, shown(1.0)) == f"{head}no mark-up\n{bare}"
    assert protocol.prompt(subtitled, shown(0.5, 3.0)) == bare  # an end is not shown any more


def test_whole_subtitles_of_the_others(subtitled):
    words = SimpleNamespace(decode=lambda ids, skip_special_tokens: " ".join(ids))
    tokenizer = Words(words)
    listed = "This video's subtitles are listed below:\nGood morning\nno mark-up\nBye\n"
    retake = get("retake_subtitles").prompt(subtitled, shown(0.0, tokenizer=tokenizer))
    assert retake == listed + PROMPTS["retake", "videomme"]
    xcomp = get("xcomp_subtitles").prompt(subtitled, shown(0.0))
    head, rest = PROMPTS["xcomp", "videomme"].split(SELECT)
    assert xcomp == f"{head}{listed}{SELECT}{rest}"


class Words:
    """A tokenizer of words, and of their placeholder for the video."""

    def __init__(self, words):
        self.decode = words.decode

    def __call__(self, text):
        return {"input_ids": text.replace("<video>", "<video> ").split()}


@pytest.mark.parametrize(("spoken", "left"), [(9_000, 9_000), (9_999, 9_975), (20_000, 9_975)])
def test_retake_cuts_question_and_subtitles_to_10000_tokens(tmp_path, question, spoken, left):
    file = tmp_path / "videomme" / "subtitle" / "vid-_001.srt"
    file.parent.mkdir(parents=True)
    text = " ".join(f"w{k}" for k in range(spoken))
    file.write_text(f"1\n00:00:00,000 --> 00:00:09,000\n{text}\n", encoding="utf-8")
    tokenizer = Words(SimpleNamespace(decode=lambda ids, skip_special_tokens: " ".join(ids)))
    prompt = get("retake_subtitles").prompt(question("videomme"), shown(tokenizer=tokenizer))
    asked = len(tokenizer("<video>" + PROMPTS["retake", "videomme"])["input_ids"])
    kept = prompt.split("\n")[1].split()
    assert asked == 25
    assert kept == [f"w{k}" for k in range(left)]


def test_without_a_subtitle_file_the_prompt_is_the_plain_one(question):
    asked = question("videomme")
    tokenizer = Words(SimpleNamespace(decode=None))
    for name in ("official", "retake", "xcomp"):
        assert get(f"{name}_subtitles").prompt(asked, shown(0.0, tokenizer=tokenizer)) == PROMPTS[name, "videomme"]
    lmms_eval = get("lmms_eval_subtitles").prompt(asked, shown(0.0))
    assert lmms_eval.startswith("This video's subtitles are listed below: \nNo subtitles available\nSelect the best")
    assert lmms_eval.endswith("D. None.\nThe best answer is:")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
@pytest.mark.parametrize("frames", [75, 1000])
def test_lmms_evals_subtitles_are_theirs(tmp_path, question, monkeypatch, frames):
    """Byte for byte what their own function writes of the same files, which it looks for below HF_HOME."""
    root = tmp_path / "videomme"
    (root / "data").mkdir(parents=True)
    clip = clips.make(root / "data" / "vid-_001.mp4", frames=frames)
    many = [
        (f"00:00:{k // 2:02d},{k % 2 * 5}00", f"00:00:{(k + 1) // 2:02d},{(k + 1) % 2 * 5}00", k) for k in range(78)
    ]
    font = '<font color="white" size=".72c">line {}</font>'
    blocks = [f"{k + 1}\n{start} --> {end}\n{font.format(k) if k % 7 else 'plain'}\n" for start, end, k in many]
    (root / "subtitle").mkdir()
    (root / "subtitle" / "vid-_001.srt").write_text("\n".join(blocks), encoding="utf-8")
    asked = question("videomme")
    prompt = get("lmms_eval_subtitles").prompt(asked, PromptContext(video=probe(clip), seconds=(), tokenizer=None))
    get("lmms_eval").prompt(asked)  # loads their module
    theirs = sys.modules["lmms_eval.tasks.videomme.utils"]
    monkeypatch.setattr(theirs, "base_cache_dir", str(tmp_path))
    assert prompt == theirs.videomme_doc_to_text_subtitle(asked.row, {"frame_num": 32})
    assert prompt.count("line ") == (5 if frames == 75 else 25)
    assert prompt != theirs.videomme_doc_to_text_subtitle(asked.row, {"frame_num": 2})  # negative control


@pytest.mark.parametrize("name", list(REGISTRY))
def test_subtitles_are_a_protocol_of_their_own(question, subtitled, name):
    protocol = get(f"{name}_subtitles")
    assert protocol.name == f"{name}_subtitles"
    assert (protocol.subtitles, get(name).subtitles) == (True, False)
    with pytest.raises(ConfigError, match=f"protocol={name}_subtitles: subtitles need to know the video"):
        protocol.prompt(subtitled)
    with pytest.raises(ConfigError, match=f"lvbench has no subtitles; use protocol={name}$"):
        protocol.prompt(question("lvbench"), shown(0.0))


def test_retake_needs_a_tokenizer_for_subtitles(subtitled):
    with pytest.raises(ConfigError, match="needs a checkpoint with a tokenizer"):
        get("retake_subtitles").prompt(subtitled, shown(0.0))


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"no subtitles at all\n"])
def test_a_broken_subtitle_file_is_an_error(subtitled, content):
    subtitled.subtitle_path.write_bytes(content)
    with pytest.raises(DataError, match=r"vid-_001\.srt"):
        cues(subtitled)


def test_subtitle_files_as_people_write_them(subtitled):
    """Windows line ends, a byte order mark, blank lines with spaces, no number line, a period for the comma."""
    first = "\ufeff1\r\n00:00:00.000 --> 00:00:01,250\r\nOne\r\ntwo\r\n"
    text = first + " \r\n01:00:02,000 --> 01:00:03,000\r\n<i>three</i>\r\n"
    subtitled.subtitle_path.write_bytes(text.encode())
    first, second = cues(subtitled)
    assert (first.start, first.end, first.plain) == (0.0, 1.25, "One two")
    assert (second.start, second.plain) == (3602.0, "three")


@pytest.mark.parametrize("name", ["official", "retake", "xcomp"])
def test_unknown_benchmark(question, name):
    protocol, asked = get(name), replace(question("mlvu"), benchmark="nextqa")
    uses = (
        lambda: protocol.prompt(asked),
        lambda: protocol.read(asked, "B"),
        lambda: protocol.averages("nextqa", []),
        lambda: protocol.max_new_tokens("nextqa"),
    )
    for use in uses:
        with pytest.raises(ConfigError, match="videomme, mlvu, lvbench"):
            use()
