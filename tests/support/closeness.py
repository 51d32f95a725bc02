"""How far two fp32 computations of the same vectors lie apart: hidden states, logits, keys, values.

|mine − theirs| ≤ ATOL + RTOL · largest |theirs| of the token's vector. Relative, since fp32 rounds at the size of what
is added: a residual stream grows from layer to layer (in XComp's traces from 1 to 8 in the mean, up to 32), and an
absolute bound is loose at its beginning and too tight at its end. To the largest and not to each number, since one near
zero is a difference of large ones. RTOL: 28 layers of a few roundings of 6e-8 each add up to 1e-5; what is measured is
at most 7.3e-6. ATOL is for vectors that are near zero as a whole.
"""

from __future__ import annotations

from torch import Tensor

RTOL = 2e-5
ATOL = 1e-6


def apart(mine: Tensor, theirs: Tensor) -> float:
    """The largest relative error of the vectors (last dimension), to hold against RTOL; infinite for other shapes."""
    if mine.shape != theirs.shape:
        return float("inf")
    if not theirs.numel():
        return 0.0
    size = theirs.abs().amax(-1, keepdim=True) + ATOL / RTOL
    return float(((mine - theirs).abs() / size).max().item())
