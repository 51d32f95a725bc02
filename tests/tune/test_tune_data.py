"""What tuning learns from: conversations about videos, and generated worlds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.errors import DataError
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.packed_questions import IGNORE
from evalkit.tiny.videos.world import TRAIN_SEEDS
from evalkit.tune import conversations, train
from evalkit.tune.builtin import Builtin
from evalkit.tune.conversations import Conversations, tokenised
from evalkit.tune.sample import Sample, collate
from tests.support import clips
from tests.support.tuning import POINT, frame_encoder
from tests.support.videochat_flash import random_checkpoint

TALK = [{"from": "human", "value": "<video>\nWhich place is shown?"}, {"from": "gpt", "value": "A"}]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clips.make(folder / "clip.mp4", frames=24, size=(112, 112))
    (folder / "broken.mp4").write_bytes(b"not a video" * 50)
    return folder


def row(name: str, video: Any = "clip.mp4", talk: Any = None) -> dict[str, Any]:
    return {"id": name, "video": video, "conversations": TALK if talk is None else talk}


def said(question: str, answer: str = "A") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


BAD = {  # row: what is said of it
    "missing": (row("missing", "nowhere.mp4"), "no such video"),
    "no video": (row("no video", None), "a video's name"),
    "broken": (row("broken", "broken.mp4"), "broken.mp4"),
    "no placeholder": (row("no placeholder", talk=said("Which place?")), "got 0"),
    "two placeholders": (row("two placeholders", talk=said("<video><image>\nWhich?")), "got 2"),
    "late placeholder": (row("late placeholder", talk=said("Which?") + said("<video>")), "in the first question"),
    "empty answer": (row("empty answer", talk=said("<video>", "  ")), "an answer is empty"),
    "unanswered": (row("unanswered", talk=[*TALK, TALK[0]]), "in turn"),
    "no talk": (row("no talk", talk="hello"), "conversations"),
    "no row": ("hello", "expected"),
}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_bad_rows_are_named_and_left_out(tmp_path: Path, videos: Path, suffix: str) -> None:
    rows = [row("good"), *(value for value, _ in BAD.values()), row("also good", talk=said("Which? <image>"))]
    file = tmp_path / f"rows.{suffix}"
    file.write_text(json.dumps(rows) if suffix == "json" else "\n".join(json.dumps(r) for r in rows))
    read, bad = conversations.read(file, videos)
    good, dark = conversations.probed(read)
    assert [(r.id, r.turns) for r, _ in good] == [
        ("good", (("Which place is shown?", "A"),)),
        ("also good", (("Which?", "A"),)),
    ]
    skipped = sorted(bad + dark, key=lambda s: s.row)
    assert [s.row for s in skipped] == list(range(1, len(rows) - 1))
    for found, (_, reason) in zip(skipped, BAD.values(), strict=True):
        assert reason in found.reason


def test_files_that_are_no_list(tmp_path: Path) -> None:
    for text in ('{"id": 1}', "no json"):
        (tmp_path / "rows.json").write_text(text)
        with pytest.raises(DataError, match=r"rows\.json"):
            conversations.read(tmp_path / "rows.json", tmp_path)


def test_a_tuning_on_conversations(tmp_path: Path, videos: Path, checkpoint: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row("a"), BAD["missing"][0], row("b", talk=[*TALK, *said("Which color?", "red")])]))
    out = tmp_path / "out"
    words = ["method=lpcomp", "method.frame_ratio=1", "backbone.device=cpu", f"backbone.path={checkpoint}"]
    train.run([*words, f"data={file}", f"videos={videos}", f"out={out}", "accumulate=2", "epochs=2", "log_every=1"])
    (line,) = (out / train.SKIPPED).read_text().splitlines()
    assert json.loads(line) == {"row": 1, "id": "missing", "reason": f"no such video: {videos / 'nowhere.mp4'}"}
    assert len((out / train.CURVE).read_text().splitlines()) == 1 + 2  # two rows a step, two epochs
    assert (out / train.WEIGHTS / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_a_tuning_of_videochat_flash(tmp_path: Path, videos: Path) -> None:
    """XComp's own: clips of 8 frames, the projector free, the video's length in every first question."""
    checkpoint = random_checkpoint(tmp_path / "backbone", mm_local_num_frames=8)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row("a"), row("b", talk=[*TALK, *said("Which color?", "red")])]))
    family = load(str(checkpoint), device="cpu")
    read, _ = conversations.probed(conversations.read(file, videos)[0])
    sample = Conversations(read, frame_encoder(family), POINT)[1]
    asked = family.tokenizer.decode(sample.suffix_ids[0, 0])
    told = "The video lasts for 0.96 seconds, and 24 frames are uniformly sampled from it. Which place is shown?"
    assert asked.startswith(f"\n{told}<|im_end|>")
    assert asked.count("The video lasts") == 1
    words = ["method=lpcomp", "method.frame_ratio=1", "backbone.device=cpu", f"backbone.path={checkpoint}"]
    out = tmp_path / "out"
    words += [
        "projector=true",
        f"data={file}",
        f"videos={videos}",
        f"out={out}",
        "accumulate=1",
        "epochs=2",
        "log_every=1",
    ]
    train.run(words)
    tuned = load(str(checkpoint), device="cpu", adapter=str(out / train.WEIGHTS)).model.state_dict()
    changed = {name for name, weight in family.model.state_dict().items() if not torch.equal(weight, tuned[name])}
    assert {name.split(".")[1] for name in changed} == {"layers", "mm_projector"}


def test_the_prompt_is_the_evaluations_and_the_loss_is_on_answers(backbone: Qwen2VL) -> None:
    decode = backbone.tokenizer.decode
    head, tail, targets = tokenised(backbone, (("Which place is shown?", "A"), ("Which color?", "red")))
    asked = backbone.prompt("Which place is shown?", video=True)
    assert head == asked[0]
    assert tail[: len(asked[1])] == asked[1]
    assert len(tail) == len(targets)
    learned = [i for i, t in enumerate(targets) if t != IGNORE]
    assert [targets[i] for i in learned] == [tail[i + 1] for i in learned]
    assert decode([targets[i] for i in learned]).replace(" ", "") == "A<|im_end|>red<|im_end|>"
    # the first answer comes where evaluation would begin to generate
    assert learned[0] == len(asked[1]) - 1
    assert "Which color?" in decode(tail)


def test_a_frame_that_does_not_decode_lets_the_next_row_stand_in(
    backbone: Qwen2VL, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit.errors import VideoError

    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row("a"), row("b", talk=said("<video> Which color?", "red"))]))
    good, _ = conversations.probed(conversations.read(file, videos)[0])
    samples = conversations.Conversations(good, frame_encoder(backbone), POINT)
    second, decode, tries = samples[1], FrameEncoder.decode, []

    def fails_once(self: FrameEncoder, video: Any, plans: Any) -> Any:
        tries.append(video)
        if len(tries) == 1:
            raise VideoError("dark")
        return decode(self, video, plans)

    monkeypatch.setattr(FrameEncoder, "decode", fails_once)
    assert torch.equal(samples[0].suffix_ids, second.suffix_ids)
    monkeypatch.setattr(FrameEncoder, "decode", lambda *_: (_ for _ in ()).throw(VideoError("dark")))
    with pytest.raises(DataError, match="none does"):
        samples[0]


# ---- generated worlds


def builtin(backbone: Qwen2VL, seed: int = 0) -> Builtin:
    return Builtin(frame_encoder(backbone), POINT, cells=[8, 4], per_sequence=8, questions=3, seed=seed)


def same(a: Sample, b: Sample) -> bool:
    frames = all((x.pixels == y.pixels).all() for (_, _, x), (_, _, y) in zip(a.seen, b.seen, strict=True))
    return frames and torch.equal(a.suffix_ids, b.suffix_ids) and torch.equal(a.targets, b.targets)


def test_generated_samples(backbone: Qwen2VL) -> None:
    samples = builtin(backbone)
    first, second = samples[0], samples[1]
    assert [len(s.seen) for s in (first, second)] == [1, 2]  # as many videos as make 8 cells
    assert [s.seen[0][2].pixels.shape for s in (first, second)] == [(16, 112, 112, 3), (8, 112, 112, 3)]
    assert same(first, builtin(backbone)[0])
    assert not same(first, builtin(backbone, seed=1)[0])
    assert not same(first, samples[2])
    seeds = [int(video.path.name.removeprefix("world-")) for s in (first, second) for video, _, _ in s.seen]
    assert all(seed in TRAIN_SEEDS for seed in seeds)
    assert collate([first]) == {"sample": first}


def test_generated_answers(backbone: Qwen2VL) -> None:
    decode = backbone.tokenizer.decode
    sample = builtin(backbone)[1]
    for tail, targets in zip(sample.suffix_ids.flatten(0, 1), sample.targets.flatten(0, 1), strict=True):
        at = (targets != IGNORE).nonzero()[:, 0].tolist()
        letter, end = targets[at].tolist()
        assert decode(letter) in "ABCD"
        assert decode(end) == "<|im_end|>"
        assert tail[at[0] + 1] == letter
        # evaluation begins to generate at the same place
        assert decode(tail[: at[0] + 1]).endswith("<|im_start|>assistant\n")
