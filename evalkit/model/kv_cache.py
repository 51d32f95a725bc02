"""A preallocated cache layer: what is kept lies in one buffer that is written in place, not grown by concatenation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

GROWTH = 1.25  # of the buffer where more entries come than were reserved
SLACK = 64  # entries for what is generated


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (1, G, length, d) as views of longer buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.reserved = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def length(self) -> int:
        """Entries cached."""
        return int(self.keys.shape[2]) if self.is_initialized else 0

    def reserve(self, entries: int) -> None:
        """Make the next buffer at least so many entries long."""
        self.reserved = max(self.reserved, entries)

    def copy(self) -> PreallocatedLayer:
        """The same entries in buffers of its own."""
        other = PreallocatedLayer()
        other.reserved = self.reserved
        if self.is_initialized:
            other.update(self.keys, self.values)
        return other

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append (1, G, S, d) keys and values; returns all of them."""
        self.keys, self.values = self.followed_by((key_states, value_states))
        return self.keys, self.values

    def followed_by(self, *parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """All keys and values with those of `parts` after them, which are no part of the cache.

        They lie where what comes next is written.
        """
        start = self.length
        end = start + sum(int(keys.shape[2]) for keys, _ in parts)
        if self._keys is None or self._values is None or end > self._keys.shape[2]:
            self._grow(*parts[0], end)
        assert self._keys is not None
        assert self._values is not None
        for keys, values in parts:
            stop = start + keys.shape[2]
            self._keys[:, :, start:stop] = keys
            self._values[:, :, start:stop] = values
            start = stop
        return self._keys[:, :, :end], self._values[:, :, :end]

    def _grow(self, keys: Tensor, values: Tensor, needed: int) -> None:
        capacity = max(self.reserved, int(needed * GROWTH) + SLACK)
        old, length = (self._keys, self._values), self.length
        self._keys, self._values = (x.new_empty(1, x.shape[1], capacity, x.shape[3]) for x in (keys, values))
        if length:
            for new, cached in zip((self._keys, self._values), old, strict=True):
                assert cached is not None
                new[:, :, :length] = cached[:, :, :length]
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._set_length(length)

    def _set_length(self, length: int) -> None:
        assert self._keys is not None
        assert self._values is not None
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]

    def truncate(self, length: int) -> None:
        """Forget all entries after the first `length`."""
        if self.is_initialized:
            self._set_length(length)

    def keep_of_last(self, size: int, index: Tensor, keys: Tensor | None) -> None:
        """Of the last `size` entries keep those at `index` (K,), with `keys` (1, G, K, d) for theirs where given.

        `index` is on the device of the cache; (G, K) keeps others of each key head.
        """
        assert self._keys is not None
        assert self._values is not None
        start = self.length - size
        end = start + index.shape[-1]
        kept = _chosen(self.keys[:, :, start:], index) if keys is None else keys
        self._values[:, :, start:end] = _chosen(self.values[:, :, start:], index)
        self._keys[:, :, start:end] = kept
        self._set_length(end)


def _chosen(entries: Tensor, index: Tensor) -> Tensor:
    """Of entries (1, G, S, d) those at `index` (K,) or (G, K)."""
    if index.ndim == 1:
        return entries.index_select(2, index)
    return entries.gather(2, index[None, :, :, None].expand(-1, -1, -1, entries.shape[3]))
