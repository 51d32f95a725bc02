"""Downloading a published benchmark, when asked to: huggingface_hub does it, and goes on where it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from glob import escape
from pathlib import Path

from evalkit import hub
from evalkit.data.benchmarks.spec import Source
from evalkit.data.prepare.sources import wanted
from evalkit.errors import ConfigError, DataError
from evalkit.hub import COMMIT, size

log = logging.getLogger(__name__)


def fetch(
    source: Source,
    root: Path,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    list_only: bool = False,
) -> dict[str, int]:
    """Fetch the files of `source` that match `patterns` into `root`; returns them with their sizes in bytes.

    `endpoint` is the address of another hub than huggingface.co. `list_only` asks the hub and fetches nothing.

    Raises ConfigError for a revision that is no commit or patterns that match nothing, DataError when the hub cannot
    be reached, refuses, or the disk is too small. What was fetched stays; the next call goes on from there.
    """
    commit = _commit(source, revision)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    with _explained(source, commit):
        # asked first: without the hub, snapshot_download may be content with what the folder holds
        tree = HfApi(endpoint=endpoint).list_repo_tree(
            source.repo, repo_type="dataset", revision=commit, recursive=True
        )
        listed = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
    sizes = {name: listed[name] for name in wanted(listed, patterns)}
    _check_found(source, commit, patterns, sizes)
    if list_only:
        return sizes
    missing = {name: count for name, count in sizes.items() if not _complete(root / name, count)}
    hub.check_room(root, sum(missing.values()), "give another --root")
    log.info("%s: %d files to fetch, %s", source.repo, len(missing), size(sum(missing.values())))
    if missing:
        with _explained(source, commit):
            snapshot_download(
                source.repo,
                repo_type="dataset",
                revision=commit,
                local_dir=root,
                allow_patterns=[escape(name) for name in missing],
                endpoint=endpoint,
            )
    short = [name for name, count in sizes.items() if not _complete(root / name, count)]
    if short:
        raise DataError(f"{root / short[0]}: not complete after fetching ({len(short)} files); fetch again")
    return sizes


def _commit(source: Source, revision: str | None) -> str:
    commit = revision or source.revision
    if commit is None or not COMMIT.fullmatch(commit):
        raise ConfigError(
            f"--revision: expected a commit of {source.repo} (40 hexadecimal digits), got {commit!r}; a branch may "
            f"change under you. Commits: https://huggingface.co/datasets/{source.repo}/commits/main"
        )
    return commit


def _check_found(source: Source, commit: str, patterns: Sequence[str], sizes: dict[str, int]) -> None:
    idle = [pattern for pattern in patterns if not wanted(sizes, [pattern])]
    if idle:
        raise ConfigError(
            f"{source.repo} at {commit[:12]} has no file {idle[0]!r} ({len(idle)} of {len(patterns)} names match "
            "nothing); name files with --files, or another --revision or --repo"
        )


def _complete(path: Path, count: int) -> bool:
    return path.is_file() and path.stat().st_size == count


def _explained(source: Source, commit: str) -> AbstractContextManager[None]:
    """Turn the library's errors into evalkit's."""
    return hub.explained(
        source.repo,
        terms=source.terms,
        unknown=f"at {commit[:12]} the hub knows no such data set or commit; check --repo and --revision",
        otherwise="copy the files from a machine that has them; `data plan` names them",
    )
