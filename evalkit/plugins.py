"""Things that are chosen by name, evalkit's own and those of other packages, found by one mechanism.

A package adds one without any edit here, by an entry point in its own pyproject.toml:

    [project.entry-points."evalkit.methods"]
    first_half = "my_package:FirstHalf"

The entry point's name is the name by which the thing is chosen. What it loads, by group:

    evalkit.methods     a subclass of `evalkit.method.Method`, the defaults of whose fields are its configuration; or
                        settings with `_target_`, as in conf/method: a mapping, or the Path of a YAML file
    evalkit.backbones   settings with the keys of conf/backbone/tiny.yaml: a mapping, or the Path of a YAML file, which
                        may have a defaults list
    evalkit.families    a subclass of a decoder in evalkit/model/families, under the checkpoint's `model_type`
    evalkit.benchmarks  an `evalkit.data.benchmarks.spec.BenchmarkSpec`
    evalkit.protocols   an `evalkit.data.protocols.Protocol`, such as a `TableProtocol`
    evalkit.readers     a function as `evalkit.data.readers.Reader` describes
    evalkit.trackers    a function that takes the settings `tracker.NAME` as keywords and returns a
                        `evalkit.trackers.Tracker`

Nothing is imported before it is chosen. A name that two packages give is an error for all things of that kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby
from typing import Any, Generic, TypeVar

from evalkit.errors import ConfigError

T = TypeVar("T")
OWN = "evalkit"


@dataclass(frozen=True)
class Entry:
    """A thing that can be chosen."""

    name: str
    point: EntryPoint
    origin: str = OWN  # name and version of the distribution that brings it, or evalkit

    @property
    def foreign(self) -> bool:
        """Whether another package brings it."""
        return self.origin != OWN

    def load(self, kind: str, check: Callable[[Any], bool], expected: str, remedy: str = "") -> Any:
        """What the entry point names. ConfigError where it cannot be imported or fails `check`."""
        title = f"{kind} {self.name} ({self.origin})"
        try:
            value = self.point.load()
        except (ImportError, AttributeError) as error:
            remedy = f"install {self.origin} again" if self.foreign else remedy.format(name=self.name)
            raise ConfigError(
                f"{title} needs {self.point.value}, which cannot be imported ({error}): {remedy}"
            ) from error
        if not check(value):
            raise ConfigError(f"{title}: expected {self.point.value} to be {expected}, got {value!r}")
        return value


class Registry(Generic[T]):
    """The things of one kind, by name: `own` (name -> "module:object") first, then those of other packages by name."""

    def __init__(
        self,
        group: str,
        own: Mapping[str, str],
        *,
        check: Callable[[Any], bool],
        expected: str,
        named: bool = False,
        remedy: str = "",
    ) -> None:
        """`check` and `expected` say what an entry point must load, `named` that it must know its own name.

        `remedy`: what helps if one of `own` cannot be imported.
        """
        self.group = group
        self.loaded: dict[str, T] = {}
        self._own, self._check, self._expected = own, check, expected
        self._named, self._remedy = named, remedy

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All of them. ConfigError where a name stands for two things."""
        group = f"{OWN}.{self.group}"
        found = {name: Entry(name, EntryPoint(name, value, group)) for name, value in self._own.items()}
        return found | foreign(group, self._own)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a thing."""
        return name in self.entries

    @property
    def _kind(self) -> str:
        """One of the group, for messages."""
        return f"{self.group.removesuffix('ies')}y" if self.group.endswith("ies") else self.group.removesuffix("s")

    def listed(self) -> str:
        """The names with where they come from, for messages."""
        return listed((entry.name, entry.origin) for entry in self.entries.values())

    def __getitem__(self, name: str) -> T:
        """The thing called `name`, imported when first asked for. ConfigError if there is none or it is not usable."""
        if name not in self.loaded:
            kind = self._kind
            found = self.entry(name).load(kind, self._check, self._expected, self._remedy)
            if self._named and found.name != name:
                raise ConfigError(
                    f"{kind} {name} ({self.entries[name].origin}): expected its `name` to be that of its entry point, "
                    f"got {found.name!r}"
                )
            self.loaded[name] = found
        return self.loaded[name]

    def entry(self, name: str) -> Entry:
        """What is known of `name` before it is imported. ConfigError, with all names, if there is none."""
        if not isinstance(name, str) or name not in self:
            raise ConfigError(f"{self._kind}: expected one of {self.listed()}; got {name!r}")
        return self.entries[name]


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group by name; looked up once a process."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def foreign(group: str, own: Iterable[str]) -> dict[str, Entry]:
    """What other packages add to a group, sorted by name. ConfigError where a name is taken already."""
    found: dict[str, Entry] = {}
    taken = dict.fromkeys(own, OWN)
    for point in installed(group):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        if point.name in taken:
            raise ConfigError(
                f"{group}: the name {point.name!r} is given by {taken[point.name]} and by {origin}; "
                "uninstall one of them, or give the entry point another name"
            )
        taken[point.name] = origin
        found[point.name] = Entry(point.name, point, origin)
    return found


def listed(names: Iterable[tuple[str, str]]) -> str:
    """(name, origin) pairs as "a, b (evalkit), c (my-package 0.1)", in their order."""
    parts = [(origin, [name for name, _ in some]) for origin, some in groupby(names, key=lambda pair: pair[1])]
    return ", ".join(f"{', '.join(some)} ({origin})" for origin, some in parts)
