"""The process from which workers are forked is started early for runs that will need it, for no others."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from evalkit import machine
from evalkit.config import workers_ahead
from evalkit.engine.executor import forking

TINY = {"device": "auto", "threads": 1}
LOCAL = {"name": "local", "workers": None}


@pytest.mark.parametrize(
    ("cfg", "cores", "gpu", "expected"),
    [
        ({"executor": LOCAL, "backbone": TINY}, 2, False, True),
        ({"executor": LOCAL, "backbone": TINY}, 1, False, False),
        ({"executor": LOCAL, "backbone": TINY}, 2, True, False),
        ({"executor": LOCAL, "backbone": TINY | {"device": "cpu"}}, 2, True, True),
        ({"executor": LOCAL, "backbone": TINY | {"device": "cuda:0"}}, 2, True, False),
        ({"executor": LOCAL, "backbone": TINY | {"threads": None}}, 2, False, False),
        ({"executor": LOCAL | {"workers": 3}, "backbone": TINY | {"threads": None}}, 1, False, True),
        ({"executor": LOCAL | {"workers": 1}, "backbone": TINY}, 2, False, False),
        ({"executor": {"name": "ray", "workers": 2}, "backbone": TINY}, 2, False, False),
        ({"executor": LOCAL, "backbone": TINY, "dry_run": True}, 2, False, False),
        ({"executor": None, "backbone": None}, 2, False, False),
        ({}, 2, False, False),
    ],
)
def test_it_is_started_where_workers_on_the_cpu_will_be(
    cfg: dict[str, Any], cores: int, gpu: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    monkeypatch.setattr(forking, "possible", lambda: True)
    assert bool(workers_ahead.expected(OmegaConf.create(cfg))) is expected
