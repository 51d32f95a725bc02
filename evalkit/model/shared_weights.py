"""A model with an adapter's weights beside the model that they change: every tensor they leave alone is stored once."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from evalkit.model import adapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit.model.decoder import Decoder


def tuned_beside(model: Any, folder: str) -> Any:
    """A second model with the folder's weights, as `adapter.apply` puts them into one of its own; `model` stays as is.

    Modules are copied. Parameters and buffers are the very tensors of `model`, but for those that the adapter changes:
    they are copied to the CPU first, where a model gets its adapter when it is loaded with one, so that the sums are
    the same. They stay there until the caller moves the model.
    """
    tensors = dict(_named_tensors(model))
    # by object, not by name: tied weights change together
    touched = {id(tensors[name]) for name in adapter.changed(folder, tensors)}
    memo = {id(tensor): _copied(tensor) if id(tensor) in touched else tensor for tensor in tensors.values()}
    return adapter.apply(deepcopy(model, memo), folder)


def _named_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))


def _copied(tensor: Tensor) -> Tensor:
    own = tensor.detach().to("cpu", copy=True)
    return nn.Parameter(own, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else own


def same_encoder(one: Decoder, other: Decoder) -> bool:
    """Whether two models encode frames with the very same tensors in memory, so that their features are the same.

    What counts is every tensor outside the language model and its output layer: vision tower and projector.
    """
    return one is other or encoder_tensors(one) == encoder_tensors(other)


def encoder_tensors(decoder: Decoder) -> dict[str, tuple[Any, ...]]:
    """Name -> where in memory a tensor lies, and how it is read; equal for models as `same_encoder` compares them."""
    language = {id(module) for part in (decoder.text, decoder.model.lm_head) for module in part.modules()}
    return {
        f"{name}.{key}": (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        for name, module in decoder.model.named_modules()
        if id(module) not in language
        for key, tensor in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
    }
