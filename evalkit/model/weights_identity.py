"""What tells a checkpoint's weights from others: hashes of content, never of where it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.model import adapter as tuned
from evalkit.model.checkpoint import Checkpoint, locate

if TYPE_CHECKING:
    from hashlib import _Hash

SUFFIXES = {".json", ".jinja", ".safetensors", ".txt"}
WHOLE_FILE_BYTES = 256 * 2**20  # larger weight files are identified by samples of their bytes
SAMPLES = 64


def weights_identity(checkpoint: str | Checkpoint, adapter: str | None = None) -> str:
    """A hash of a checkpoint's config, tokenizer, template and weights, and of those of an adapter.

    Of a snapshot in the hub's cache it is made of the commit and of the hashes that the hub gives each file. Of a
    folder it is made of the files; those over 256 MB are read at 64 evenly spaced places and at both ends.
    """
    found = locate(checkpoint)
    base = _of_folder(found.folder, found.commit)
    if adapter is None:
        return base
    return hashlib.sha256(f"{base}+{_of_folder(tuned.check(adapter))}".encode()).hexdigest()[:16]


def _of_folder(folder: Path, commit: str | None = None) -> str:
    digest = hashlib.sha256()
    if commit is not None:
        digest.update(f"commit {commit}:".encode())
    for file in sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES):
        if commit is not None and file.is_symlink():
            # the cache names a file's content by the hash that the hub gave with it
            digest.update(f"{file.name}:{file.readlink().name}:".encode())
        else:
            digest.update(f"{file.name}:{file.stat().st_size}:".encode())
            _update(digest, file)
    return digest.hexdigest()[:16]


def _update(digest: _Hash, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE_BYTES:
            digest.update(stream.read())
            return
        block = 2**16
        for i in range(SAMPLES + 1):
            stream.seek(i * (size - block) // SAMPLES)
            digest.update(stream.read(block))
