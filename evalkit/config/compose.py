"""From words `key=value` to a composed configuration, and from Hydra's complaints about them to one line.

Light: run_eval.py imports it before it knows whether anything is to be run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from evalkit.config.choices import CONF, files, foreign, listed, register
from evalkit.errors import ConfigError

NOT_A_NAME = "Config group override must be a string or a list"  # Hydra's ValueError for backbone=3
HYDRA = "hydra"  # its own settings, beside ours
OVERRIDE = "override "  # how an entry of defaults begins that makes a choice for a group of another file


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """conf/NAME.yaml with these settings. ConfigError, in one line, for a name that it has not."""
    register()
    with explained(name), initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(name, overrides=list(overrides))


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about the settings of conf/NAME.yaml into a ConfigError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_line(error, name)) from error
    except ValueError as error:
        if not str(error).startswith(NOT_A_NAME):
            raise
        takers = ", ".join(f"{group}=" for group in groups(name))
        raise ConfigError(f"{_joined(error)}: expected the name of a choice after {takers}") from error


def groups(name: str) -> dict[str, str | None]:
    """The groups of which conf/NAME.yaml chooses, e.g. backbone, and its choices; None: none need be made."""
    plain = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(plain, DictConfig)
    entries = [
        (str(key), value) for entry in plain.defaults if isinstance(entry, DictConfig) for key, value in entry.items()
    ]
    return {group: choice for group, choice in entries if not group.startswith(OVERRIDE)}


def check_names(cfg: DictConfig, name: str) -> None:
    """ConfigError for a setting that `+` brought in and nothing reads, and for a group without a choice."""
    chosen = groups(name)
    for group, choice in chosen.items():
        if choice is not None and not isinstance(cfg.get(group), DictConfig):
            raise ConfigError(f"{group}: expected one of {listed(group)}; got {cfg.get(group)!r}")
        foreign(group)  # an error where two packages give one name
    _expect_known(cfg, "", _keys(CONF / f"{name}.yaml") - {HYDRA} | set(chosen))
    for group in sorted({"backbone", "benchmark", "executor"} & set(chosen)):
        known = set[str]().union(*(_keys(file) for file in files(group).values()))
        _expect_known(cfg[group], f"{group}.", known)


@cache
def _keys(file: Path) -> frozenset[str]:
    """Of a file of conf/, by the faster parser where PyYAML was built with it: many files are read at each start."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(file.read_text(encoding="utf-8"))
    return frozenset(map(str, loader.get_data() or ())) - {"defaults"}


def _expect_known(settings: DictConfig, prefix: str, known: Collection[str]) -> None:
    for key in map(str, settings):
        if key not in known:
            raise ConfigError(_unknown(key, prefix + key, known))


def _line(error: Exception, name: str) -> str:
    """What was expected and what came."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}: expected one of {listed(group)}; got {choice!r}"
    if isinstance(error, OverrideParseException):
        shape = "expected key=value, a list as key=[a,b], all of it quoted in a shell"
        return f"{shape}; got {error.override!r}: {str(error).splitlines()[0]}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        known = {str(key) for key in cause.parent_node if key != HYDRA}
        known |= set(groups(name)) if str(cause.full_key) == str(cause.key) else set()
        return _unknown(str(cause.key), str(cause.full_key), known)
    return "; ".join(part for part in (_joined(error), _joined(cause) if cause is not error else "") if part)


def _unknown(key: str, full: str, known: Collection[str]) -> str:
    close = get_close_matches(key, known, n=1)
    meant = f" (did you mean {full.removesuffix(key)}{close[0]}?)" if close else ""
    return f"there is no setting {full}{meant}; expected one of {', '.join(sorted(known))}"


def _joined(error: BaseException | None) -> str:
    """A message of several lines as one, without what OmegaConf adds about its own types."""
    lines = [line.strip() for line in str(error or "").splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(("full_key:", "object_type=")))
