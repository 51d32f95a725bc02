"""What tells a checkpoint's weights from others: hashes of content, never of where it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evalkit.model import adapter as tuned
from evalkit.model import file_hashes
from evalkit.model.checkpoint import Checkpoint, locate

SUFFIXES = {".json", ".jinja", ".safetensors", ".txt"}
WHOLE_FILE_BYTES = 256 * 2**20  # of larger files, the hash takes the place of the content


def weights_identity(checkpoint: str | Checkpoint, adapter: str | None = None) -> str:
    """A hash of a checkpoint's config, tokenizer, template and weights, and of those of an adapter.

    Of a snapshot in the hub's cache it is made of the commit and of the hashes that the hub gives each file. Of a
    folder it is made of the content of its files; the hashes of those over 256 MB are remembered (file_hashes).
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
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}:".encode())
            digest.update(file.read_bytes() if size <= WHOLE_FILE_BYTES else file_hashes.sha256(file).encode())
    return digest.hexdigest()[:16]
