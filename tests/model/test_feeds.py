"""After every feed the cache holds what was counted; a library that does not fill it is refused before a question."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.errors import ConfigError, ModelError
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.kv_cache import PreallocatedLayer
from evalkit.model.load import load
from methods.pivotkv import PivotKV
from tests.support import clips
from tests.support.loop import DENSE, answer, answer_key, engine, question, replied

UPDATE = PreallocatedLayer.update
Forward = Callable[..., Any]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=32, size=(112, 112))


def with_forward(backbone: Qwen2VL, wrap: Callable[[Forward], Forward]) -> Qwen2VL:
    """The backbone over a language model whose forward is another one."""
    model = copy.deepcopy(backbone.model)
    text = model.model.language_model
    text.forward = wrap(text.forward)
    return Qwen2VL(model, backbone.tokenizer)


def dropping(layer: PreallocatedLayer, when: Callable[[int], bool]) -> Callable[..., tuple[Tensor, Tensor]]:
    """An update that loses the oldest entry after feeds of a length."""

    def update(keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        out = UPDATE(layer, keys, values)
        if when(keys.shape[2]):
            layer._set_length(layer.length - 1)
        return out

    return update


def spoilt(layer: PreallocatedLayer, when: Callable[[int], bool]) -> PreallocatedLayer:
    """The layer, and copies of it, with that update."""
    layer.update = dropping(layer, when)  # type: ignore[method-assign]
    layer.copy = lambda: spoilt(PreallocatedLayer.copy(layer), when)  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize("point", [DENSE, OperatingPoint("pivotkv", PivotKV(), 0.5)])
@pytest.mark.parametrize(
    "when",
    [lambda size: size == 1, lambda size: 1 < size < 64, lambda size: size == 64],
    ids=["reply", "text", "video"],
)
def test_a_cache_that_drops_an_entry_fails_the_row(
    when: Callable[[int], bool], point: OperatingPoint, clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = backbone.new_state

    def one_bad_layer() -> Any:
        made = context()
        spoilt(made.layers[2], when)
        return made

    loop = engine(backbone, chunk_cells=4)
    (sound,) = answer(loop, [point], [question(clip, 0)]).values()
    monkeypatch.setattr(backbone, "new_state", one_bad_layer)
    (row,) = answer(loop, [point], [question(clip, 0)]).values()
    assert sound.status != "failed"
    assert (row.status, row.correct) == ("failed", None)
    assert "the cache of layer 2 holds" in str(row.error)
    assert "(1 of 6 layers are wrong)" in str(row.error)


@pytest.mark.parametrize("together", [False, True], ids=["fed alone", "read together"])
def test_the_next_question_is_answered_as_before(
    clip: Path, backbone: Qwen2VL, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed question left behind is cut off."""
    questions = [question(clip, n) for n in range(3)]
    whole = answer(engine(backbone), [DENSE], questions)
    monkeypatch.setitem(vars(backbone), "reads_together", together)
    name, fed = ("append_tail", 2) if together else ("prefill_text", 3)  # the prompt's head comes first
    feed, calls = getattr(Qwen2VL, name), []

    def second_question_fails(self: Qwen2VL, context: Any, asked: Any, **kwargs: Any) -> Tensor:
        calls.append(kwargs.get("decoding", False))
        if calls.count(False) == fed:
            context.layers[0].update = dropping(context.layers[0], lambda _: True)
        try:
            return feed(self, context, asked, **kwargs)
        finally:
            vars(context.layers[0]).pop("update", None)

    monkeypatch.setattr(Qwen2VL, name, second_question_fails)
    found = answer(engine(backbone), [DENSE], questions)
    assert found["dense", 1.0, "q1"].status == "failed"
    for id_ in ("q0", "q2"):
        assert answer_key(found["dense", 1.0, id_]) == answer_key(whole["dense", 1.0, id_])


def test_the_cache_is_passed_by_the_name_that_the_model_knows(backbone: Qwen2VL) -> None:
    """transformers calls it past_key_values up to 5.23 and cache from 5.24 on; what a forward does not know is lost in
    its keyword arguments.
    """

    def renamed(forward: Forward) -> Forward:
        def new(inputs_embeds: Tensor, position_ids: Tensor, cache: Any = None, **kwargs: Any) -> Any:
            known = {key: kwargs[key] for key in ("attention_mask", "use_cache")}
            return forward(
                inputs_embeds=inputs_embeds, position_ids=position_ids, **known, **{backbone.cache_name: cache}
            )

        return new

    def older(forward: Forward) -> Forward:
        def old(inputs_embeds: Tensor, position_ids: Tensor, past_key_values: Any = None, **kwargs: Any) -> Any:
            return renamed(forward)(inputs_embeds, position_ids, cache=past_key_values, **kwargs)

        return old

    def reply(decoder: Qwen2VL) -> list[int]:
        context = decoder.new_state()
        with torch.inference_mode():
            decoder.prefill_text(context, [1, 2, 3, 4])
            return replied(decoder, context, [5, 6], 4)

    expected = reply(backbone)
    for wrap, name in ((renamed, "cache"), (older, "past_key_values")):
        decoder = with_forward(backbone, wrap)
        assert decoder.cache_name == name
        assert reply(decoder) == expected


def test_a_model_without_an_argument_for_the_cache_is_refused(backbone: Qwen2VL) -> None:
    def other(forward: Forward) -> Forward:
        return lambda inputs_embeds, states=None, **kwargs: forward(inputs_embeds=inputs_embeds, **kwargs)

    with pytest.raises(
        ConfigError, match=r"expected one of the arguments cache, past_key_values, came inputs_embeds, s"
    ):
        with_forward(backbone, other).probe()


def test_a_model_that_keeps_a_cache_of_its_own_is_refused(backbone: Qwen2VL) -> None:
    def own(forward: Forward) -> Forward:
        return lambda cache=None, **kwargs: forward(**kwargs)

    decoder = with_forward(backbone, own)
    with pytest.raises(ConfigError, match=r"cannot be fed with transformers 5\.\d+.* holds 0 entries .* expected 2"):
        decoder.probe()
    with torch.inference_mode(), pytest.raises(ModelError, match=r"\(6 of 6 layers are wrong\)"):
        decoder.prefill_text(decoder.new_state(), [1, 2])


def test_loading_probes_the_library(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreallocatedLayer, "update", lambda self, *states, **_: dropping(self, lambda _: True)(*states))
    with pytest.raises(ConfigError, match="cannot be fed with transformers"):
        load(str(checkpoint), device="cpu")
