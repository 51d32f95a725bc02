"""Scores of frames for AKS and BOLT: equal to plain forwards of transformers, kept when a command ends early."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from evalkit import __main__
from evalkit.commands import score_frames
from evalkit.data import benchmarks, video
from evalkit.data.benchmarks import frame_scores
from evalkit.data.decoding.source import DecodeInProcess
from evalkit.data.prepare.frame_scores_file import FrameScoresFile
from evalkit.errors import ConfigError, DataError
from evalkit.model import frame_scorer
from evalkit.testing import clips, method_contract
from evalkit.types import Benchmark, FramePlan
from tests.support import frame_scorers
from tests.support.loop import question

TEXTS = ("how many objects appear", "what comes next")
MADE = {"model": "tiny", "every": 1.0}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Two questions about a video of 70 frames, 25 a second, and one about a file that is none."""
    folder = tmp_path_factory.mktemp("scored")
    clip = clips.make(folder / "clip.mp4", frames=70, size=(48, 64))
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    asked = [question(clip, n, text=text, frame_scores=None) for n, text in enumerate(TEXTS)]
    asked.append(question(broken, 2, frame_scores=None))
    return Benchmark(name="mlvu", label="MLVU", root=folder, split="dev", questions=tuple(asked))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frame_scorers.checkpoint("clip", tmp_path_factory.mktemp("clip") / "checkpoint")


def scored(loaded: Benchmark, scorer: Any, file: FrameScoresFile) -> dict[str, str]:
    return score_frames.score([loaded], scorer, file, DecodeInProcess(), every=1.0, batch=2)


def plain(kind: str, folder: Path, frames: Sequence[np.ndarray], texts: Sequence[str]) -> Tensor:
    """(texts, frames) by one forward of transformers' class for all of them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(
        images=list(frames), return_tensors="pt"
    )
    name = {"clip": "CLIPModel", "siglip": "SiglipModel", "blip": "BlipForImageTextRetrieval"}[kind]
    model = getattr(transformers, name).from_pretrained(folder).eval()
    with torch.inference_mode():
        if kind == "blip":
            asked = [tokenizer([text] * len(frames), return_tensors="pt") for text in texts]
            out = [model(**pixels, input_ids=a["input_ids"], attention_mask=a["attention_mask"]) for a in asked]
            return torch.stack([each.itm_score.softmax(-1)[:, 1] for each in out])
        padding = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {"padding": True}
        words = tokenizer(list(texts), return_tensors="pt", **padding)
        mask = {} if kind == "siglip" else {"attention_mask": words["attention_mask"]}
        logits = model(**pixels, input_ids=words["input_ids"], **mask).logits_per_text
        return (logits - getattr(model, "logit_bias", 0)) / model.logit_scale.exp()


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_scores_are_those_of_a_plain_forward(kind: str, loaded: Benchmark, tmp_path: Path) -> None:
    folder = frame_scorers.checkpoint(kind, tmp_path / kind)
    file = FrameScoresFile(tmp_path / "scores.json", MADE)
    lost = scored(loaded, frame_scorer.load(str(folder), device="cpu"), file)
    assert list(lost) == ["broken.mp4"]
    (found,) = frame_scores.placed([loaded], file.finish(complete=False))
    first, second, none = (q.frame_scores for q in found.questions)
    assert first is not None
    assert second is not None
    assert none is None
    assert first.at == second.at == (0, 25)
    known = video.probe(loaded.questions[0].video_path)
    (frames,) = video.decode(known, [FramePlan(indices=(0, 25), height=known.height, width=known.width)])
    expected = plain(kind, folder, frames.pixels, TEXTS)
    ours = torch.tensor([first.scores, second.scores])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    # another question, another frame: other scores
    assert not torch.allclose(ours, expected.flip(0), atol=1e-3)
    assert not torch.allclose(ours, expected.flip(1), atol=1e-4)


class Counting:
    """A scorer without a model, which counts its calls."""

    longest = 3

    def __init__(self) -> None:
        self.calls = 0

    def tokens(self, text: str) -> int:
        return len(text.split())

    def read(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def match(self, frames: Sequence[np.ndarray], texts: Sequence[str]) -> Tensor:
        self.calls += 1
        return torch.arange(len(texts) * len(frames)).float().view(len(texts), -1)


def test_an_ended_command_goes_on(loaded: Benchmark, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, scorer = tmp_path / "new" / "scores.json", Counting()
    assert set(scored(loaded, scorer, FrameScoresFile(out, MADE))) == {"broken.mp4"}
    assert "longer than the 3 tokens that the model reads, so that ends are cut: 1" in caplog.text
    part = out.with_name("scores.json.part.jsonl")
    with part.open("a") as stream:
        stream.write('{"id": "q2", "fra')  # cut off while it was written
    again = FrameScoresFile(out, MADE)
    assert set(again.scored) == {"q0", "q1"}
    repaired = replace(loaded.questions[2], video_path=loaded.questions[0].video_path)
    whole = replace(loaded, questions=(*loaded.questions[:2], repaired))
    assert scored(whole, scorer, again) == {}
    assert scorer.calls == 2  # one for each video
    assert json.loads(again.finish(complete=True).read_text())["q2"] == {"frames": [0, 25], "scores": [0.0, 1.0]}
    assert not part.exists()
    with pytest.raises(DataError, match=r"scores\.json: it is there already and complete"):
        FrameScoresFile(out, MADE)


def test_other_settings_do_not_mix(tmp_path: Path) -> None:
    FrameScoresFile(tmp_path / "scores.json", MADE)
    with pytest.raises(DataError, match="it was begun with another every"):
        FrameScoresFile(tmp_path / "scores.json", {**MADE, "every": 2.0})


@pytest.mark.parametrize(
    ("fps", "frames", "every", "expected"),
    [
        (29.97, 100, 1.0, (0, 29, 58)),  # as AKS: every int(fps)-th, int(frames / int(fps)) of them
        (25.0, 10, 1.0, (0,)),
        (0.5, 3, 1.0, (0, 1, 2)),
        (24.0, 100, 2.0, (0, 48)),
    ],
)
def test_which_frames_are_scored(fps: float, frames: int, every: float, expected: tuple[int, ...]) -> None:
    known = replace(method_contract.video(8), fps=fps, frames=frames)
    assert score_frames.scored_frames(known, every) == expected


def test_the_command(
    loaded: Benchmark,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a process of its own for decoding; 1, as one video cannot be read."""
    monkeypatch.setattr(benchmarks, "load", lambda name, root: [loaded])
    words = ["data", "score-frames", "mlvu", "--root", str(loaded.root), "--model", str(clip_folder)]
    words += ["--out", str(tmp_path / "scores.json"), "--device", "cpu"]
    assert __main__.main(words) == 1
    said = capsys.readouterr().out
    assert "2 of 3 questions scored (cosine similarity of the two embeddings)" in said
    assert "left out: broken.mp4" in said
    assert "benchmark.frame_scores=" in said
    twice = replace(loaded, questions=loaded.questions[:2])
    monkeypatch.setattr(benchmarks, "load", lambda name, root: [twice, twice])
    assert __main__.main(words) == 2


def test_what_is_no_scorer_is_refused(clip_folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model=.*: expected a model_type of clip, siglip, blip in config.json"):
        frame_scorer.load(str(checkpoint), device="cpu")
    with pytest.raises(ConfigError, match=r"--model=owner/name: no such folder, and no such repository"):
        frame_scorer.load("owner/name", device="cpu")
