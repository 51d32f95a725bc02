"""What downloads from the Hugging Face hub share: its errors in our words, sizes as people read them, disk room."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.errors import DataError

COMMIT = re.compile(r"[0-9a-f]{40}")
GB = 10**9


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "unknown"
    unit, name = next(((unit, name) for unit, name in ((GB, "GB"), (10**6, "MB")) if count >= unit), (10**3, "kB"))
    return f"{count / unit:.3g} {name}"


def check_room(folder: Path, needed: int, remedy: str) -> None:
    """DataError where the disk under `folder` has less than `needed` bytes free; `remedy` says what to do then."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DataError(f"{folder}: expected room for {size(needed)}, the disk has {size(free)} free; {remedy}")


@contextmanager
def explained(what: str, *, terms: str, unknown: str, otherwise: str) -> Iterator[None]:
    """Turn huggingface_hub's errors into DataErrors about `what`.

    `terms`: where consent is given, for a gated repository. `unknown`: what is said of a repository or revision that
    the hub does not know. `otherwise`: another way than the network.
    """
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DataError(f"{what}: access needs consent: {terms}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise DataError(f"{what}: {unknown}") from error
    except errors.OfflineModeIsEnabled as error:
        raise DataError(f"{what}: the hub is switched off by HF_HUB_OFFLINE; unset it to fetch") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{what}: the hub could not be reached ({reason[0]}). Check the network and call again: it goes on where "
            f"it stopped. Or {otherwise}"
        ) from error
