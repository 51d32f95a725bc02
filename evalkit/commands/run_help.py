"""`run_eval.py --help`: what can be chosen and set, with the values that a configuration has.

Hydra's own --help reads every group of settings anew for each line, which takes longer than all the rest of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from evalkit.config.choices import names
from evalkit.config.compose import composed, groups

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = frozenset({"--help", "-h"})
TEXT = """\
evalkit runs methods of long-video compression over a benchmark and shows accuracy against cache.

== Choices (option=NAME) ==
{choices}

== Settings (key=value) ==
{settings}

Examples:
  python run_eval.py
  python run_eval.py benchmark=mlvu benchmark.root=DIR backbone=qwen2_vl_7b methods=[uniform,retake] ratios=[1.0,0.25]
  python run_eval.py -m method=uniform,random_frames ratio=1.0,0.5
  python run_eval.py dry_run=true
Installed without a checkout: evalkit run in place of python run_eval.py. Hydra's own options: --hydra-help."""


def text(name: str, arguments: Sequence[str]) -> str:
    """The help of conf/NAME.yaml with the settings among these words; ConfigError for one that it has not."""
    settings = composed(name, [word for word in arguments if not word.startswith("-")])
    choices = (f"{group}: {', '.join(sorted(names(group)))}" for group in sorted(groups(name)))
    return TEXT.format(choices="\n".join(choices), settings=OmegaConf.to_yaml(settings).rstrip())
