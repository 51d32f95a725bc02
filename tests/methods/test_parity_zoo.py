"""Traces of methods that act before the language model, replayed; what a replay must see; examples by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evalkit.encoder_view import EncoderView
from evalkit.errors import MethodError
from evalkit.method import Budget, Method, no_question
from evalkit.model.encoder_attention import received
from evalkit.types import VisualTokens
from methods import fastvid, flashvid_tree, holitom_outer, vcast, visionzip
from methods.divprune import DivPrune
from methods.dtd import DTD
from methods.dycoke import DyCoke
from methods.evs import EVS
from methods.fastvid import FastVID
from methods.flashvid_outer import FlashVIDOuter
from methods.holitom_outer import HoliTomOuter
from methods.visionzip import VisionZip
from tests.support import parity, zoo_replays
from tests.support.parity_zoo import dense, position

MERGING = (VisionZip(), FastVID(), HoliTomOuter(similarity=0.2), FlashVIDOuter(merge_similarity=0.2))


def test_every_trace_of_the_part_is_equal(small_golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["zoo", str(small_golden / "zoo")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("ok") for line in lines) == 10
    assert "left out visionzip/llava_0.1: no tensors" in lines


@pytest.mark.slow
def test_every_trace_of_the_whole_is_equal(whole_golden: Path) -> None:
    lines, left_out = zoo_replays.zoo(whole_golden / "zoo")
    assert [name for name, (holds, _) in lines.items() if not holds] == []
    assert len(lines) > 90
    assert all("newlines" in line for line in left_out)


def wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mistake of the specification's list."""
    if name == "fastvid":  # the other backbone's rules
        other = lambda **settings: FastVID(**{**settings, "rules": "qwen"})  # noqa: E731
        monkeypatch.setattr(zoo_replays, "FastVID", other)
    elif name == "visionzip":  # nothing is added
        means = visionzip.means
        monkeypatch.setattr(visionzip, "means", lambda *args: (means(*args)[0] * 0, None))
    elif name == "vcast":  # what is left over goes to one cell after the other
        monkeypatch.setattr(zoo_replays, "allocated", lambda weights, total, _: largest_remainder(weights, total))
    elif name == "flashvid":  # means of whole chains
        monkeypatch.setattr(flashvid_tree, "_summed", lambda x, merging, partner: x)
    else:  # queries are not averaged first
        monkeypatch.setattr("evalkit.model.encoder_reader.received_from_mean", received)


def largest_remainder(weights: Tensor, total: int) -> list[int]:
    share = weights * (total - len(weights))
    counts = share.floor().long() + 1
    counts[(share - share.floor()).argsort(descending=True)[: total - int(counts.sum())]] += 1
    return counts.tolist()


@pytest.mark.parametrize(
    ("name", "whole"),
    [("vcast", False), ("visionzip", False), ("encoder", False), ("fastvid", True), ("flashvid", True)],
)
def test_a_mistake_is_seen(
    name: str, whole: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = request.getfixturevalue("whole_golden" if whole else "small_golden")
    wrong(name, monkeypatch)
    monkeypatch.setattr(zoo_replays, "REPLAYS", {name: zoo_replays.REPLAYS[name]})
    lines, _ = zoo_replays.zoo(folder / "zoo")
    assert [holds for case, (holds, _) in lines.items() if case.startswith(name)].count(False) >= 1


# ---- by hand


def tokens(cells: int = 10, side: int = 4, width: int = 8, seed: int = 0) -> VisualTokens:
    """A slowly changing video, with everything that a method may need of an encoder."""
    draw = torch.Generator().manual_seed(seed)
    places = side * side
    steps = torch.randn(cells, places, width, generator=draw) * torch.rand(places, 1, generator=draw)
    features = torch.randn(places, width, generator=draw) + 0.3 * steps.cumsum(0)
    attention = torch.rand(cells, places, generator=draw).flatten()
    view = EncoderView(
        attention=attention,
        pooled_attention=attention,
        keys=torch.randn(cells * places, 5, generator=draw),
        summary=features.mean(1),
        pixels=torch.randint(0, 256, (cells * 2, side * 4, side * 4, 3), dtype=torch.uint8, generator=draw),
    )
    return dense(features, (side, side), view)


def selected(method: Method, given: VisualTokens, ratio: float, **changes: int) -> VisualTokens:
    budget = Budget.encoded(len(given.cell_seconds), given.grid, ratio=ratio, layers=2)
    return method.select(given, replace(budget, **changes), no_question)


def test_windows_save_most() -> None:
    """Against every way to cut eight frames into windows."""
    static = torch.rand(7, 5, generator=torch.Generator().manual_seed(3)) > 0.3

    def saved(cuts: tuple[bool, ...], longest: int) -> int:
        ends = [*(i + 1 for i, cut in enumerate(cuts) if cut), 8]
        spans = list(zip([0, *ends], ends, strict=False))
        if max(end - begin for begin, end in spans) > longest:
            return -1
        return sum(int(static[b : e - 1].all(0).sum()) * (e - 1 - b) for b, e in spans if e - b > 1)

    for longest in (1, 3, 8):
        found, most = holitom_outer.windows(static, longest)
        assert most == max(saved(cuts, longest) for cuts in product((False, True), repeat=7))
        assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]


def test_a_chain_is_divided_by_direct_children_and_one() -> None:
    """1, 1.1, 1.2, 1.3 come out at 2.3: half of their sum, as in the released code, and no mean."""
    x = torch.tensor([[1.0], [1.1], [1.2], [1.3]])[:, :, None].expand(4, 1, 1)
    none = torch.empty(4, 0, dtype=torch.long)
    tree = flashvid_tree.merge_over_time(x, none, 0, 0.8)
    assert tree.features[0, 0, 0] == pytest.approx(2.3)
    assert tree.root.tolist() == [0, 0, 0, 0]
    assert tree.left.flatten().tolist() == [True, False, False, False]


def test_vcast_fills_one_cell_after_the_other() -> None:
    assert vcast.allocated(torch.tensor([0.2, 0.25, 0.55]), 8, 4) == [2, 2, 4]
    assert sum(vcast.allocated(torch.full((4,), 0.25), 13, 4)) == 13


def test_divprune_takes_the_farthest() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 3.1])
    given = dense(torch.stack([angles.cos(), angles.sin()], 1)[None], (1, 5))
    assert position(selected(DivPrune(), given, 0.4)).tolist() == [0, 4]
    assert position(selected(DivPrune(), given, 0.6)).tolist() == [0, 3, 4]


def test_dycoke_keeps_the_last_group_s_third_frame_and_loses_the_last_of_an_odd_number() -> None:
    counts = [selected(DyCoke(k=0.5), tokens(cells), 1.0).cell.bincount(minlength=cells).tolist() for cells in (8, 9)]
    assert counts == [[16, 8, 8, 8, 16, 8, 16, 8], [16, 8, 8, 8, 16, 8, 8, 8, 0]]
    with pytest.raises(MethodError, match="more than 4 frames"):
        selected(DyCoke(k=0.5), tokens(4), 1.0)


def test_evs_and_dtd_choose_the_same_at_a_ratio_and_not_by_a_share_of_each_cell() -> None:
    given = tokens()
    evs, dtd, relative = (position(selected(m, given, 0.4)) for m in (EVS(), DTD(), DTD(rule="relative")))
    assert evs.tolist() == dtd.tolist() != relative.tolist()
    assert len(evs) == int(0.4 * 160)
    assert position(selected(EVS(), given, 0.01)).tolist() == list(range(16))
    pixels = position(selected(EVS(change="pixels"), given, 0.4)).tolist()
    assert len(pixels) == len(evs)
    assert pixels != evs.tolist()


def test_fastvid_cuts_where_frames_differ_and_where_they_differ_most() -> None:
    alike = torch.tensor([0.99, 0.5, 0.97, 0.95, 0.98])
    assert fastvid.segments(alike, 1, 0.9) == [(0, 2), (2, 6)]
    assert fastvid.segments(alike, 3, 0.9) == [(0, 2), (2, 4), (4, 6)]
    with pytest.raises(MethodError, match="needs 8 frames"):
        fastvid.segments(alike, 8, 0.9)


@pytest.mark.parametrize("method", MERGING, ids=lambda method: type(method).__name__)
def test_a_merged_token_is_made_of_its_sources(method: Method) -> None:
    """It lies in the span of what it says it is made of; alone it is unchanged; sources are tokens of the video."""
    given = tokens()
    out = selected(method, given, 0.3)
    assert out.merged is not None
    sources = [out.merged.source[out.merged.token == i] for i in range(len(out))]
    assert all(len(own) for own in sources)
    assert sum(len(own) > 1 for own in sources) > 3
    for feature, own, at in zip(out.features, sources, position(out), strict=True):
        parts = given.features[own].double().T
        if len(own) == 1:
            assert torch.equal(feature, given.features[at])
            assert own.tolist() == [int(at)]
        elif len(own) < given.features.shape[1]:
            weights = torch.linalg.lstsq(parts, feature.double()[:, None]).solution
            assert torch.dist(parts @ weights, feature.double()[:, None]) < 1e-5
    assert out.keep(torch.tensor([5, 2])).merged.source.tolist() == [*sources[5].tolist(), *sources[2].tolist()]


@pytest.mark.parametrize("method", MERGING[1:], ids=lambda method: type(method).__name__)
def test_chance_is_that_of_run_and_video(method: Method) -> None:
    """Drawn in the same order for the same seed and name."""
    draws: Callable[..., list[float]] = lambda **of: (  # noqa: E731
        replace(Budget.encoded(2, (1, 1), ratio=1.0, layers=1), **of).draws("x")(4).tolist()
    )
    assert draws(seed=1, video="a") == draws(seed=1, video="a")
    assert len({tuple(draws(seed=seed, video=name)) for seed in (0, 1) for name in ("a", "b")}) == 4
    given = tokens()
    again = selected(method, given, 0.3)
    assert again.same(selected(method, given, 0.3))


@pytest.mark.parametrize("method", [EVS(), DTD(), DyCoke(), HoliTomOuter()], ids=lambda method: type(method).__name__)
def test_tokens_without_places_are_refused(method: Method) -> None:
    with pytest.raises(MethodError, match="is not defined on this backbone"):
        selected(method, replace(tokens(), spatial=False), 0.5)


@pytest.mark.parametrize("method", MERGING[1:3], ids=lambda method: type(method).__name__)
def test_a_ratio_at_which_nothing_is_left_is_refused(method: Method) -> None:
    still = replace(tokens(side=1), features=torch.ones(10, 8))
    with pytest.raises(MethodError, match=r"the ratio is too low|no token of 10 would be left"):
        selected(method, still, 0.01)


def test_what_an_encoder_was_not_asked_for_is_named() -> None:
    with pytest.raises(MethodError, match=r"needs 'attention' of the vision encoder"):
        selected(VisionZip(), replace(tokens(), encoder=None), 0.5)
