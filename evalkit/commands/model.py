"""`python -m evalkit model fetch`: what it reads from the command line and prints."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.model.fetch import Listing


def add(commands: Any) -> None:
    """Add the command `model` with its actions."""
    actions = commands.add_parser("model", help="fetch a backbone's weights").add_subparsers(
        required=True, metavar="ACTION"
    )
    about = "download a checkpoint from the Hugging Face hub into its cache; resumes"
    fetch = actions.add_parser("fetch", help=about, description=about)
    fetch.add_argument("name", metavar="NAME", help="a file of conf/backbone (qwen2_vl_7b), or a hub id (owner/name)")
    fetch.add_argument("--revision", help="commit, branch or tag (default: the backbone's own; of a hub id main)")
    fetch.add_argument("--endpoint", help="address of another hub, e.g. a mirror")
    fetch.add_argument(
        "--no-weights", action="store_true", help="settings and tokenizer alone: enough for dry_run=true"
    )
    fetch.add_argument("--list", action="store_true", help="ask the hub for names and sizes, fetch nothing")
    fetch.set_defaults(run=_fetch)


def _fetch(args: argparse.Namespace) -> int:
    from evalkit.model import fetch, frame_scorer

    repo, protected = _repository(args.name)
    revision = args.revision or protected
    found = fetch.listing(repo, revision, weights=not args.no_weights, endpoint=args.endpoint)
    print(_table(found), flush=True)
    if args.list:
        return 0
    snapshot = fetch.fetch(found, endpoint=args.endpoint)
    print(f"complete: {snapshot.folder}")
    print(f"then: {_score(args, repo) if frame_scorer.is_scorer(snapshot) else _use(args, repo)}")
    return 0


def _score(args: argparse.Namespace, repo: str) -> str:
    """How frames are scored with what was fetched."""
    revision = f" --revision {args.revision}" if args.revision else ""
    return f"python -m evalkit data score-frames BENCHMARK --root DIR --model {repo}{revision} --out FILE.json"


def _repository(name: str) -> tuple[str, str | None]:
    """Hub id and revision of a backbone's configuration, or of a hub id itself."""
    from evalkit.config import choices
    from evalkit.model.checkpoint import HUB_ID

    if HUB_ID.fullmatch(name):
        return name, None
    if name not in choices.names("backbone"):
        raise ConfigError(
            f"model fetch: expected a backbone among {choices.listed('backbone')}, or a hub id (owner/name); "
            f"got {name!r}"
        )
    backbone: Any = choices.settings("backbone", name)
    path = backbone.get("path")
    if path is None or not HUB_ID.fullmatch(path):
        raise ConfigError(f"model fetch: backbone={name} takes no weights from the hub; there is nothing to fetch")
    return path, backbone.get("revision")


def _table(found: Listing) -> str:
    from evalkit.hub import size

    states = {name: "to fetch" if name in found.missing else "here" for name in found.sizes}
    lines = [f"{found.repo}, commit {found.commit}"]
    lines += [f"{size(count):>10}  {states[name]:8}  {name}" for name, count in found.sizes.items()]
    needed = sum(found.sizes[name] for name in found.missing)
    lines += [f"{size(sum(found.sizes.values())):>10}  in all, {len(found.sizes)} files; to fetch: {size(needed)}"]
    return "\n".join(lines)


def _use(args: argparse.Namespace, repo: str) -> str:
    """How a run takes what was fetched."""
    named = args.name != repo
    revision = f" backbone.revision={args.revision}" if args.revision else ""
    return f"python run_eval.py backbone={args.name if named else 'NAME'}" + (
        revision if named else f" backbone.path={repo}{revision}"
    )
