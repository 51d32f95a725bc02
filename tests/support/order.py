"""In which order files of tests are begun: what takes longest first, so that all processes end about together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# minutes to a quarter of one each, falling; files that are not here take less
LONGEST = (
    "tests/faults/test_kill_anywhere.py",
    "tests/engine/test_ray.py",
    "tests/commands/test_published_widths.py",
    "tests/test_regression.py",
    "tests/model/test_pretend_device.py",
    "tests/commands/test_run_eval.py",
    "tests/analysis/test_report_browser.py",
    "tests/docs/test_commands.py",
    "tests/model/test_qwen3_vl_methods.py",
    "tests/model/test_positions.py",
    "tests/lmms_plugin/test_lmms_plugin.py",
    "tests/tune/test_tune.py",
    "tests/methods/test_contract.py",
    "tests/model/test_flops.py",
    "tests/commands/test_configs.py",
    "tests/engine/test_executor_builtin.py",
    "tests/commands/test_launchers.py",
    "tests/model/test_qwen2_5_vl_methods.py",
    "tests/model/test_llava.py",
    "tests/model/test_videochat_flash.py",
    "tests/commands/test_wrong_settings.py",
    "tests/analysis/test_matched_points.py",
    "tests/data/test_subsets.py",
    "tests/model/test_checkpoint.py",
    "tests/data/test_sampling.py",
    "tests/test_plugins.py",
    "tests/tune/test_tune_states.py",
    "tests/faults/test_workers.py",
)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort collected tests; those of one file stay in their order, and so do the other files."""
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.location[0], len(places)))
