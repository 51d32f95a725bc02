"""What an answer records beside the reply: the option margin, and the costs that no other question shares."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from evalkit.data import video as video_file
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.runs import parse_answer
from evalkit.types import Answer, FramePlan, Video, VisualTokens
from tests.support import clips
from tests.support.loop import DENSE, answer, engine, question
from tests.support.methods import built

Answers = dict[tuple[str, float, str], Answer]  # by method, ratio and question

POINTS = [DENSE, replace(built("retake"), ratio=0.25), replace(built("qccomp"), ratio=0.5)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=120, size=(112, 112))


@pytest.fixture(scope="module")
def answers(clip: Path, backbone: Qwen2VL) -> Answers:
    return answer(engine(backbone), POINTS, [question(clip, n) for n in range(3)])


def test_the_margin_is_that_of_a_stock_forward(clip: Path, backbone: Qwen2VL, answers: Answers) -> None:
    """The language model of transformers, fed the whole prompt at once without our loop."""
    own = engine(backbone)
    video = video_file.probe(clip)
    planned = own.frame_encoder.plan(DENSE, video)
    frames = own.frame_encoder.decode(video, [planned.frames])[planned.frames]
    with torch.inference_mode():
        tokens = own.frame_encoder.encode(video, planned.frames, frames)
        asked = question(clip, 1)
        prefix, suffix = backbone.prompt(own.protocol.prompt(asked), video=True)
        start = len(prefix)
        positions = [
            backbone.positions.text_ids(0, start),
            backbone.positions.video_ids(start, tokens),
            backbone.positions.text_ids(start + backbone.positions.ids_after(tokens), len(suffix)),
        ]
        embed = backbone.text.embed_tokens
        parts = [embed(torch.tensor(prefix)), tokens.features, embed(torch.tensor(suffix))]
        hidden = backbone.text(
            inputs_embeds=torch.cat(parts)[None], position_ids=torch.cat(positions, 1)[:, None], use_cache=False
        ).last_hidden_state[0, -1]
        logs = torch.log_softmax(backbone.model.lm_head(hidden).double(), 0)
    right, wrong = (torch.logsumexp(logs[list(backbone.letter_ids[n])], 0).item() for n in (0, 1))
    found = answers["dense", 1.0, "q1"].margin
    assert found == pytest.approx(right - wrong, abs=2e-3)
    assert answers["retake", 0.25, "q1"].margin != pytest.approx(found, abs=2e-3)  # another cache, another margin


@pytest.mark.slow
def test_sharing_changes_neither(clip: Path, backbone: Qwen2VL, answers: Answers) -> None:
    alone = answer(engine(backbone, share=False), POINTS, [question(clip, n) for n in range(3)])
    for key, found in answers.items():
        assert found.ledger is not None
        assert alone[key].ledger is not None
        assert found.margin is not None
        assert (found.margin, found.ledger.own_flops) == (alone[key].margin, alone[key].ledger.own_flops)


def test_no_margin_without_options(clip: Path, backbone: Qwen2VL) -> None:
    asked = [question(clip, 0, options=()), question(clip, 1, answer=""), question(clip, 2, answer="C")]
    found = answer(engine(backbone), [DENSE], asked)
    assert [one.margin for one in found.values()] == [None] * 3
    assert [one.status for one in found.values()] != ["failed"] * 3


def test_the_margin_says_which_letter_comes_first(clip: Path, backbone: Qwen2VL) -> None:
    """Asked with either letter as the right one the margins are each other's negative."""
    both = [question(clip, n, answer=letter, id=f"{n}{letter}") for n in range(3) for letter in "AB"]
    found = list(answer(engine(backbone), [DENSE], both).values())
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert one.margin is not None
        assert one.margin == pytest.approx(-(other.margin or 0))
        assert one.text == other.text


def test_own_operations_by_hand(answers: Answers, backbone: Qwen2VL) -> None:
    """A dense answer's own part: the question's tokens against all before them, and what was generated."""
    spent = answers["dense", 1.0, "q0"].ledger
    assert spent is not None
    assert spent.flops is not None
    own = spent.own_flops
    assert own is not None
    total = sum(vars(spent.flops).values())
    assert 0 < spent.flops.generate < own < total - spent.flops.encode
    config = backbone.text.config
    width, heads, groups, head = (
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        backbone.text.config.hidden_size // config.num_attention_heads,
    )
    prefix, suffix = backbone.prompt("How many objects appear?\none two", video=True)
    fed, seen = len(suffix), len(prefix) + spent.tokens_selected + len(suffix)
    each = 2 * width * head * (heads + 2 * groups) + 2 * heads * head * width + 6 * width * config.intermediate_size
    layers = config.num_hidden_layers
    asked = layers * fed * each + layers * fed * seen * 4 * heads * head + 2 * width * config.vocab_size
    assert own == asked + spent.flops.generate


def test_a_query_aware_method_shares_less(answers: Answers) -> None:
    """Its prefill is the question's own; of its choice the passes over the video are shared."""
    spent = answers["qccomp", 0.5, "q0"].ledger
    assert spent is not None
    assert spent.flops is not None
    assert spent.own_flops is not None
    assert spent.flops.prefill + spent.flops.generate < spent.own_flops
    assert spent.own_flops < spent.flops.prefill + spent.flops.generate + spent.flops.select
    assert spent.own_seconds is not None
    assert spent.own_seconds <= spent.seconds.total - spent.seconds.decode - spent.seconds.encode + 1e-5
    blind = answers["retake", 0.25, "q0"].ledger
    assert blind is not None
    assert blind.own_seconds is not None
    assert blind.own_seconds < blind.seconds.prefill + blind.seconds.generate


def test_last_frames_by_hand(clip: Path, backbone: Qwen2VL) -> None:
    """Each cell ends with its second frame; seven frames make four cells, the last of one frame."""
    dense = answer(engine(backbone), [DENSE], [question(clip, 0)])["dense", 1.0, "q0"].kept
    assert dense is not None
    assert dense.last_seconds is not None
    assert all(a < b for a, b in zip(dense.seconds, dense.last_seconds, strict=True))
    assert all(a < b for a, b in zip(dense.last_seconds, dense.seconds[1:], strict=False))

    @dataclass(frozen=True, kw_only=True)
    class Seven(Method):
        def frames(self, video: Video, budget: Budget) -> FramePlan:
            return replace(super().frames(video, budget), indices=(0, 10, 20, 30, 40, 50, 60))

        def select(self, tokens: VisualTokens, budget: Budget, ask: AttentionFromQuestion) -> VisualTokens:
            return tokens.keep((tokens.cell % 3 == 0).nonzero()[:, 0])

    found = answer(engine(backbone), [OperatingPoint("seven", Seven(), 1.0)], [question(clip, 0)])["seven", 1.0, "q0"]
    assert found.kept is not None, found.error
    step = video_file.probe(clip).duration_s / 120
    assert found.kept.seconds == pytest.approx([0, 60 * step], abs=2e-3)
    assert found.kept.last_seconds == pytest.approx([10 * step, 60 * step], abs=2e-3)


def test_a_line_reads_back(answers: Answers) -> None:
    for found in answers.values():
        assert parse_answer.read(json.loads(json.dumps(found.to_dict())), "a test") == found
