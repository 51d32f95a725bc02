"""What every method keeps: sound plans within the budget, dense answers at ratio 1, the ratio spent, no side effects.

Each check takes a method and raises AssertionError with what was expected and what came.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, fields, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evalkit.encoder_view import EncoderView
from evalkit.method import Budget, Method, OperatingPoint
from evalkit.model.encoder_reader import untimed
from evalkit.testing import clips
from evalkit.testing.loop import DENSE, alike, answer, engine, question, scores, size
from evalkit.types import Video, VisualTokens

if TYPE_CHECKING:
    from evalkit.encoder_view import Need
    from evalkit.engine.answer import Engine
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import Answer, Question

Check = Callable[[Method], None]
RATIOS = (1.0, 0.5, 0.25, 0.125)
TOLERANCE = 0.02  # between nominal and achieved ratio, as a share of the nominal one
LAYERS, SIDE = 4, 28  # of what is checked on: decoder layers, and pixels per side of a visual token
CHUNK = 6  # cells that are fed at once, of 16: twice as many as the lowest ratio leaves, and the last chunk is shorter
FRAMES = 64  # of the clip, half of which are looked at
NEW_TOKENS = 3  # of a reply: the first one's margin tells caches apart, the others that decoding reads what is kept


def is_a_frozen_dataclass(method: Method) -> None:
    """A method is a value: it can be compared, hashed and copied, and nothing can be set on it."""
    expect(isinstance(method, Method), f"an evalkit.method.Method, got {method!r}")
    expect("__dataclass_fields__" in vars(type(method)), f"{type(method).__name__} to be decorated as a dataclass")
    twin = copy.deepcopy(method)
    expect(method == twin and hash(method) == hash(twin), f"{method!r} to equal its copy, and their hashes too")
    for name in [field.name for field in fields(method)] or ["anything"]:
        try:
            setattr(method, name, None)
        except (FrozenInstanceError, AttributeError, TypeError):
            continue
        raise AssertionError(f"expected a frozen dataclass, but {type(method).__name__}.{name} could be set")


def plans_are_sound(method: Method) -> None:
    """`frames` gives known frames in ascending order, whole visual tokens, no more than the budget, always the same."""
    draw = Random(0)
    for _ in range(25):
        cells = draw.randint(1, 40)
        limits = budget(2 * cells, draw.uniform(0.05, 1), draw.randint(1, 6), draw.randint(1, 6))
        plan = method.frames(video(2 * cells), limits)
        case = f"{plan} for {limits}"
        expect(list(plan.indices) == sorted(set(plan.indices)), f"ascending frame numbers, each once, got {case}")
        expect(all(0 <= i < 6 * cells for i in plan.indices), f"frame numbers from 0 to {6 * cells - 1}, got {case}")
        expect(set(plan.slots) == set(range(len(plan.indices))), f"every frame in a slot, got {case}")
        expect(plan.height % SIDE == plan.width % SIDE == 0, f"sides that are multiples of {SIDE}, got {case}")
        spent = len(plan.slots) // 2 * (plan.height // SIDE) * (plan.width // SIDE)
        expect(spent <= limits.dense_tokens, f"at most {limits.dense_tokens} tokens, got {spent}: {case}")
        expect(plan == method.frames(video(2 * cells), limits), f"the same plan at every call, got another than {case}")


def answers_are_those_of_the_ratio(method: Method) -> None:
    """Dense answers at ratio 1 (where `identity_at_one`), the ratio spent, and the same whatever the chunk size."""
    with TemporaryDirectory() as folder:
        questions = _questions(Path(folder), backbone())
        points = [OperatingPoint("checked", method, ratio) for ratio in RATIOS]
        found, dense = answer(_engine(backbone(), CHUNK), points, questions), _dense(backbone())
        same = all(alike(found["checked", 1.0, q.id], dense[q.id]) for q in questions)
        expect(
            same == method.identity_at_one,
            f"answers and costs at ratio 1 {'equal to' if method.identity_at_one else 'other than'} the dense run's, "
            f"as identity_at_one = {method.identity_at_one} says",
        )
        for ratio in RATIOS:
            _expect_spent(method, ratio, found["checked", ratio, "q0"])
        _expect_less(method, [found["checked", ratio, "q0"] for ratio in RATIOS])
        # what a chunk is, is part of a method that evicts by chunks: there only ratio 1 is independent of it
        free = [point for point in points if point.ratio == 1 or not method.overrides("evict")]
        if not method.overrides("prune") and not method.overrides("evict"):
            free = points[-1:]  # it never sees a chunk: one ratio shows that the engine treats its tokens alike
        # every other ratio with each size, and one question, which was asked together with another before
        for cells, chosen in ((1, free[::2]), (None, free[1::2] or free)):
            for key, one in answer(_engine(backbone(), cells), chosen, questions[1:]).items():
                expect(alike(one, found[key]), f"the same answer with chunks of {cells} cells, {key} differs")


@cache
def _clip(size: tuple[int, int]) -> bytes:
    """A video file."""
    with TemporaryDirectory() as folder:
        return clips.make(Path(folder) / "clip.mp4", frames=FRAMES, size=size).read_bytes()


def _questions(folder: Path, model: VideoLLM) -> list[Question]:
    """Two about one clip, which is written into `folder`."""
    clip = folder / "clip.mp4"
    clip.write_bytes(_clip(size(model)))
    return [question(clip, number, frame_scores=scores(range(FRAMES), seed=number)) for number in range(2)]


def _engine(model: VideoLLM, cells: int | None) -> Engine:
    """One that feeds as many cells at once."""
    return engine(model, new_tokens=NEW_TOKENS, chunk_cells=cells)


@cache
def _dense(model: VideoLLM) -> dict[str, Answer]:
    """What the dense run answers and costs, by question: the same whatever method is held against it."""
    with TemporaryDirectory() as folder:
        questions = _questions(Path(folder), model)
        found = answer(_engine(model, CHUNK), [DENSE], questions)
    return {q.id: found["dense", 1.0, q.id] for q in questions}


def _expect_spent(method: Method, ratio: float, given: Any) -> None:
    expect(given.ledger is not None, f"an answer at ratio {ratio}, got the error {given.error}")
    achieved = given.ledger.ratio_achieved
    if not method.spends:
        expect(achieved == 0, f"nothing spent, as spends = False says, got {achieved}")
    elif method.off_ratio:
        expect(0 < achieved <= 1, f"a share between 0 and 1 where off_ratio says why, got {achieved}")
    else:
        expect(abs(achieved - ratio) <= TOLERANCE * ratio, f"the ratio {ratio} within 2 %, got {achieved}")


def _expect_less(method: Method, falling: list[Any]) -> None:
    """The lower the ratio, the less is spent, whatever the method's `off_ratio` says."""
    achieved = [given.ledger.ratio_achieved for given in falling]
    expect(
        achieved == sorted(achieved, reverse=True) and (achieved[-1] < achieved[0] or not method.spends),
        f"less spent at a lower ratio, got {achieved} at {RATIOS}",
    )


def nothing_is_changed(method: Method) -> None:
    """The visual tokens that a method is given, its own fields and the model's hooks are afterwards as before."""
    from evalkit.model.question_attention import QuestionAttention

    model = backbone()
    tokens = visual(model, frames=20, needs=method.needs)
    before = {field.name: copy.deepcopy(getattr(tokens, field.name)) for field in fields(VisualTokens)}
    twin, attached, limits = copy.deepcopy(method), hooks(model), replace(budget(20, 0.5), layers=model.layers)
    question_attention = QuestionAttention(model, tokens, method, limits, chunk_cells=4)
    question_attention.set_question([1], [2, 3], 2)
    with torch.inference_mode():
        selected = method.select(tokens, limits, question_attention)
        _expect_merging_told(tokens, selected)
        state = model.new_state()
        if method.whole:
            model.prefill_whole(state, [1], selected, [2, 3], method, limits)
        else:
            model.prefill_text(state, [1])
            model.prefill_video(state, selected, method, limits, chunk_cells=4, suffix_ids=[2, 3])
    for name, value in before.items():
        expect(_equal(getattr(tokens, name), value), f"VisualTokens.{name} as it was given, it was changed")
    expect(method == twin, f"the method's fields as they were, {twin!r}, got {method!r}")
    expect(hooks(model) == attached, "no hook left on the model")


def _expect_merging_told(encoded: VisualTokens, selected: VisualTokens) -> None:
    """A token whose feature is another than the encoded one's says of which tokens it is made."""
    own = encoded.features[selected.cell * (encoded.grid[0] * encoded.grid[1]) + selected.place]
    other = (selected.features != own).any(1).cpu()
    made = torch.zeros(len(selected), dtype=torch.bool)
    if selected.merged is not None:
        made = selected.merged.counts(len(selected)) > 1
    expect(not bool((other & ~made).any()), "encoded features, or tokens made by VisualTokens.merge()")


def _equal(now: Any, before: Any) -> bool:
    """Of tensors, of plain values, and of what holds some of either."""
    if isinstance(before, torch.Tensor):
        return torch.equal(now, before)
    if isinstance(before, EncoderView):
        return all(_equal(value, vars(before)[name]) for name, value in vars(now).items())
    return bool(now == before)


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (is_a_frozen_dataclass, plans_are_sound, answers_are_those_of_the_ratio, nothing_is_changed)
}


def check_method(method: Method) -> None:
    """Run all of `CHECKS`; AssertionError from the first that fails."""
    for check in CHECKS.values():
        check(method)


def contract(method: Method) -> Callable[[Check], None]:
    """`CHECKS` on this method as a test function, for a module that pytest collects: `test_mine = contract(Mine())`."""
    import pytest

    @pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
    def test(check: Check) -> None:
        check(method)

    return test


# ---- what the checks are made with


def expect(holds: bool, expected: str) -> None:
    """AssertionError unless `holds`."""
    if not holds:
        raise AssertionError(f"expected {expected}")


def budget(frames: int, ratio: float, rows: int = 4, columns: int = 4) -> Budget:
    """Every third frame of a video of three times as many, `rows` x `columns` visual tokens a frame."""
    return Budget(
        ratio=ratio,
        frames=tuple(range(0, 3 * frames, 3)),
        sample=lambda n: tuple(sorted({i * (3 * frames - 1) // max(1, n - 1) for i in range(n)})),
        cell_frames=2,
        clip_frames=2,
        height=SIDE * rows,
        width=SIDE * columns,
        grid=(rows, columns),
        pixels_per_token=SIDE,
        layers=LAYERS,
        seed=7,
    )


def video(frames: int) -> Video:
    """The video of such a budget, with scores of its frames for a question."""
    return Video(
        path=Path("v.mp4"),
        duration_s=frames / 8,
        fps=24.0,
        frames=3 * frames,
        height=112,
        width=112,
        frame_scores=scores(range(3 * frames)),
    )


@cache
def backbone() -> VideoLLM:
    """A small random Qwen2-VL on the CPU."""
    from evalkit.model.load import load
    from evalkit.tiny.model import random_checkpoint

    with TemporaryDirectory() as folder:
        return load(str(random_checkpoint(Path(folder) / "tiny", seed=0, layers=LAYERS)), device="cpu")


def visual(
    model: VideoLLM,
    frames: int = 12,
    height: int | None = None,
    width: int | None = None,
    needs: frozenset[Need] = frozenset(),
) -> VisualTokens:
    """Encoded noise: the visual tokens of `frames` frames, of `size` unless told otherwise, with what `needs` names."""
    height, width = height or size(model)[0], width or size(model)[1]
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    grid, cells, view = model.token_grid(height, width), frames // model.cell_frames, None
    with torch.inference_mode():
        if needs:
            reader = model.reader(needs - {"pixels"}, grid, untimed)
            with reader.attached():
                features, deepstack = model.encode_with_deepstack(pixels, slice_cells=32)
            view = replace(reader.view(features, cells), pixels=torch.from_numpy(pixels) if "pixels" in needs else None)
        else:
            features, deepstack = model.encode_with_deepstack(pixels, slice_cells=32)
    tokens = VisualTokens.dense(features, seconds=range(cells), grid=grid, deepstack=deepstack)
    return replace(tokens, spatial=model.spatial, encoder=view)


def hooks(model: VideoLLM) -> int:
    """Number of forward hooks on a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())
