"""A class made in Python is the method that its conf file names: `ReTaKe()` is `method=retake`."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import pytest
from omegaconf import OmegaConf

from evalkit.config import build
from evalkit.config.choices import CONF
from tests.support.configs import composed
from tests.support.methods import built

FILES = sorted((CONF / "method").glob("*.yaml"))
NOT_FIELDS = {"name", "_target_", "defaults"}


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_class_defaults_are_those_of_the_conf_file(name: str) -> None:
    point = built(name)
    assert asdict(point.method) == asdict(type(point.method)())
    assert point.method == type(point.method)()


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_a_conf_file_names_fields_alone(name: str) -> None:
    point = built(name)
    written = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{name}.yaml"))
    assert isinstance(written, dict)
    known = {field.name: field.default for field in fields(point.method)}
    assert {key: known.get(str(key), "no such field") for key in written if key not in NOT_FIELDS} == {
        key: value for key, value in written.items() if key not in NOT_FIELDS
    }


def test_another_default_would_be_seen() -> None:
    """Negative control: frame mode, which was `ReTaKe()`'s own default once."""
    (point,) = build.points(composed("method=retake", "ratio=1"))
    assert replace(point.method, patch_sync=True) != type(point.method)()  # type: ignore[call-arg]
