"""Which of the published files of a benchmark a subset needs.

Sizes are those that the hub's pages show. Which archive holds which video is not published; the plan says so.
"""

from __future__ import annotations

from fnmatch import fnmatch
from glob import escape
from typing import TYPE_CHECKING

from evalkit.data import benchmarks
from evalkit.errors import ConfigError
from evalkit.hub import size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.data.benchmarks.spec import Source
    from evalkit.types import Benchmark, Question


def source(benchmark: str, repo: str | None = None) -> Source:
    """The first source of a benchmark, or the one of this name. ConfigError for another name."""
    known = published(benchmark)
    for found in known:
        if repo in (None, found.repo):
            return found
    raise ConfigError(f"--repo: {benchmark} is at {' or '.join(s.repo for s in known)}, got {repo!r}")


def published(benchmark: str) -> tuple[Source, ...]:
    """The sources of a benchmark. ConfigError for an unknown benchmark, or one that names none."""
    found = benchmarks.REGISTRY[benchmark].sources
    if not found:
        raise ConfigError(f"{benchmark}: its package names no place where it is published; get it by other means")
    return found


def video_files(found: Source, questions: Iterable[Question]) -> list[str] | None:
    """The repository's files that hold the videos of these questions; None where the repository does not say."""
    if found.video_file is None:
        return None
    files: dict[str, str] = {}
    for question in questions:
        files.setdefault(question.video_id, found.video_file(question))
    return sorted(files.values())


def patterns(found: Source, part: Benchmark | None) -> list[str]:
    """What to fetch, as names with *: everything, or for a part of the benchmark only what it needs."""
    names = None if part is None else video_files(found, part.questions)
    if names is None:
        return [_pattern(archive.name) for archive in found.archives]
    return [archive.name for archive in found.archives if not archive.videos] + [escape(name) for name in names]


def _pattern(name: str) -> str:
    """A file's name with all that follows a placeholder such as <task> left open."""
    fixed, placeholder, _ = name.partition("<")
    return fixed + "*" if placeholder else name


def wanted(files: Iterable[str], asked: Iterable[str]) -> list[str]:
    """The files of a repository that match any of the patterns."""
    asked = list(asked)
    return [name for name in files if any(fnmatch(name, pattern) for pattern in asked)]


def plan(name: str, part: Benchmark | None, subset: str) -> str:
    """What `data plan` prints. `part` is the subset; None where only the published files are asked for."""
    lines: list[str] = []
    if part is not None:
        lines.append(f"{part.label}: {len(part.questions)} questions on {len(part.by_video())} videos ({subset})\n")
    for found in published(name):
        lines += [f"{found.repo} (hub data set, revision {found.revision or 'to be named'}; {found.terms})"]
        lines += _needs(found, part)
        lines += [f"  then: {found.then}\n"]
    return "\n".join(lines)


def _needs(found: Source, part: Benchmark | None) -> list[str]:
    names = None if part is None else video_files(found, part.questions)
    rows = [f"  {archive.name:40}{size(archive.size):>10}  {archive.holds}" for archive in found.archives]
    if names is not None:
        rows += [f"  needed: {len(names)} of these videos, sizes not published in one place:"]
        rows += [f"    {name}" for name in names]
    elif any(archive.videos for archive in found.archives):
        rows += [f"  all video archives together: {size(found.total)}"] if found.total else []
        if part is not None:
            rows += ["  needed: all video archives, for which one holds which video is not published"]
    return rows
