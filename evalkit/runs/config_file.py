"""config.yaml: what one run was made with, its identity first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.method import Method, OperatingPoint
from evalkit.runs import identity
from evalkit.types import Benchmark


@dataclass(frozen=True)
class AdapterRecord:
    """The tuned weights that an operating point brings, in the place of the backbone's own adapter."""

    name: str  # the folder's
    path: str  # as configured
    weights: str  # hash of checkpoint and adapter


@dataclass(frozen=True, kw_only=True)
class SetupRecord:
    """What the runs of one grid have in common, as plain values."""

    # everything that can change an answer, beside question set, method and ratio
    identity_parts: Mapping[str, Any]
    # sections of config.yaml that only describe
    backbone: Mapping[str, Any]  # `name` and how the weights were loaded
    sampling: Mapping[str, Any]
    protocol: Mapping[str, Any]  # name and version
    reader: str
    share: bool
    seed: int
    adapter: AdapterRecord | None = None  # of the operating point; None: the backbone as it is


@dataclass(frozen=True, kw_only=True)
class TablePlace:
    """Where tables put a run, and what they compare it with."""

    place: int  # of the method among those of the configuration, from 0
    reference: str  # name of the method that the others are compared with
    notes: tuple[str, ...]  # lines below the table


def describe(
    setup: SetupRecord, benchmark: Benchmark, rows: str, point: OperatingPoint, table: TablePlace, subset: str
) -> dict[str, Any]:
    """config.yaml of one run; `rows` is `identity.rows(benchmark)`, which a grid computes once for all its points."""
    own, base = setup.adapter, setup.identity_parts.get("weights")
    parts = {
        **setup.identity_parts,
        **({} if own is None else {"weights": own.weights}),
        "benchmark": [benchmark.name, benchmark.split, benchmark.generated, rows],
        "method": _method(point.method, benchmark),
        "ratio": point.ratio,
    }
    return {
        "identity": identity.run_id(parts),
        "benchmark": _benchmark(benchmark, table.notes),
        "backbone": dict(setup.backbone),
        # its weights are those of identity_parts; `base`, the backbone's, say which runs it is compared with
        **({} if own is None else {"adapter": {"name": own.name, "path": own.path, "base": base}}),
        "sampling": dict(setup.sampling),
        "method": {
            "name": point.name,
            "role": point.method.role,
            **({"vacuous": True} if point.method.vacuous else {}),
            **parts["method"]["fields"],
            "class": parts["method"]["class"],
        },
        "ratio": point.ratio,
        "grid": {"place": table.place, "reference": table.reference},
        "protocol": dict(setup.protocol),
        "reader": setup.reader,
        "share": setup.share,
        "seed": setup.seed,
        "subset": subset,
        "identity_parts": parts,
    }


def _method(method: Method, benchmark: Benchmark) -> dict[str, Any]:
    """The method's part of the identity, with what it reads of the questions beside the rows that all methods share."""
    scores = {"frame_scores": identity.frame_scores(benchmark)} if method.needs_frame_scores else {}
    return {**identity.method(method), **scores}


def _benchmark(benchmark: Benchmark, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "label": benchmark.label,
        "split": benchmark.split,
        "questions": len(benchmark.questions) + len(benchmark.bad_rows),
        "generated": benchmark.generated,
        "root": str(benchmark.root),
        "notes": [*benchmark.notes, *notes],
    }
