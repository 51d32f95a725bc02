"""Where the answer is seen: from a file, from LVBench's own times, and as a group of questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.data.benchmarks.evidence_spans import FILE, clock, placed
from evalkit.errors import DataError
from evalkit.model.families.qwen2_vl import Qwen2VL
from tests.support import clips
from tests.support.loop import DENSE, answer, engine, question


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("01:30-02:05", ((90, 125),)),
        ("99:59-100:01", ((5999, 6001),)),
        (" 00:00-00:07 ", ((0, 7),)),
        ("00:15-None", ()),
        ("None-None", ()),
        ("1:2-3:4", ()),
        ("02:05-01:30", ()),
        (None, ()),
        (7, ()),
    ],
)
def test_times_of_lvbench(text: object, spans: tuple[tuple[float, float], ...]) -> None:
    assert clock(text) == spans


def test_a_file_goes_before_the_row(tmp_path: Path) -> None:
    asked = [question(tmp_path / "v.mp4", n, row={"time_reference": "00:10-00:20"}) for n in range(2)]
    assert [q.evidence_s for q in placed(asked, tmp_path)] == [((10, 20),)] * 2
    (tmp_path / FILE).write_text(json.dumps({"q1": [[1, 2.5], [8, 9]]}), encoding="utf-8")
    assert [q.evidence_s for q in placed(asked, tmp_path)] == [((10, 20),), ((1, 2.5), (8, 9))]


REVERSED = ('{"q0": [[5, 1]]}', '{"q0": [[-1, 1]]}', '{"q0": [[0, Infinity]]}', '{"q0": [[NaN, 1]]}')


@pytest.mark.parametrize("text", ["[]", "{", '{"q0": 3}', '{"q0": [[1, 2, 3]]}', '{"q0": [["a", "b"]]}', *REVERSED])
def test_a_malformed_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"evidence\.json: expected an object"):
        placed([question(tmp_path / "v.mp4", 0)], tmp_path)


@pytest.mark.parametrize(
    ("spans", "label"),
    [
        ([(0.0, 0.5)], "1st quarter"),
        ([(4.0, 4.5), (3.4, 3.6)], "3rd quarter"),
        ([(6.0, 9.0)], "4th quarter"),
        ([(0.0, 4.0)], "several quarters"),
        ([(0.1, 0.2), (6.0, 6.1)], "several quarters"),
    ],
)
def test_the_quarter_is_a_group(
    spans: list[tuple[float, float]], label: str, tmp_path_factory: pytest.TempPathFactory, backbone: Qwen2VL
) -> None:
    """A clip of 160 frames at 25 a second, 6.4 s: an end that lies behind it counts as its last quarter."""
    clip = clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=160, size=(112, 112))
    found = answer(engine(backbone, frames=4), [DENSE], [question(clip, 0, evidence_s=tuple(spans)), question(clip, 1)])
    assert found["dense", 1.0, "q0"].groups["evidence"] == (label,)
    assert "evidence" not in found["dense", 1.0, "q1"].groups
    assert found["dense", 1.0, "q0"].duration_s == pytest.approx(6.4)
