"""ReTaKe (arXiv 2412.20504): DPSelect's keyframes, then PivotKV's cache compression that keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from methods.dpselect import DPSelect
from methods.pivotkv import PivotKV


@dataclass(frozen=True, kw_only=True)
class ReTaKe(DPSelect, PivotKV):
    """Both parts: `select` of DPSelect protects the peaks, `evict` of PivotKV spends what the ratio leaves.

    As in every released configuration DPSelect keeps all cells by default (`select_ratio` 1) and only protects peaks,
    place by place (`patch_sync` False: the released configurations that use DPSelect).
    """

    patch_sync: bool = False
    select_ratio: float | None = 1.0

    def __post_init__(self) -> None:
        DPSelect.__post_init__(self)
        PivotKV.__post_init__(self)
