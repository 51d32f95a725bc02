"""The choices of a group, e.g. method=NAME: files of conf/, and what other packages bring (evalkit.plugins).

Hydra finds the latter through `PluginSource`, which stands behind conf/ in its search path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from evalkit import plugins
from evalkit.errors import ConfigError
from evalkit.method import Method

_INSTALLED = Path(__file__).parents[1] / "conf"  # in a wheel
CONF = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "conf"  # beside evalkit in a checkout
SCHEME = "evalkit-plugins"
GROUPS = {"method": "methods", "backbone": "backbones", "benchmark": "benchmarks"}  # group of conf/ -> entry points


def files(group: str) -> dict[str, Path]:
    """The files of a group by name."""
    return {file.stem: file for file in sorted((CONF / group).glob("*.yaml"))}


def foreign(group: str) -> dict[str, plugins.Entry]:
    """What other packages add to a group. ConfigError where a name is taken already."""
    return plugins.foreign(f"{plugins.OWN}.{GROUPS[group]}", files(group)) if group in GROUPS else {}


def names(group: str) -> list[str]:
    """All names of a group."""
    return [*files(group), *foreign(group)]


def listed(group: str) -> str:
    """The names of a group with where they come from, for messages."""
    added = [(entry.name, entry.origin) for entry in foreign(group).values()]
    return plugins.listed([*((name, plugins.OWN) for name in files(group)), *added])


def settings(group: str, name: str) -> DictConfig:
    """The settings of one choice, before its defaults list is followed. ConfigError if there is none."""
    if name in (own := files(group)):
        return _loaded(own[name])
    added = foreign(group)
    if name not in added:
        raise ConfigError(f"{group}: expected one of {listed(group)}; got {name!r}")
    return _settings(group, added[name])


def _settings(group: str, entry: plugins.Entry) -> DictConfig:
    if group == "benchmark":
        return OmegaConf.create({"name": entry.name, "root": None})
    expected = "settings (a mapping, or the Path of a YAML file)"
    expected += ", or a dataclass that is an evalkit.method.Method" if group == "method" else ""
    value = entry.load(group, lambda found: _can_be_read(group, found), expected)
    found = _loaded(value) if isinstance(value, Path) else OmegaConf.create(_plain(entry, value))
    found["name"] = entry.name
    return found


def _can_be_read(group: str, value: Any) -> bool:
    if group == "method" and isinstance(value, type):
        return is_dataclass(value) and issubclass(value, Method)
    return isinstance(value, Mapping | Path)


def _plain(entry: plugins.Entry, value: Any) -> dict[str, Any]:
    """Settings in a mapping, or those of a method's class: its target, and each field's default that YAML can hold."""
    if isinstance(value, Mapping):
        return dict(value)
    own = [field for field in fields(value) if field.init]
    if needed := [f.name for f in own if f.default is MISSING and f.default_factory is MISSING]:
        raise ConfigError(
            f"method {entry.name} ({entry.origin}): expected a default for every field, {', '.join(needed)} has none"
        )
    defaults = {f.name: f.default for f in own if isinstance(f.default, int | float | str | None)}
    return {"_target_": f"{value.__module__}.{value.__qualname__}", **defaults}


def _loaded(file: Path) -> DictConfig:
    found = OmegaConf.load(file)
    assert isinstance(found, DictConfig), file
    return found


class PluginSource(ConfigSource):
    """Hydra's view of the choices that other packages bring; one is imported when it is chosen."""

    @staticmethod
    def scheme() -> str:
        """Of its paths."""
        return SCHEME

    def available(self) -> bool:
        """Always."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """The settings of GROUP/NAME."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return ConfigResult(
            provider=self.provider, path=self.full_path(), config=settings(group, name), header={"package": None}
        )

    def is_group(self, config_path: str) -> bool:
        """Whether it adds to this group."""
        group = config_path.strip("/")
        return group in GROUPS and bool(foreign(group))

    def is_config(self, config_path: str) -> bool:
        """Whether it has GROUP/NAME."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return group in GROUPS and name in foreign(group)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What it adds below a path."""
        path = config_path.strip("/")
        if path in GROUPS and results_filter in (None, ObjectType.CONFIG):
            return sorted(foreign(path))
        if path == "" and results_filter in (None, ObjectType.GROUP):
            return sorted(group for group in GROUPS if foreign(group))
        return []


class PluginSearchPath(SearchPathPlugin):
    """Puts `PluginSource` behind conf/."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls it before it composes."""
        search_path.append("evalkit.plugins", f"{SCHEME}://")


def register() -> None:
    """Make both known to Hydra; a second time changes nothing."""
    for found in (PluginSource, PluginSearchPath):
        Plugins.instance().register(found)
