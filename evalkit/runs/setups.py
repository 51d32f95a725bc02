"""The setup of a run: every setting that can change an answer, except method, ratio, questions and code.

Runs are compared only where their setups are equal. Tables name a setup by three short texts (backbone, sampling,
protocol), to which only those settings are added by which the setups of one collection of runs differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

Label = tuple[str, str, str]  # backbone, sampling, protocol, as tables call them

MISSING = "not recorded"
_OTHER_PARTS = ("code", "benchmark", "method", "ratio")  # of an identity: what tables show otherwise, and the version
_BACKBONE = ("path", "adapter", "dtype", "rope", "chunk_cells")  # of config.yaml, where it has no identity parts
_SHOWN = ("backbone", "weights", "path", "adapter", "dtype", "rope", "chunk_cells")  # first; the others by name
_HASH = 8  # digits of a weights hash in a label


@dataclass(frozen=True)
class Setup:
    """What is equal for two runs of one setup; `path` and `adapter` only name the weights, whose hash counts."""

    base: Label  # what a label begins with
    settings: tuple[tuple[str, str], ...]  # setting -> value as text, ordered by name
    path: str = field(default="", compare=False)
    adapter: str = field(default="", compare=False)
    # of a run whose method brings an adapter: its name, and the hash of the weights that answered. The setup is that of
    # the backbone as configured, so that the run stands beside those of the other methods.
    tuned: str = field(default="", compare=False)
    tuned_weights: str = field(default="", compare=False)

    def __lt__(self, other: Setup) -> bool:
        return (self.base, self.settings) < (other.base, other.settings)


def of(config: Mapping[str, Any]) -> Setup:
    """The setup in a run's config.yaml.

    It is read from `identity_parts`, so that whatever becomes part of an identity is part of the setup. Folders without
    them (answers that were stored for the gate by older versions) give what their sections say.
    """
    backbone, sampling, protocol = config["backbone"], config["sampling"], config["protocol"]
    parts = config.get("identity_parts")
    if isinstance(parts, Mapping):
        found = {name: value for name, value in parts.items() if name not in _OTHER_PARTS}
    else:
        found = {name: backbone[name] for name in _BACKBONE if name in backbone} | {"sampling": sampling}
        found |= {name: config[name] for name in ("reader", "seed") if name in config}
    own = config.get("adapter") or {}
    tuned_weights = str(found.get("weights") or "") if own else ""
    if own:
        found["weights"] = own.get("base")
    found |= {"backbone": backbone["name"], "protocol": {key: protocol.get(key) for key in ("name", "version")}}
    frames = f", {sampling['frames']} frames" if sampling.get("frames") else ""
    version = f" {protocol['version']}" if protocol.get("version") else ""
    base = str(backbone["name"]), f"{sampling['preset']}{frames}", f"{protocol['name']}{version}"
    return Setup(
        base=base,
        settings=tuple(sorted(_flat(found))),
        path=str(backbone.get("path") or ""),
        adapter=str(backbone.get("adapter") or ""),
        tuned=str(own.get("name") or ""),
        tuned_weights=tuned_weights,
    )


def recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """The identity parts that make up the setup, for answers that are stored without the rest; {} if there are none."""
    parts = config.get("identity_parts")
    return {} if not isinstance(parts, Mapping) else {k: v for k, v in parts.items() if k not in _OTHER_PARTS}


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    """Nested names joined by dots; what is null counts as not set."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)


def differing(one: Setup, other: Setup, *, known: bool = False) -> dict[str, tuple[str, str]]:
    """Setting -> its value in one and in the other, where they differ; `known`: only settings that both record."""
    first, second = _answered_with(one), _answered_with(other)
    found = {name: (_value(first, name), _value(second, name)) for name in _ordered({**first, **second})}
    return {name: pair for name, pair in found.items() if pair[0] != pair[1] and not (known and MISSING in pair)}


def _answered_with(setup: Setup) -> dict[str, str]:
    """The settings, with the weights that answered."""
    own = {"weights": setup.tuned_weights} if setup.tuned_weights else {}
    return {**dict(setup.settings), **own}


def weights(found: Sequence[Setup]) -> list[str]:
    """Which weights answered each run: `base`, the checkpoint's own, or `adapter NAME`, tuned ones.

    Two adapters of one name beside each other get the first digits of their weights' hash.
    """
    names = [_weights_name(setup) for setup in found]
    hashes = [_answered_with(setup).get("weights", MISSING) for setup in found]
    known: dict[tuple[Setup, str], set[str]] = {}
    for setup, name, value in zip(found, names, hashes, strict=True):
        known.setdefault((setup, name), set()).add(value)
    return [
        name if len(known[setup, name]) == 1 else f"{name} #{value[:_HASH]}"
        for setup, name, value in zip(found, names, hashes, strict=True)
    ]


def _weights_name(setup: Setup) -> str:
    name = setup.tuned or PurePath(setup.adapter).name
    return f"adapter {name}" if name else "base"


def _value(settings: Mapping[str, str], name: str) -> str:
    """What a section that is there does not name was null."""
    section = name.split(".")[0]
    there = "." in name and any(other.startswith(f"{section}.") for other in settings)
    return settings.get(name, "none" if there else MISSING)


def in_words(found: Mapping[str, tuple[str, str]]) -> str:
    """What differs, for a message: "dtype float32 against bfloat16"."""
    return ", ".join(f"{name} {first} against {second}" for name, (first, second) in found.items())


def labels(setups: Iterable[Setup]) -> dict[Setup, Label]:
    """A label for each setup, no two the same: its base, and the settings by which it differs from others of that base.

    `setups` are those of one collection of runs; another collection may give a setup another label.
    """
    by_base: dict[Label, list[Setup]] = {}
    for setup in dict.fromkeys(setups):
        by_base.setdefault(setup.base, []).append(setup)
    return {setup: label for group in by_base.values() for setup, label in zip(group, _labels(group), strict=True)}


def _labels(group: Sequence[Setup]) -> list[Label]:
    values = [dict(setup.settings) for setup in group]
    names = _ordered({name: None for own in values for name in own})
    differ = [name for name in names if len({own.get(name, MISSING) for own in values}) > 1]
    added: list[list[list[str]]] = [[[], [], []] for _ in group]
    for name in differ:
        texts = _weights(group) if name == "weights" else [_text(name, own.get(name)) for own in values]
        for columns, text in zip(added, texts, strict=True):
            columns[_column(name)].append(text)
    return [_joined(setup.base, columns) for setup, columns in zip(group, added, strict=True)]


def _joined(base: Label, columns: Sequence[Sequence[str]]) -> Label:
    backbone, sampling, protocol = (", ".join([first, *more]) for first, more in zip(base, columns, strict=True))
    return backbone, sampling, protocol


def _weights(group: Sequence[Setup]) -> list[str]:
    """Last names of adapter and path where these differ; the head of the hash where they do not tell weights apart."""
    parts: list[list[str]] = [[] for _ in group]
    for what, places in (("adapter", [s.adapter for s in group]), ("weights", [s.path for s in group])):
        names = [PurePath(place).name or "none" for place in places]
        if len(set(names)) > 1:
            for own, name in zip(parts, names, strict=True):
                own.append(f"{what} {name}")
    texts, hashes = [", ".join(own) for own in parts], [dict(s.settings).get("weights", MISSING) for s in group]
    told_apart = len(set(texts)) == len(set(zip(texts, hashes, strict=True))) == len(set(hashes))
    if told_apart:
        return texts
    marks = [value[:_HASH] if value != MISSING else MISSING for value in hashes]
    if len(set(marks)) < len(set(hashes)):
        marks = hashes
    return [", ".join(filter(None, (text, f"weights #{mark}"))) for text, mark in zip(texts, marks, strict=True)]


def _text(name: str, value: str | None) -> str:
    plain = name.removeprefix("sampling.").removeprefix("protocol.")
    if name in ("path", "adapter") and value is not None:
        value = PurePath(value).name or value
    return f"{plain} {'none' if value is None else value}"


def _column(name: str) -> int:
    """Which part of a label names a setting: the seed is of methods that draw frames or tokens."""
    section = name.split(".")[0]
    return 1 if section in ("sampling", "reader", "seed") else 2 if section == "protocol" else 0


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (_SHOWN.index(name) if name in _SHOWN else len(_SHOWN), name))
