"""run_eval.py --help: choices, settings as they are composed, and a wrong setting in one line."""

from __future__ import annotations

import pytest

from evalkit.commands import run_help
from evalkit.config.choices import names
from evalkit.errors import ConfigError


def test_help_shows_choices_and_the_settings_that_hold() -> None:
    text = run_help.text("config", ["--help", "backbone=qwen2_vl_7b", "seed=7"])
    lines = text.splitlines()
    assert f"method: {', '.join(sorted(names('method')))}" in lines
    assert "  name: qwen2_vl_7b" in lines
    assert "seed: 7" in lines
    assert "hydra:" not in lines


def test_a_wrong_setting_is_explained() -> None:
    with pytest.raises(ConfigError, match="sede"):
        run_help.text("config", ["sede=7", "-h"])
