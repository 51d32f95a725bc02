"""The differentiable forward against the engine's chunked path and against traces of the released training code."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.model import attention
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.packed_questions import IGNORE
from evalkit.tune import forward
from evalkit.types import Pruned, VisualTokens
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from tests.support.closeness import RTOL, apart
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

HEAD, TAIL = [5, 6, 7], [8, 9, 10, 11]
VARIANTS = [LPComp(schedule=s, keep=k, frame_ratio=1.0) for s in ("cosine", "stepwise") for k in ("suffix", "uniform")]
RENUMBERED = [replace(VARIANTS[0], positions=p) for p in ("renumber", "keep")]


def language_model(**changes: object) -> Qwen2ForCausalLM:
    fields = {
        "vocab_size": 96,
        "hidden_size": 128,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.1,
    }
    torch.manual_seed(0)
    config = Qwen2Config(**{**fields, **changes}, attn_implementation=attention.register())
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def plain() -> Qwen2:
    """A random model with 1-D RoPE."""
    return Qwen2(language_model())


@pytest.fixture(params=["qwen2_vl", "qwen2"])
def decoder(request: pytest.FixtureRequest, backbone: Qwen2VL, plain: Qwen2) -> Decoder:
    return backbone if request.param == "qwen2_vl" else plain


@pytest.fixture(scope="module")
def tokens(backbone: Qwen2VL) -> VisualTokens:
    return visual(backbone, frames=8)


def chunked(decoder: Decoder, tokens: VisualTokens, method: Method, chunk_cells: int | None = None) -> Tensor:
    """The engine's path: the last tail token's hidden state (D,)."""
    context = decoder.new_state()
    decoder.prefill_text(context, HEAD)
    budget = budget_of(decoder.layers, tokens, 1.0)
    decoder.prefill_video(context, tokens, method, budget, chunk_cells=chunk_cells, suffix_ids=TAIL)
    return decoder.prefill_text(context, TAIL)


def at_once(decoder: Decoder, tokens: VisualTokens, method: Method, tails: list[list[int]]) -> Tensor:
    """Hidden states (1, Q, A, D) of the tails."""
    sizes = (len(tails), len(tails[0]))
    schedule = forward.prune_schedule(
        decoder, method, tokens, budget_of(decoder.layers, tokens, 1.0), n_prefix=len(HEAD), suffix_shape=sizes
    )
    embeds = forward.embed(decoder, torch.tensor(HEAD), tokens.features[None], torch.tensor([tails]))
    return forward.forward(decoder, schedule, embeds)


@pytest.mark.parametrize("method", [Method(), *VARIANTS, *RENUMBERED], ids=str)
def test_equals_the_engines_path(decoder: Decoder, tokens: VisualTokens, method: Method) -> None:
    with torch.inference_mode():
        found = at_once(decoder, tokens, method, [TAIL])[0, 0, -1]
        torch.testing.assert_close(found, chunked(decoder, tokens, method), rtol=0, atol=1e-5)


def test_equals_the_engines_path_in_chunks(backbone: Qwen2VL, tokens: VisualTokens) -> None:
    with torch.inference_mode():
        found = at_once(backbone, tokens, VARIANTS[0], [TAIL])[0, 0, -1]
        torch.testing.assert_close(found, chunked(backbone, tokens, VARIANTS[0], 2), rtol=0, atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Prefix(LPComp):
    """Negative control: the same counts, the wrong end of each cell."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        stays = tokens.place < self.counts(budget)[layer]
        return None if bool(stays.all()) else Pruned(index=stays.nonzero()[:, 0])


def test_the_prefix_is_another_model(decoder: Decoder, tokens: VisualTokens) -> None:
    with torch.inference_mode():
        found = at_once(decoder, tokens, Prefix(frame_ratio=1.0), [TAIL])[0, 0, -1]
        assert (found - chunked(decoder, tokens, VARIANTS[0])).abs().max() > 1e-3


@pytest.mark.parametrize("method", [VARIANTS[0], RENUMBERED[0]], ids=["as the backbone", "renumbered"])
def test_several_questions_are_as_if_alone(decoder: Decoder, tokens: VisualTokens, method: Method) -> None:
    tails = [TAIL, TAIL[::-1], [1, 2, 3, 0]]
    with torch.inference_mode():
        together = at_once(decoder, tokens, method, tails)[0]
        alone = torch.cat([at_once(decoder, tokens, method, [tail])[0] for tail in tails])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
        # negative control: what a tail reads matters
        assert (together[0] - together[1]).abs().max() > 1e-3


def test_several_videos_are_as_if_alone(backbone: Qwen2VL, tokens: VisualTokens) -> None:
    other = replace(tokens, features=tokens.features.flip(0))
    budget = budget_of(backbone.layers, tokens, 1.0)
    schedules = [
        forward.prune_schedule(backbone, VARIANTS[0], t, budget, n_prefix=3, suffix_shape=(1, 4))
        for t in (tokens, other)
    ]
    with torch.inference_mode():
        features = torch.stack([tokens.features, other.features])
        embeds = forward.embed(backbone, torch.tensor(HEAD), features, torch.tensor([[TAIL], [TAIL]]))
        both = forward.forward(backbone, forward.shared_schedule(schedules), embeds)
        alone = torch.cat([at_once(backbone, t, VARIANTS[0], [TAIL]) for t in (tokens, other)])
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_videos_that_go_different_ways_are_refused(backbone: Qwen2VL, tokens: VisualTokens) -> None:
    budget = budget_of(backbone.layers, tokens, 1.0)
    schedules = [
        forward.prune_schedule(backbone, m, tokens, budget, n_prefix=3, suffix_shape=(1, 4))
        for m in (VARIANTS[0], VARIANTS[1])
    ]
    with pytest.raises(MethodError, match="one video a sequence"):
        forward.shared_schedule(schedules)


def test_a_method_that_cuts_the_cache_is_refused(backbone: Qwen2VL, tokens: VisualTokens) -> None:
    with pytest.raises(MethodError, match="overrides evict"):
        at_once(backbone, tokens, PivotKV(), [TAIL])


def test_gradient_checkpointing_changes_nothing() -> None:
    def learned(checkpointing: bool) -> tuple[Tensor, dict[str, Tensor]]:
        model = language_model().train()
        if checkpointing:
            forward.rerun_layers(model)
            runs.clear()
            model.model.layers[3].mlp.register_forward_pre_hook(lambda _, args: runs.append(args[0].shape[1]))
        decoder = Qwen2(model)
        video = VisualTokens.dense(torch.linspace(-1, 1, 32 * 128).view(32, 128), seconds=[0, 1], grid=(4, 4))
        targets = torch.tensor([[[IGNORE, IGNORE, 4, 5]]])
        value, _ = forward.loss(decoder, at_once(decoder, video, VARIANTS[0], [TAIL]), targets)
        value.backward()
        return value.detach(), {name: p.grad for name, p in model.named_parameters()}

    runs: list[int] = []
    (loss, grads), (again, again_grads) = learned(False), learned(True)
    assert len(runs) == 2, "the layer should have run once more"
    assert runs[0] == runs[1] < 32 + len(HEAD) + len(TAIL)
    assert torch.equal(loss, again)
    assert grads.keys() == again_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(again_grads[name], grad, rtol=0, atol=1e-7)
    assert max(g.abs().max() for g in grads.values()) > 1e-4


# ---- traces of the released training code

LP = Path("xcomp") / "lp_comp"
METHODS = {
    "suffix_cosine": VARIANTS[0],
    "identity": LPComp(schedule="identity"),
    "uniform_cosine": VARIANTS[1],  # of these two, lengths, loss and gradients are known alone
    "stepwise_10_20_stride4": VARIANTS[3],
}


@dataclass
class Golden:
    """The reference's tiny model, its prompt, and what it found for one variant."""

    decoder: Qwen2
    video: VisualTokens
    ids: Tensor
    split: int
    trace: dict[str, Tensor]
    meta: dict[str, Any]

    def replay(self, method: Method) -> tuple[forward.PruneSchedule, list[Tensor], Tensor]:
        """Path, what entered each layer, and the tail's hidden states (1, 1, A, D)."""
        tail = self.ids[self.split + 1 :]
        budget = budget_of(self.decoder.layers, self.video, 1.0)
        schedule = forward.prune_schedule(
            self.decoder, method, self.video, budget, n_prefix=self.split, suffix_shape=(1, len(tail))
        )
        embeds = forward.embed(self.decoder, self.ids[: self.split], self.video.features[None], tail[None, None])
        entering: list[Tensor] = []
        return schedule, entering, forward.forward(self.decoder, schedule, embeds, entering)

    def targets(self, labels: Tensor) -> Tensor:
        """The token after each position of the tail, (1, 1, A)."""
        after = labels[self.split + 1 :].roll(-1)
        after[-1] = IGNORE
        return after[None, None]


@pytest.fixture(params=sorted(METHODS))
def variant(request: pytest.FixtureRequest, whole_golden: Path) -> tuple[Golden, Method, Tensor]:
    folder = whole_golden / LP
    meta = json.loads((folder / "meta.json").read_text())
    config = dict(meta["config"])
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    model = language_model(**config)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    inputs = load_file(folder / "inputs.safetensors")
    frames = inputs["image_features"]
    video = VisualTokens.dense(frames.flatten(0, 1), seconds=range(len(frames)), grid=(4, 4))
    file = folder / f"{request.param}.safetensors"
    trace = load_file(file) if file.exists() else {}
    split = meta["inputs"]["image_position"]
    found = Golden(Qwen2(model.train()), video, inputs["input_ids"], split, trace, meta[request.param])
    return found, METHODS[request.param], inputs["labels"]


@pytest.mark.parametrize("variant", ["suffix_cosine", "identity"], indirect=True)
def test_released_training_forward(variant: tuple[Golden, Method, Tensor]) -> None:
    found, method, labels = variant
    with torch.no_grad():
        schedule, entering, hidden = found.replay(method)
        logits = found.decoder.logits(hidden[0, 0])
        value, _ = forward.loss(found.decoder, hidden, found.targets(labels))
    for layer, (seen, ids) in enumerate(zip(entering, schedule.ids, strict=True)):
        assert torch.equal(ids[0], found.trace[f"layer_pos.{layer}"].flatten())
        if f"layer_in.{layer}" in found.trace:
            assert apart(seen[0], found.trace[f"layer_in.{layer}"]) < RTOL
    assert apart(logits, found.trace["logits"][-len(logits) :]) < RTOL
    torch.testing.assert_close(value[None], found.trace["loss"], rtol=0, atol=1e-4)
    # negative control of the replay
    with torch.no_grad():
        prefix = found.decoder.logits(found.replay(Prefix(frame_ratio=1.0))[2][0, 0])
    assert (prefix - found.trace["logits"][-len(logits) :]).abs().max() > 0.1


def test_released_gradients(variant: tuple[Golden, Method, Tensor]) -> None:
    found, method, labels = variant
    schedule, _, hidden = found.replay(method)
    assert [ids.shape[1] for ids in schedule.ids] == found.meta["seq_len_per_layer"]
    value, _ = forward.loss(found.decoder, hidden, found.targets(labels))
    assert value.item() == pytest.approx(found.meta["loss"], abs=1e-4)
    value.backward()
    norms = {name: p.grad.norm().item() for name, p in found.decoder.model.named_parameters()}
    assert norms == pytest.approx(found.meta["grad_norms"], rel=1e-4, abs=1e-4)
    # negative control: of any other variant they are others
    others = [v for v in METHODS.values() if v != method]
    with torch.no_grad():
        losses = [forward.loss(found.decoder, found.replay(v)[2], found.targets(labels))[0].item() for v in others]
    assert all(abs(loss - found.meta["loss"]) > 1e-3 for loss in losses)
