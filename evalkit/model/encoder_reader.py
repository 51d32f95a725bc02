"""Reading the last block of a vision encoder while it runs, for methods that declare a need for it.

A reader hangs on the tower while a slice is encoded and is taken off again; without one the tower runs as ever. What it
computes is timed and counted apart, so that those who did not ask do not pay.
Shape letters: B cells of a slice, T of the video, n patches and P visual tokens of a cell, S = B·n, H heads, d head
width, D feature width, K key width.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from evalkit.encoder_view import EncoderView
from evalkit.model.encoder_attention import pooled, received, received_from_mean
from evalkit.model.positions import rotate
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.model.siglip_tower import SiglipTower
    from evalkit.model.vision_tower import VisionTower

    Timed = Callable[[Need], AbstractContextManager[None]]


def untimed(_need: Need) -> AbstractContextManager[None]:
    """A context that measures nothing."""
    return nullcontext()


class EncoderReader:
    """Collects, slice by slice, what some methods need; a tower's own says how a need is computed."""

    def __init__(self, needs: frozenset[Need], timed: Timed) -> None:
        """`timed`: a context around the work for one need."""
        self.needs, self.timed = needs, timed
        self._found: dict[Need, list[Tensor]] = defaultdict(list)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on inside the block, which encodes the next cells; where it fails, it has read nothing."""
        before = {need: len(parts) for need, parts in self._found.items()}
        handles = self._hooks()
        try:
            yield
        except BaseException:
            for need, parts in self._found.items():
                del parts[before.get(need, 0) :]
            raise
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self) -> list[Any]:
        """Handles of the hooks by which the tower is read."""
        return []

    def collect(self, need: Need, compute: Callable[[], Tensor]) -> None:
        """One slice's share of `need`, where it is one."""
        if need in self.needs:
            with self.timed(need):
                self._found[need].append(compute().float())

    def view(self, features: Tensor, cells: int) -> EncoderView:
        """Everything that was read while `features` (T·P, D) of `cells` cells were encoded."""
        if not self._found["summary"]:
            self.collect("summary", lambda: features.float().view(cells, -1, features.shape[-1]).mean(1))
        return EncoderView(**{need: torch.cat(parts) for need, parts in self._found.items() if parts})


class QwenReader(EncoderReader):
    """Of a Qwen vision tower's last block; its queries and keys are those after rotation, its key vectors before."""

    def __init__(self, needs: frozenset[Need], timed: Timed, tower: VisionTower, grid: tuple[int, int]) -> None:
        """`grid`: rows and columns of visual tokens of a cell."""
        super().__init__(needs, timed)
        self.attention, self.patches = tower.module.blocks[-1].attn, tower.merge**2
        self.places, self.order = grid[0] * grid[1], tower.token_order(grid)
        self._projected: Tensor | None = None

    def _hooks(self) -> list[Any]:
        def project(_module: Any, _args: Any, out: Tensor) -> None:
            self._projected = out

        return [
            self.attention.qkv.register_forward_hook(project),
            self.attention.register_forward_hook(self._attended, with_kwargs=True),
        ]

    def _attended(self, module: Any, _args: Any, kwargs: dict[str, Any], _out: Tensor) -> None:
        assert self._projected is not None
        queries, keys, _ = self._projected.view(len(self._projected), 3, module.num_heads, -1).permute(1, 2, 0, 3)
        self._projected = None
        self.collect("keys", lambda: self._raster(self._per_token(self._cells(keys.float().mean(0), 0), 1)))
        if self.needs & {"attention", "pooled_attention"}:
            cos, sin = (table.float() for table in kwargs["position_embeddings"])
            self.read(*(rotate(x.float(), cos, sin).to(x.dtype) for x in (queries, keys)))

    def read(self, queries: Tensor, keys: Tensor) -> None:
        """Queries and keys (H, S, d) after rotation."""
        queries, keys = (self._cells(x, 1).transpose(0, 1) for x in (queries, keys))  # (B, H, n, d)
        self.collect("attention", lambda: self._raster(self._per_token(received(queries, keys), 1)))
        self.collect(
            "pooled_attention",
            lambda: self._raster(received_from_mean(queries, self._per_token(keys.float(), 2))),
        )

    def _cells(self, x: Tensor, at: int) -> Tensor:
        """S patches along dimension `at` as B cells of n."""
        return x.reshape(*x.shape[:at], -1, self.places * self.patches, *x.shape[at + 1 :])

    def _per_token(self, x: Tensor, at: int) -> Tensor:
        """Mean over the patches of a token, which follow each other along dimension `at`."""
        return x.reshape(*x.shape[:at], -1, self.patches, *x.shape[at + 1 :]).mean(at + 1)

    def _raster(self, x: Tensor) -> Tensor:
        """(B, P, …) in the tower's order -> (B·P, …) in raster order."""
        out = torch.empty_like(x)
        out[:, to_device(self.order, x.device)] = x
        return out.flatten(0, 1)


class SiglipReader(EncoderReader):
    """Of the last layer of SigLIP that is run, and of its pooling head where there is one; all pooled like features."""

    def __init__(self, needs: frozenset[Need], timed: Timed, tower: SiglipTower) -> None:
        super().__init__(needs, timed)
        self.tower, self.layer = tower, tower.module.encoder.layers[tower.depth - 1]
        self._projected: dict[str, Tensor] = {}

    def _hooks(self) -> list[Any]:
        def remember(name: str) -> Any:
            return lambda _module, _args, out: self._projected.__setitem__(name, out)

        attention = self.layer.self_attn
        return [
            attention.q_proj.register_forward_hook(remember("queries")),
            attention.k_proj.register_forward_hook(remember("keys")),
            self.layer.register_forward_hook(lambda _module, _args, out: self._ran(out)),
        ]

    def _ran(self, hidden: Tensor) -> None:
        heads = self.layer.self_attn.num_heads
        projected = (self._projected.pop(name) for name in ("queries", "keys"))
        queries, keys = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in projected)
        self.collect("attention", lambda: self._pooled(received(queries, keys)[..., None])[:, 0])
        self.collect("keys", lambda: self._pooled(keys.float().mean(1)))
        pooling = self.tower.pooling_head
        if pooling is not None:
            head = cache(lambda: pooled(hidden, pooling.norm, pooling.head))
            self.collect("pooled_attention", lambda: self._pooled(head()[0][..., None])[:, 0])
            self.collect("summary", lambda: head()[1])

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, n, K) of patches -> (B·P, K) of tokens."""
        side = self.tower.patches
        places = x.transpose(1, 2).reshape(len(x), -1, side, side)
        return self.tower.pool(places).flatten(2).transpose(1, 2).flatten(0, 1)


def qwen_view_flops(tower: VisionTower, needs: frozenset[Need], grid: tuple[int, int]) -> int:
    """Operations of reading one cell of `grid` rows and columns of tokens."""
    places = grid[0] * grid[1]
    patches, width = places * tower.merge**2, tower.width
    received = 2 * patches**2 * width if "attention" in needs else 0
    return received + (2 * places * width if "pooled_attention" in needs else 0)


def siglip_view_flops(tower: SiglipTower, needs: frozenset[Need]) -> int:
    """Operations of reading one frame."""
    config, patches = tower.module.config, tower.patches**2
    width, inner = int(config.hidden_size), int(config.intermediate_size)
    received = 2 * patches**2 * width if "attention" in needs else 0
    if not needs & {"pooled_attention", "summary"}:
        return received
    projections = 2 * width * width * (1 + 2 * patches + 1)  # query, keys and values, output
    return received + projections + 2 * 2 * patches * width + 2 * 2 * width * inner
