"""What the READMEs tell a newcomer to type works."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evalkit.analysis.grid import costs
from evalkit.analysis.grid.seconds import QUARTILES
from evalkit.analysis.tables import grid_rows as paper_rows
from evalkit.config.choices import CONF
from evalkit.ledger import Timing
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from tests.support import clips
from tests.support.loop import answer, engine, question

ROOT = Path(__file__).parents[1]


def blocks(file: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", (ROOT / file).read_text(encoding="utf-8"), re.S | re.M)
    return ["\n".join(line.removeprefix(indent) for line in body.splitlines()) for indent, body in found]


def test_a_new_method_in_three_steps(tmp_path: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    (code, contract), (config,) = blocks("methods/README.md", "python"), blocks("methods/README.md", "yaml")
    (tmp_path / "half_of_a_video.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = dict(OmegaConf.create(config.replace("methods.first_half", "half_of_a_video")))
    name = str(fields.pop("name"))
    point = OperatingPoint(name, instantiate(fields), 0.5)
    clip = clips.make(tmp_path / "clip.mp4", frames=64, size=(112, 112))
    (row,) = answer(engine(backbone), [point], [question(clip, 0)]).values()
    assert row.ledger is not None
    assert row.ledger.ratio_achieved == 0.5
    found: dict[str, object] = {}
    exec(compile(contract.replace("my_package", "half_of_a_video"), "README", "exec"), found)  # noqa: S102
    assert callable(found["test_first_half"])


def test_every_method_is_in_the_table() -> None:
    table: Any = (ROOT / "methods" / "README.md").read_text(encoding="utf-8")
    assert not [f.stem for f in (CONF / "method").glob("*.yaml") if f"`{f.stem}`" not in table]


def test_every_column_is_explained() -> None:
    """Stages between the first and the last stand for themselves; a comparison's columns carry its name."""
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "results" / "builtin" / "report").rglob("*.csv"))
    assert len(files) == 6
    columns = {name for file in files for name in file.read_text(encoding="utf-8").split("\n", 1)[0].split(",")}
    columns |= {*costs.COLUMNS, *paper_rows.ACCURACY, *paper_rows.BUDGET}  # of answers that are yet to come, too
    columns -= {f"{stage}_s" for stage in ("encode", "select", "prefill")}
    columns -= {name for stage, pair in QUARTILES.items() if stage != "ttft_s" for name in pair}
    compared = ("dense_", "kv_", "compute_")
    stem = re.compile(rf"^({'|'.join(compared)})")
    assert not sorted(name for name in columns if f"`{name}`" not in text and f"`{stem.sub('', name)}`" not in text)
    assert all(f"`{name}*`" in text for name in compared)


def test_every_field_of_a_timing_is_explained() -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8").split("### Seconds that compare")[1]
    assert not [field.name for field in fields(Timing) if f"`{field.name}`" not in text]
