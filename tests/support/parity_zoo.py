"""Replay traces of methods that act on visual tokens before the language model: `python tests/parity.py zoo DIR`.

DIR has a folder for each method, with cases.json and a file of tensors for each case, and `inputs`, which cases share.
Indices, orders and ids are compared exactly, features to 1e-5 of their range; a token whose place is chance in the
reference (`arbitrary_place`) by its feature alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from evalkit.encoder_view import EncoderView
from evalkit.errors import MethodError
from evalkit.method import Budget, Method, no_question
from evalkit.model.positions import RopePositions
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from evalkit.method import Draws

CLOSE = 1e-5  # of features, relative to their range
Lines = dict[str, tuple[bool, str]]


@dataclass(frozen=True, kw_only=True)
class RecordedBudget(Budget):
    """With the reference's own draws in place of random ones."""

    recorded: Tensor = field(default_factory=lambda: torch.empty(0), compare=False)
    used: list[int] = field(default_factory=lambda: [0], compare=False)  # draws so far

    def draws(self, purpose: str) -> Draws:
        """The recorded ones in order; zeros where none were recorded."""

        def draw(count: int) -> Tensor:
            first = self.used[0]
            self.used[0] += count
            return self.recorded[first : first + count] if len(self.recorded) else torch.zeros(count)

        return draw


@dataclass
class Case:
    """One case of a method: its parameters, its tensors, and the inputs that it shares with others."""

    name: str
    settings: dict[str, Any]
    trace: dict[str, Tensor]
    shared: Mapping[str, Inputs]
    found: dict[str, bool | float] = field(default_factory=dict)  # what was compared: exact or not, or how far apart

    @property
    def frames(self) -> bool:
        """Whether cells are single frames, as LLaVA's."""
        return str(self.settings.get("inputs", "llava")).startswith("llava")

    @property
    def inputs(self) -> Inputs:
        """The shared inputs that it names."""
        return self.shared[self.settings["inputs"]]

    def select(
        self, method: Method, tokens: VisualTokens, ratio: float, *, cell_frames: int | None = None
    ) -> VisualTokens:
        """What the method hands over, with the recorded draws, all of which have to be used."""
        size = cell_frames or (1 if self.frames else 2)
        cells = len(tokens.cell_seconds)
        budget = RecordedBudget.encoded(cells, tokens.grid, ratio=ratio, layers=1, cell_frames=size)
        assert isinstance(budget, RecordedBudget)
        noise = self.trace.get("noise")
        if noise is not None:
            budget = replace(budget, recorded=noise.flatten(), used=[0])
        selected = method.select(tokens, budget, no_question)
        if noise is not None:
            self.found["draws"] = budget.used[0] == noise.numel()
        return selected

    def exact(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare indices."""
        self.found[name] = ours.shape == theirs.shape and torch.equal(ours.long().cpu(), theirs.long())

    def close(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare values, relative to the range of theirs."""
        if ours.shape != theirs.shape:
            self.found[name] = False
            return
        span = float(theirs.max() - theirs.min()) or 1.0
        self.found[name] = float((ours.float() - theirs.float()).abs().max()) / span

    def placed(self, selected: VisualTokens, theirs: Tensor, *, by_chance: Tensor) -> None:
        """Compare positions but for those `by_chance`, and features, which the trace has as `output`."""
        kept = position(selected)
        if len(kept) != len(theirs):
            self.found["kept"] = False
            return
        self.exact("kept", kept[~by_chance], theirs[~by_chance])
        # of two tokens at one position the reference's order is undefined
        ours, output = (
            x[x[:, 0].argsort(stable=True)][theirs[x[:, 0].argsort(stable=True)].argsort(stable=True)]
            for x in (selected.features, self.trace["output"])
        )
        self.close("features", ours, output)

    def ids(self, selected: VisualTokens, expected: Tensor) -> None:
        """Compare the ids that a language model with one row of ids gives them."""
        positions = RopePositions(None)
        self.exact("ids", positions.video_ids(0, selected)[0], expected)

    @property
    def line(self) -> tuple[bool, str]:
        """Whether it holds, and its numbers."""
        texts = [
            f"{name} {'exact' if value else 'WRONG'}" if isinstance(value, bool) else f"{name} {value:.1e}"
            for name, value in self.found.items()
        ]
        holds = [value if isinstance(value, bool) else value < CLOSE for value in self.found.values()]
        return bool(holds) and all(holds), ", ".join(texts)


@dataclass(frozen=True)
class Inputs:
    """Features, and what an encoder attended to: (F, P, …) each."""

    tensors: dict[str, Tensor]
    grid: tuple[int, int]

    @property
    def places(self) -> int:
        """Of a frame."""
        return self.grid[0] * self.grid[1]

    def tokens(self, frames: int | None = None, **view: str) -> VisualTokens:
        """All visual tokens of the first `frames`; `view`: need of a method → name of the tensor."""
        count = frames or len(self.tensors["features"])
        of_cells = {need: self.tensors[name][:count] for need, name in view.items()}
        flat = {need: x if need == "summary" else x.flatten(0, 1) for need, x in of_cells.items()}
        return dense(self.tensors["features"][:count], self.grid, EncoderView(**flat) if view else None)


def dense(features: Tensor, grid: tuple[int, int], view: EncoderView | None = None) -> VisualTokens:
    """Visual tokens of features (T, P, D)."""
    tokens = VisualTokens.dense(features.flatten(0, 1), seconds=range(len(features)), grid=grid)
    return replace(tokens, encoder=view)


def with_pixels(pixels: Tensor, cells: int, grid: tuple[int, int]) -> VisualTokens:
    """Visual tokens of frames (F, height, width, 3) for methods that read pixels alone."""
    return dense(torch.ones(cells, grid[0] * grid[1], 1), grid, EncoderView(pixels=pixels))


def position(tokens: VisualTokens) -> Tensor:
    """Position of each token among the encoded ones."""
    return tokens.cell * (tokens.grid[0] * tokens.grid[1]) + tokens.place


def shared_inputs(folder: Path) -> dict[str, Inputs]:
    """By name."""
    found: dict[str, Any] = json.loads((folder / "inputs" / "inputs.json").read_text())
    return {
        name: Inputs(load_file(folder / "inputs" / f"{name}.safetensors"), (of["rows"], of["columns"]))
        for name, of in found.items()
        if isinstance(of, dict) and "rows" in of and (folder / "inputs" / f"{name}.safetensors").exists()
    }


Replay = Callable[[Case], str | None]  # fills `found`; a reason why nothing, or a part, was compared


@torch.inference_mode()
def replay_folder(folder: Path, replays: Mapping[str, Replay]) -> tuple[Lines, list[str]]:
    """Every case of every method; and what was left out, with the reason."""
    shared, lines, left_out = shared_inputs(folder), {}, []
    for file in sorted(folder.glob("*/cases.json")):
        method = file.parent.name
        for name, settings in json.loads(file.read_text())["cases"].items():
            trace = file.with_name(f"{name}.safetensors")
            label = f"{method}/{name}"
            if method not in replays or not (trace.exists() or "error" in settings):
                left_out.append(f"{label}: {'no tensors' if method in replays else 'no such method here'}")
                continue
            case = Case(name, settings, load_file(trace) if trace.exists() else {}, shared)
            missing = _stopped(case, replays[method]) if "error" in settings else replays[method](case)
            left_out += [f"{label}: {missing}"] if missing else []
            if case.found:
                lines[label] = case.line
    return lines, left_out


def _stopped(case: Case, replay: Replay) -> None:
    """A case at which the released code stops: so does the method, with a message."""
    stopped = False
    try:
        replay(case)
    except MethodError:
        stopped = True
    except KeyError:  # it went on, to what the trace does not have
        pass
    case.found = {"stops as released": stopped}
