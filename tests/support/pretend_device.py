"""A GPU that is not there: tensors say that they are on it, and the CPU computes their numbers.

Within `PretendDevice` everything that goes from one device to the other is seen, and so is what would make the host
wait for a GPU. An operation on tensors of both devices fails as it does on a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from evalkit import to_device
from evalkit.model import attention

_setup_privateuseone_for_python_backend()  # for the whole process, which then knows one more type of device
DEVICE = torch.device("privateuseone", 0)
aten = torch.ops.aten

# what makes the host wait until a GPU has come so far, beside copies: the size or the course depends on a value
WAITING = {
    aten._local_scalar_dense: "a number is read",
    aten.equal: "a comparison is read",
    aten.nonzero: "places are counted",
    aten.masked_select: "places are counted",
    aten.bincount: "a maximum is read",
    aten.unique_dim: "places are counted",
    aten._unique2: "places are counted",
    aten.repeat_interleave: "a sum is read",
}


class OnDevice(Tensor):
    """A tensor that says it is on the device."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        return made

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor of the device outside PretendDevice()")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner})"


class PretendDevice(TorchDispatchMode):
    """Computes, and counts: `waits` by what waits, and `sent`: vectors that went to the device without a wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.sent = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        packet, given = func.overloadpacket, [*_tensors(args), *_tensors(kwargs.values())]
        here = [x for x in given if not isinstance(x, OnDevice)]
        on_device = len(here) < len(given)
        if packet is aten._fused_sdp_choice:
            return 0  # plain products: the CPU's kernel is no GPU's
        if packet is aten.copy_ and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
            self._crossed(to_device=isinstance(args[0], OnDevice), blocking=not (len(args) > 2 and args[2]))
        elif on_device:
            self._check(func, packet, args, here)
        if kwargs.get("device") is not None:  # of a tensor like another
            on_device = torch.device(kwargs["device"]).type == DEVICE.type
            kwargs["device"] = torch.device("cpu")
        if on_device and packet in WAITING:
            self.waits[WAITING[packet]] += 1
        out = func(*_inner(args), **{name: _inner(x) for name, x in kwargs.items()})
        if func._schema.is_mutable and args and isinstance(args[0], Tensor):
            return args[0]
        return _there(out) if on_device else out

    def _check(self, func: Any, packet: Any, args: Any, here: list[Tensor]) -> None:
        if packet in (aten.index, aten.index_put_, aten._index_put_impl_, aten.index_put):
            for index in args[1]:
                if isinstance(index, Tensor) and not isinstance(index, OnDevice) and isinstance(args[0], OnDevice):
                    self._crossed(to_device=True, blocking=True)
                if isinstance(index, OnDevice) and index.dtype == torch.bool:
                    self.waits["places are counted"] += 1
            here = [x for x in args[:1] if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
        if any(x.dim() for x in here):
            raise RuntimeError(f"{func}: expected all tensors on the same device, got cpu and {DEVICE}")

    def copied(self, x: Tensor, device: torch.device, *, blocking: bool) -> Tensor:
        """A tensor on one of the two devices."""
        to_device = device.type == DEVICE.type
        if to_device == isinstance(x, OnDevice):
            return x
        self._crossed(to_device=to_device, blocking=blocking)
        return OnDevice(x) if to_device else _inner(x).clone()

    def _crossed(self, *, to_device: bool, blocking: bool) -> None:
        if blocking or not to_device:
            self.waits["a copy to the device" if to_device else "a copy to the CPU"] += 1
        else:
            self.sent += 1


class Crossing(TorchFunctionMode):
    """What would look for a GPU before it comes to `PretendDevice`: copies between devices, and new tensors."""

    def __init__(self, device: PretendDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            return args[0]
        if func in (Tensor.cpu, Tensor.tolist, Tensor.numpy):
            near = self._device.copied(args[0], torch.device("cpu"), blocking=True)
            return near if func is Tensor.cpu else func(near, *args[1:], **kwargs)
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        device = kwargs.get("device")
        if device is None or torch.device(device).type != DEVICE.type:
            return func(*args, **kwargs)
        out = func(*args, **(kwargs | {"device": "cpu"}))
        return self._device.copied(out, DEVICE, blocking=func is torch.tensor)

    def _to(self, x: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
        given = [*args, *kwargs.values()]
        dtypes = [one for one in given if isinstance(one, torch.dtype)]
        devices = [torch.device(one) for one in given if isinstance(one, str | torch.device)]
        for other in given:
            if isinstance(other, Tensor):
                dtypes, devices = [other.dtype], [other.device]
        if devices:
            x = self._device.copied(x, devices[0], blocking=not non_blocking)
        copy = kwargs.get("copy", False)
        return x.type(dtypes[0]) if dtypes and dtypes[0] != x.dtype else x.clone() if copy else x


def _as_tensors(index: Any) -> Any:
    """Lists in an index as tensors, which torch would make of them and send to the device."""
    if isinstance(index, tuple):
        return tuple(_as_tensors(one) for one in index)
    return torch.tensor(index) if isinstance(index, list) else index


# What operations of torch are given and give are tensors, numbers, and lists and tuples of them: looking for more, as
# torch's own functions for trees do, takes longer than the operations.


def _tensors(given: Iterable[Any]) -> Iterator[Tensor]:
    for x in given:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def _inner(x: Any) -> Any:
    if isinstance(x, OnDevice):
        return x.inner
    return _each(_inner, x)


def _there(x: Any) -> Any:
    if isinstance(x, Tensor):
        return OnDevice(x)
    return _each(_there, x)


def _each(change: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(change, x))
    return list(map(change, x)) if isinstance(x, list) else x


@contextmanager
def moved(model: nn.Module) -> Iterator[PretendDevice]:
    """A model on the device, whose weights are the same memory; back on the CPU afterwards."""
    held = [
        (getattr(module, kind), name)
        for module in model.modules()
        for kind in ("_parameters", "_buffers")
        for name in getattr(module, kind)
    ]
    before = [tensors[name] for tensors, name in held]
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), PretendDevice() as device, Crossing(device):
        patch.setattr(to_device, "ASYNCHRONOUS", (DEVICE.type,))
        patch.setattr(attention, "_causal", _causal)
        patch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad())  # such tensors cannot be wrapped
        try:
            for (tensors, name), x in zip(held, before, strict=True):
                if x is not None:
                    there = OnDevice(x.detach())
                    tensors[name] = nn.Parameter(there, requires_grad=False) if isinstance(x, nn.Parameter) else there
            yield device
        finally:
            for (tensors, name), x in zip(held, before, strict=True):
                tensors[name] = x


def _causal(chunk: int, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The mask itself, in place of torch's object for it, which is no tensor that can be wrapped."""
    mask = torch.ones(chunk, length, dtype=torch.bool).tril(length - chunk)
    return OnDevice(mask) if device.type == DEVICE.type else mask
