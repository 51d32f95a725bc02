"""Nested subsets for quick checks: ci-50 ⊂ ci-200 ⊂ ci-600 ⊂ full, named by their number of questions (about).

A subset holds whole videos with all their questions, so that it costs what its name says, statistics clustered by video
stay valid, and shared work stays shared. Its videos are drawn in proportion from the strata duration × task type. Of
many such draws the one whose questions lie closest to the whole set's shares is taken (rerandomisation: Morgan & Rubin
2012, Annals of Statistics 40(2)); the next smaller subset is drawn from it in the same way. Everything is seeded.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from evalkit import atomic_write
from evalkit.data import benchmarks
from evalkit.data.prepare.checksums import rows_sha256, sha256, stamp
from evalkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from evalkit.types import Benchmark, Question

FULL = "full"
SIZES = {"ci-600": 600, "ci-200": 200, "ci-50": 50}  # questions; each is drawn from the one before
NAMES = (FULL, *SIZES)
FILE = "subsets.json"  # beside the annotations: lists that are kept, whatever a later version would draw
SEED = 20260101
DRAWS = 500

Ids = tuple[str, ...]


def restrict(benchmark: Benchmark, name: str) -> Benchmark:
    """The benchmark with the questions of one subset; rows that cannot be asked belong to the full set alone.

    A subset that would hold every question is the full set and is called so. The rows' checksum is part of a run's
    identity, so a subset has run folders of its own: one folder holds one question set, its config.yaml tells which,
    and no table has to guess whether a run is small or unfinished. What is answered is the same in both.

    Raises ConfigError for an unknown name, DataError where a stored list does not belong to these rows.
    """
    check(name)
    if name == FULL:
        return benchmark
    chosen = set(lists(benchmark)[name])
    if chosen == {q.id for q in benchmark.questions}:
        return benchmark
    questions = tuple(q for q in benchmark.questions if q.id in chosen)
    part = replace(benchmark, questions=questions, bad_rows=(), label=f"{benchmark.label} {name}")
    of = f"{len(questions)} of {len(benchmark.questions)} questions"
    videos = f"{len(part.by_video())} of {len(benchmark.by_video())} videos"
    note = f"subset {name}: {of}, {videos}, list {sha256(sorted(chosen))[:12]}"
    return replace(part, notes=(note, *(f"of the full set: {note}" for note in benchmark.notes)))


def check(name: str) -> None:
    """ConfigError for an unknown name."""
    if name not in NAMES:
        raise ConfigError(f"subset: expected one of {', '.join(NAMES)}, got {name!r}")


def lists(benchmark: Benchmark) -> dict[str, Ids]:
    """Question ids of every subset but the full one: as stored beside the data, as published for the built-in sets,
    else drawn from the rows.
    """
    path = benchmark.root / FILE
    if path.is_file():
        return _stored(path.read_bytes(), str(path), benchmark)
    published = benchmarks.REGISTRY[benchmark.name].subset_lists
    if published is not None and published_rows(benchmark):
        return _stored(published.read_bytes(), str(published), benchmark)
    return draw(benchmark)


def published_rows(benchmark: Benchmark) -> str:
    """The rows' checksum that comes with evalkit for a generated set of this stamp; "" for all other data."""
    lists_file = benchmarks.REGISTRY[benchmark.name].subset_lists if benchmark.generated else None
    if lists_file is None:
        return ""
    published = json.loads(lists_file.read_text(encoding="utf-8"))
    return str(published["rows_sha256"]) if published["stamp"] == stamp(benchmark) else ""


def write(benchmark: Benchmark) -> Path:
    """Draw the lists and store them as subsets.json beside the annotations. ConfigError if that cannot be written."""
    path = benchmark.root / FILE
    try:
        atomic_write.replace(path, json.dumps(document(benchmark), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); make the folder writable") from error
    return path


def document(benchmark: Benchmark) -> dict[str, Any]:
    """What is stored: the lists with a checksum each, and the checksum of the rows from which they were drawn."""
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "stamp": stamp(benchmark) if benchmark.generated else None,
        "seed": SEED,
        "questions": len(benchmark.questions),
        "rows_sha256": rows_sha256(benchmark),
        "subsets": {name: {"sha256": sha256(ids), "questions": ids} for name, ids in draw(benchmark).items()},
    }


def _stored(data: bytes, where: str, benchmark: Benchmark) -> dict[str, Ids]:
    again = f"or draw anew: python -m evalkit data subset {benchmark.name} --root DIR --write"
    try:
        value = json.loads(data)
        rows = value["rows_sha256"]
        found = {name: tuple(value["subsets"][name]["questions"]) for name in SIZES}
        intact = all(sha256(ids) == value["subsets"][name]["sha256"] for name, ids in found.items())
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: expected subset lists as evalkit writes them, got {error!r}; remove the file, {again}"
        ) from error
    if not intact:
        raise DataError(f"{where}: a list does not match its checksum, it was edited; restore the file, {again}")
    if rows != (now := rows_sha256(benchmark)):
        raise DataError(
            f"{where}: the lists were drawn from {value.get('questions')} rows with checksum {rows[:12]}, "
            f"{benchmark.root} holds {len(benchmark.questions)} with {now[:12]}; restore the annotation files, {again}"
        )
    return found


# ---- drawing


def draw(benchmark: Benchmark) -> dict[str, Ids]:
    """Question ids (sorted) of every subset but the full one, the same for the same rows in any order."""
    videos = dict(sorted(benchmark.by_video().items()))
    pool, found = list(videos), {}
    for name, size in SIZES.items():
        pool = _closest(videos, pool, size, Random(f"{SEED}:{benchmark.name}:{name}"))
        found[name] = tuple(sorted(q.id for video in pool for q in videos[video]))
    return found


def _closest(videos: Mapping[str, Sequence[Question]], pool: Sequence[str], size: int, rng: Random) -> list[str]:
    """The videos of `pool` whose questions number about `size` and resemble all `videos` most, of `DRAWS` draws."""
    if sum(len(videos[video]) for video in pool) <= size:
        return list(pool)
    strata: dict[str, list[str]] = defaultdict(list)
    for video in pool:
        strata[stratum(videos[video])].append(video)
    counts = {video: shares(videos[video]) for video in pool}
    full = shares(q for questions in videos.values() for q in questions)
    draws = (_first(_order(strata, rng), videos, size) for _ in range(DRAWS))
    return sorted(min(draws, key=lambda chosen: distance(_sum(counts[video] for video in chosen), full)))


def _order(strata: Mapping[str, Sequence[str]], rng: Random) -> list[str]:
    """All videos, shuffled, so that every beginning holds about the same share of each stratum."""
    places: list[tuple[float, str]] = []
    for members in strata.values():
        shuffled = sorted((rng.random(), video) for video in members)  # Random.shuffle may change between versions
        start = rng.random()
        places += [((rank + start) / len(members), video) for rank, (_, video) in enumerate(shuffled)]
    return [video for _, video in sorted(places)]


def _first(order: Sequence[str], videos: Mapping[str, Sequence[Question]], size: int) -> list[str]:
    """The beginning whose number of questions comes closest to `size`; never empty."""
    total, best, cut = 0, math.inf, 1
    for count, video in enumerate(order, 1):
        total += len(videos[video])
        if abs(total - size) >= best:
            break
        best, cut = abs(total - size), count
    return list(order[:cut])


def stratum(questions: Sequence[Question]) -> str:
    """A video's stratum: its duration and its most frequent task type."""
    tasks = Counter(label for q in questions for label in _labels(q, "task_type"))
    return f"{_labels(questions[0], 'duration')[0]} × {min(tasks, key=lambda task: (-tasks[task], task))}"


def shares(questions: Iterable[Question]) -> dict[str, float]:
    """Questions by duration, by task type and by both; one with several labels counts in parts."""
    found: dict[str, float] = defaultdict(float)
    for q in questions:
        (duration, *_), tasks = _labels(q, "duration"), _labels(q, "task_type")
        found[f"{duration} ×"] += 1
        for task in tasks:
            found[f"× {task}"] += 1 / len(tasks)
            found[f"{duration} × {task}"] += 1 / len(tasks)
    return found


def distance(part: Mapping[str, float], full: Mapping[str, float]) -> float:
    """Sum of the squared differences between two sets' shares; rounded, so that every machine ranks draws alike."""
    mine, all_ = (math.fsum(v for key, v in counts.items() if key.endswith("×")) for counts in (part, full))
    gaps = (part.get(key, 0.0) / mine - count / all_ for key, count in full.items())
    return round(math.fsum(gap**2 for gap in gaps), 12)


def _sum(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for count in counts:
        for key, value in count.items():
            total[key] += value
    return total


def _labels(question: Question, kind: str) -> tuple[str, ...]:
    return tuple(question.groups.get(kind) or ("unknown",))
