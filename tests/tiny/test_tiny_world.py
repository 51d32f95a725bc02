"""Worlds, questions and frames of the built-in experiment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evalkit.tiny.training import symbols
from evalkit.tiny.videos import plan, questions
from evalkit.tiny.videos.render import Painter
from evalkit.tiny.videos.sprites import sprite
from evalkit.tiny.videos.world import COLORS, DIGITS, GAP, LONGEST, OBJECTS, SHORTEST, World, draw

WORLDS = [draw(seed) for seed in range(120)]


def test_a_world_is_a_function_of_its_seed() -> None:
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize("world", WORLDS[:40], ids=lambda w: str(w.seed))
def test_events_are_short_apart_and_inside_one_scene(world: World) -> None:
    edges = [(e.start, e.end) for e in world.events]
    assert all(SHORTEST <= b - a <= LONGEST for a, b in edges)
    assert all(later[0] - earlier[1] >= GAP - 1e-9 for earlier, later in pairwise(edges))
    assert all(world.scene_at(a) == world.scene_at(b) for a, b in edges)
    assert edges[0][0] > 0
    assert edges[-1][1] < 1


def test_scenes_tile_the_video_and_are_long_enough_for_eight_cells() -> None:
    for world in WORLDS:
        assert world.scenes[0].start == 0
        assert world.scenes[-1].end == pytest.approx(1)
        assert all(s.end - s.start >= 1 / 6 - 1e-9 for s in world.scenes)
        assert len({s.place for s in world.scenes}) == len(world.scenes)


def test_every_kind_of_question_has_one_right_option_and_four_different_ones() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for world in WORLDS:
        for question in questions.questions_about(world):
            choice = questions.choose(question, 2, rng)
            assert len(set(choice.options)) == 4
            assert [o for o in choice.options if o in question.correct] == [choice.options[2]]
            seen.add(question.kind)
    assert seen == {*plan.VIDEOMME_TASKS} == {*plan.LVBENCH_TYPES}


def test_wrong_options_come_from_the_same_video_first() -> None:
    rng = np.random.default_rng(0)
    world = draw(1, objects=6)
    shown = {e.thing for e in world.objects}
    for question in questions.questions_about(world, ["after", "before", "ends"]):
        assert set(questions.choose(question, 0, rng).options) <= shown


def test_answers_agree_with_the_world() -> None:
    world = draw(11, objects=5)
    things = [e.thing for e in world.objects]
    by_text = {a.text: a.correct for a in questions.questions_about(world)}
    assert by_text["Which object comes first?"] == (things[0],)
    assert by_text["Which object comes last?"] == (things[-1],)
    assert by_text[f"Which object comes right after the {things[1]}?"] == (things[2],)
    assert by_text[f"Which object comes right before the {things[1]}?"] == (things[0],)
    assert by_text["How many objects appear?"] == ("five",)
    assert by_text["What number is on the sign?"] == (world.sign.thing,)
    for event in world.objects:
        assert by_text[f"Where is the {event.thing}?"] == (world.scene_at(event.start).place,)
        assert by_text[f"What color is the {event.thing}?"] == (event.color,)


def test_the_main_colour_is_asked_only_where_there_is_one() -> None:
    texts = [[a.kind for a in questions.questions_about(draw(5, objects=4, dominant=d))] for d in (True, False)]
    assert "summary" in texts[0]
    assert "summary" not in texts[1]


def test_dense_sampling_sees_every_event_and_eight_cells_miss_most() -> None:
    dense, sparse = (
        np.mean([symbols.sampled(((e.start, e.end),), symbols.moments(cells)) for w in WORLDS for e in w.events])
        for cells in (64, 8)
    )
    assert dense == 1
    assert 0.1 < sparse < 0.4


def test_frames_show_the_event_only_while_it_lasts() -> None:
    world = draw(2)
    painter, event = Painter(world, 112), world.objects[0]
    middle = (event.start + event.end) / 2
    shown = painter.frame(middle, 0).astype(int)
    bare = painter.frame(event.start - 1e-6, 0).astype(int)
    x, y = (round(c * 112) for c in event.at(middle))
    box = np.zeros((112, 112), bool)
    half = round(event.size * 56) + 2
    box[max(0, y - half) : y + half, max(0, x - half) : x + half] = True
    changed = np.abs(shown - bare).max(2) > 40
    assert changed[box].mean() > 0.2
    assert changed[~box].mean() < 0.05


def test_frames_are_repeatable_and_scenes_differ() -> None:
    world = draw(2)
    a, b = (Painter(world, 112).frame(0.3, 5) for _ in range(2))
    assert np.array_equal(a, b)
    means = [Painter(world, 112).frame((s.start + s.end) / 2, 0).mean((0, 1)) for s in world.scenes]
    assert all(np.abs(m - n).max() > 8 for i, m in enumerate(means) for n in means[:i])


def test_no_two_objects_look_alike() -> None:
    masks = {thing: sprite(thing, "red", 24)[0] * sprite(thing, "red", 24)[1] for thing in OBJECTS}
    masks |= {digit: sprite(digit, "", 24)[0] for digit in DIGITS}
    names = list(masks)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert np.abs(masks[one] - masks[other]).mean() > 3, (one, other)


def test_symbols_say_what_the_frames_show() -> None:
    world = draw(9)
    times = symbols.moments(64)
    weights = symbols.weights(world, times)
    assert weights.shape == (64, 16, len(symbols.CONCEPTS))
    for event in world.objects:
        cells = [i // 2 for i in np.flatnonzero((times >= event.start) & (times < event.end))]
        assert weights[cells][:, :, symbols.INDEX[event.thing]].max() > 0.5
        assert weights[cells][:, :, symbols.INDEX[event.color]].max() > 0.5
        rest = np.delete(weights, cells, 0)
        assert rest[:, :, symbols.INDEX[event.thing]].max() == 0


def test_test_sets_are_balanced_and_large_enough() -> None:
    sets = [plan.videomme(), plan.mlvu(), plan.lvbench()]
    assert sum(map(len, sets)) >= 60
    assert sum(len(p.choices) for s in sets for p in s) >= 400
    for planned in sets:
        letters = [c.answer for p in planned for c in p.choices]
        counts = np.bincount(letters, minlength=4)
        assert counts.max() - counts.min() <= 1
        assert len({p.world.seed for p in planned}) == len(planned)
    counted = [c.question.correct[0] for p in plan.mlvu() if p.task == "4_count" for c in p.choices]
    assert {counted.count(w) for w in questions.COUNTS} == {4}


def test_splits_do_not_share_worlds() -> None:
    from evalkit.tiny.videos.world import TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS

    seeds = [p.world.seed for s in (plan.videomme(), plan.mlvu(), plan.lvbench()) for p in s]
    assert len(set(seeds)) == len(seeds)
    assert all(s in TEST_SEEDS for s in seeds)
    assert TEST_SEEDS.stop <= VALIDATION_SEEDS.start < VALIDATION_SEEDS.stop <= TRAIN_SEEDS.start


def test_colours_of_a_video_without_a_main_one_differ() -> None:
    colors = [e.color for e in draw(8, objects=6, dominant=False).objects]
    assert sorted(colors) == sorted(COLORS)
