"""Are a checkpoint's tensors the ones that its model has? transformers fills in random numbers where they are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evalkit.errors import ConfigError, ModelError
from evalkit.model import finite
from evalkit.model.checkpoint import Checkpoint

FLOATS = ("F64", "F32", "F16", "BF16")
SHOWN = 3  # names of each kind in a message


def headers(found: Checkpoint, files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Name -> tensor without data (on the device `meta`), from the files' headers.

    Raises ConfigError for files that are cut off or no safetensors, and for tensors that are no floating point numbers.
    """
    tensors = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 – no mapping
                    part = opened.get_slice(name)
                    if part.get_dtype() not in FLOATS:
                        raise ConfigError(
                            f"{found.asked}: {file.name} holds {name} as {part.get_dtype()}; expected one "
                            f"of {', '.join(FLOATS)}: quantised weights are not supported"
                        )
                    tensors[name] = torch.empty(part.get_shape(), device="meta")
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"{found.asked}: {file.name} cannot be read as safetensors ({error}); {found.remedy}"
            ) from error
    return tensors


def check(found: Checkpoint, files: Sequence[Path], model: Any) -> None:
    """ConfigError where loading `files` into a model like this one (on `meta`) would leave or drop a tensor.

    It is transformers' own loading, renaming of published names included, with headers in the place of weights.
    """
    tensors = headers(found, files)
    _, outcome = type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=tensors,
        device_map="meta",
        ignore_mismatched_sizes=True,  # so that they are all named, and by us
        output_loading_info=True,
    )
    check_outcome(found, outcome, tensors)


def check_outcome(found: Checkpoint, outcome: Mapping[str, Any], names: Collection[str]) -> None:
    """ConfigError where transformers' loading (its `output_loading_info`) missed, dropped or could not fit a tensor.

    An `lm_head` that is tied to the embedding is none of its own. `names`: of the tensors in the files, for a hint.
    """
    shapes = {name: f"{name} {_shape(theirs)} for {_shape(ours)}" for name, theirs, ours in outcome["mismatched_keys"]}
    wrong = {
        "missing": sorted(outcome["missing_keys"]),
        "unexpected": sorted(outcome["unexpected_keys"]),
        "of another shape": [shapes[name] for name in sorted(shapes)],
    }
    faults = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in wrong.items() if keys]
    if faults:
        raise ConfigError(
            f"{found.asked}: expected the tensors of its config.json, got {'; '.join(faults)}; "
            f"{_hint(found, wrong['missing'], wrong['unexpected'], names)}"
        )


def check_finite(found: Checkpoint, model: Any) -> None:
    """ConfigError where a tensor of a loaded model, an adapter's included, has a NaN or an infinite number."""
    wrong = []
    for name, tensor in model.state_dict().items():
        try:
            if tensor.is_floating_point() and tensor.numel():
                finite.check_finite(tensor, name)
        except ModelError as error:
            wrong.append(str(error))
    if wrong:
        more = f"; {len(wrong)} tensors in all" if len(wrong) > 1 else ""
        raise ConfigError(f"backbone.path={found.name}: {wrong[0]}{more}; {found.remedy}")


def _hint(found: Checkpoint, missing: Sequence[str], unexpected: Sequence[str], names: Collection[str]) -> str:
    if any(".lora_" in name for name in unexpected):
        return "an unmerged LoRA is among them: merge it (peft's merge_and_unload) before saving"
    first = {name.split(".")[0] for name in names}
    if len(first) == 1 and len(unexpected) == len(names):
        return f"every name begins with '{first.pop()}.': save the model without the wrapper that it was trained in"
    part = _common_module(missing)
    if not unexpected and part and not any(f".{part.split('.')[-1]}." in f".{name}" for name in names):
        return (
            f"the files hold nothing of {part}: where it lies in another repository, save its tensors into this folder "
            "under these names, and list them in the index"
        )
    return f"the weights are incomplete or another model's; {found.remedy}"


def _common_module(names: Sequence[str]) -> str:
    """The innermost module that has all of several tensors; empty where there is none."""
    levels = zip(*(name.split(".") for name in names), strict=False)
    shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    return ".".join(shared) if len(names) > 1 else ""


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (" …" if len(keys) > SHOWN else "")


def _shape(size: Sequence[int]) -> str:
    return "×".join(map(str, size)) or "scalar"
