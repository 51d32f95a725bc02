"""Downloading a published checkpoint into the hub's cache, when asked to; it goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from evalkit import hub
from evalkit.errors import ConfigError, DataError
from evalkit.hub import COMMIT
from evalkit.model import frame_scorer, load
from evalkit.model.checkpoint import PICKLES, Checkpoint, is_read, locate

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Listing:
    """The files of a repository that loading reads, at one commit."""

    repo: str
    revision: str | None  # that was asked for; None: main
    commit: str
    sizes: dict[str, int]  # bytes, by name
    missing: tuple[str, ...]  # of them: not in the cache, or only in part


def listing(repo: str, revision: str | None = None, *, weights: bool = True, endpoint: str | None = None) -> Listing:
    """Ask the hub what there is at `revision` (None: main), and the cache what is here already.

    `weights=False` leaves the weights out.

    Raises ConfigError for a repository without safetensors, DataError when the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with _explained(repo, revision):
        api = HfApi(endpoint=endpoint)
        commit = api.model_info(repo, revision=revision).sha or ""
        entries = api.list_repo_tree(repo, revision=commit, recursive=True)
        listed = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    sizes = {name: count for name, count in sorted(listed.items()) if is_read(name)}
    if not any(name.endswith(WEIGHTS) for name in sizes):
        pickles = [name for name in listed if any(fnmatch(name, pattern) for pattern in PICKLES)]
        content = f"pickled weights alone ({pickles[0]} …), which are never loaded" if pickles else "no weights"
        raise ConfigError(f"{repo} at {commit[:12]}: expected model*.safetensors, the repository has {content}")
    if not weights:
        sizes = {name: count for name, count in sizes.items() if not name.endswith(WEIGHTS)}
    missing = tuple(name for name in sizes if not _here(repo, commit, name, sizes[name]))
    return Listing(repo, revision, commit, sizes, missing)


def fetch(found: Listing, *, endpoint: str | None = None) -> Checkpoint:
    """Download what is missing into the hub's cache; returns the snapshot.

    Raises ConfigError for a checkpoint that a run would refuse, where possible before its weights are fetched;
    DataError when the hub cannot be reached, refuses, or the disk is too small. What was fetched stays; the next call
    goes on from there.
    """
    from huggingface_hub import constants

    needed = sum(found.sizes[name] for name in found.missing)
    hub.check_room(Path(constants.HF_HUB_CACHE), needed, "free some, or name another folder by HF_HOME")
    weights = [name for name in found.sizes if name.endswith(WEIGHTS)]
    snapshot = _download(found, [name for name in found.sizes if name not in weights], endpoint)
    scorer = frame_scorer.is_scorer(snapshot)
    if not scorer:
        load.skeleton(snapshot)
    if weights:
        _download(found, weights, endpoint)
    short = [name for name in found.sizes if not _here(found.repo, found.commit, name, found.sizes[name])]
    if short:
        raise DataError(
            f"{found.repo}: {', '.join(short[:3])} not complete after fetching ({len(short)} files); call again"
        )
    if weights and not scorer:
        load.check(locate(found.repo, found.revision))
    return snapshot


def _download(found: Listing, names: Sequence[str], endpoint: str | None) -> Checkpoint:
    from huggingface_hub import snapshot_download

    with _explained(found.repo, found.revision):
        folder = Path(
            snapshot_download(
                found.repo,
                revision=found.revision,  # as it was asked for: the cache notes which commit a branch has
                allow_patterns=[escape(name) for name in names],
                endpoint=endpoint,
            )
        )
    if folder.name != found.commit:
        raise DataError(f"{found.repo}: {found.revision or 'main'} moved on under the download; call again")
    return Checkpoint(found.repo, folder, folder.name, found.revision)


def _here(repo: str, commit: str, name: str, count: int) -> bool:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=commit)
    return isinstance(path, str) and Path(path).stat().st_size == count


def _explained(repo: str, revision: str | None) -> AbstractContextManager[None]:
    protected = f"{revision[:12] if COMMIT.fullmatch(revision) else revision}" if revision else "main"
    return hub.explained(
        f"{repo} at {protected}",
        terms=f"accept them at https://huggingface.co/{repo}, then log in with `hf auth login`",
        unknown="the hub knows no such repository or revision; check the name and --revision",
        otherwise="copy the repository from a machine that has it, and give the folder as backbone.path=DIR",
    )
