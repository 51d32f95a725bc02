"""Question→token attention: what a question attends to in a video, window by window.

A pass over some cells is made once per video, since nothing before the question depends on it; each question then adds
its own few tokens to that pass, and computes no more of a window than its own rows. A pass ends with the last layer
that is asked for. It is narrowed by the method's `prune` and never by its `evict`: what that cuts may depend on the
length of the question, and on how the video is cut into chunks. What stands between visual tokens in the model's
sequence (evalkit.model.separators) is fed with them; a window then holds visual tokens alone.
Shape letters: H query heads, G key/value heads, S tokens of a feed, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.model.cell_sequences import joined, relaid
from evalkit.model.decoder import chunks
from evalkit.model.flops import OpCounts
from evalkit.model.hooks import StopForward
from evalkit.model.live_tokens import LiveTokens
from evalkit.model.prune_view import NO_VIEW
from evalkit.model.window_attention import WindowAttention
from evalkit.types import Pruned, VisualTokens

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.model.hooks import Observer
    from evalkit.model.prefill_state import PrefillState


@dataclass(frozen=True, kw_only=True)
class PruneAlone(Method):
    """A method's `prune` without its other verbs."""

    method: Method

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """As the method."""
        return self.method.prune(layer, layers, tokens, budget, view)


@dataclass
class Trace:
    """What was seen of one layer's attention: keys and queries before rotation, and the visual tokens among them."""

    queries: list[Tensor] = field(default_factory=list)  # (H, S, d) each
    keys: list[Tensor] = field(default_factory=list)  # (G, S, d) each
    tokens: list[VisualTokens] = field(default_factory=list)  # without features


@dataclass(frozen=True)
class Pass:
    """Prefix and cells, read: ready for any question."""

    state: PrefillState
    n_tokens: int  # that were fed
    keys: dict[int, Tensor]  # per layer: (G, prefix + visual, d) before rotation
    tokens: dict[int, VisualTokens]  # per layer: without features
    op_counts: OpCounts  # that it took


CALL = "attention_from_question()"  # as a method knows it
# prefix, cells, layers, until, and what `prune` leaves
PassKey = tuple[tuple[int, ...], tuple[int, ...], range, tuple[int, ...] | None, tuple[object, ...]]
Passes = dict[PassKey, "Pass"]


class QuestionAttention:
    """Passes over one video for one operating point.

    Other operating points on the same decoder whose `prune` leaves the same tokens use the same passes, where they are
    given the same `passes`.

    `fed` and `op_counts` count the tokens that went into the LLM and what it did with them, for the current question:
    what questions share counts in full for each.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        passes: Passes | None = None,
    ) -> None:
        if len(tokens) != len(tokens.cell_seconds) * tokens.grid[0] * tokens.grid[1]:
            raise MethodError(
                f"{CALL} reads whole cells: expected {len(tokens.cell_seconds)} cells of "
                f"{tokens.grid} tokens, got {len(tokens)} tokens; call it before tokens are dropped"
            )
        self.decoder, self.video, self.method, self.budget = decoder, tokens, method, budget
        self.chunk_cells = chunk_cells
        self.prefix_ids: list[int] = []
        self.suffix_ids: list[int] = []
        self.header = 0  # position in the suffix where the assistant's header begins
        self.fed, self.op_counts = 0, OpCounts()
        self._passes: Passes = {} if passes is None else passes
        self._pruned: dict[tuple[object, ...], tuple[object, ...]] = {}
        self._counted: set[PassKey] = set()  # passes that the current question has used

    def set_question(self, prefix_ids: Sequence[int], suffix_ids: Sequence[int], header: int) -> None:
        """From now on it is this question that attends: token ids before and after the video."""
        self.prefix_ids, self.suffix_ids, self.header = list(prefix_ids), list(suffix_ids), header
        self.fed, self.op_counts = 0, OpCounts()
        self._counted.clear()

    @property
    def reused_op_counts(self) -> OpCounts:
        """The part of `op_counts` that depends on no question: it is computed once for all questions about a video."""
        return sum((self._passes[key].op_counts for key in self._counted), OpCounts())

    def __call__(
        self,
        cells: Sequence[int],
        *,
        windows: Sequence[tuple[int, int]],
        layers: range,
        skip: int = 0,
        causal: bool = False,
        closing: bool = False,
        until: Tensor | None = None,
        last: bool = False,
    ) -> Tensor:
        """See `evalkit.method.AttentionFromQuestion`."""
        self._check(cells, windows, layers, skip)
        if last and (len(layers) > 1 or list(windows) != [(0, len(cells))]):
            raise MethodError(
                f"{CALL} with last=True needs one layer and one window of all cells, got {layers}, {windows}"
            )
        read = self._pass(cells, layers, until)
        question, size = self._read_question(read, layers), len(self.suffix_ids)
        rows = slice(size - 1, size) if last else slice(skip, self.header)
        seen = size if closing or last else self.header
        found = []
        for i in layers:
            attention = WindowAttention(
                positions=self.decoder.positions,
                tokens=read.tokens[i],
                keys=read.keys[i],
                question_keys=question[i].keys[0][:, :seen],
                queries=question[i].queries[0][:, rows],
                rows=rows,
                renumbered=read.state.reindexed[i],
                causal=causal,
            )
            looked, op_counts = attention.per_token(*windows[0]) if last else attention.per_cell(windows)
            self.op_counts += op_counts
            found.append(looked)
        return torch.stack(found)

    def _check(self, cells: Sequence[int], windows: Sequence[tuple[int, int]], layers: range, skip: int) -> None:
        if not self.method.query_aware:
            raise MethodError(f"{type(self.method).__name__}.select() calls {CALL}, but its `query_aware` is False")
        count = len(self.video.cell_seconds)
        if not cells or min(cells) < 0 or max(cells) >= count:
            raise MethodError(f"{CALL} needs cells in 0..{count - 1}, got {list(cells)[:8]}")
        inside = all(0 <= start < stop <= len(cells) for start, stop in windows)
        if len({stop - start for start, stop in windows}) != 1 or not inside:
            raise MethodError(
                f"{CALL} needs windows (from, to) of one width inside the {len(cells)} cells, got {list(windows)[:8]}"
            )
        if layers.step != 1 or not 0 <= layers.start < layers.stop <= self.decoder.layers:
            raise MethodError(
                f"{CALL} needs layers that follow each other in 0..{self.decoder.layers - 1}, got {layers}"
            )
        if not 0 <= skip < self.header:
            raise MethodError(f"{CALL} needs a skip below the question's {self.header} tokens, got {skip = }")

    def _pass(self, cells: Sequence[int], layers: range, until: Tensor | None = None) -> Pass:
        """The pass over `cells`, made or found; it counts once for a question."""
        decided = None if until is None else tuple(until.tolist())
        fed = (tuple(cells), layers, decided)
        if fed not in self._pruned:
            self._pruned[fed] = self._what_prune_leaves(cells, layers, until)
        key = (tuple(self.prefix_ids), *fed, self._pruned[fed])
        if key not in self._passes:
            self._passes[key] = self._read(cells, layers, until)
        read = self._passes[key]
        if key not in self._counted:
            self._counted.add(key)
            self.fed += read.n_tokens
            self.op_counts += read.op_counts
        return read

    def _what_prune_leaves(self, cells: Sequence[int], layers: range, until: Tensor | None) -> tuple[object, ...]:
        """All that a pass takes from the method and its budget: tokens that stay, numbered how, chosen at what cost."""
        if type(self.method).prune is Method.prune:
            return ()
        tokens, found = relaid(replace(self.video, until=until), cells), []
        for number, index in enumerate(chunks(tokens, self.chunk_cells)):
            live = LiveTokens(tokens.keep(index), torch.empty(0, len(index)))  # no ids: they follow from what stays
            for layer in range(layers.stop):
                pruned = live.prune(
                    self.method, layer, self.decoder.layers, self.budget, self.decoder.positions, NO_VIEW
                )
                if pruned is not None:
                    found.append((number, layer, tuple(pruned.index.tolist()), live.renumbered, pruned.flops))
        return tuple(found)

    def _read(self, cells: Sequence[int], layers: range, until: Tensor | None) -> Pass:
        state, tokens = self.decoder.new_state(), relaid(replace(self.video, until=until), cells)
        traces, observe = _traced(layers)
        self.decoder.prefill_text(state, self.prefix_ids, observe=observe)
        self.decoder.prefill_video(
            state,
            tokens,
            PruneAlone(method=self.method),
            self.budget,
            chunk_cells=self.chunk_cells,
            suffix_ids=self.suffix_ids,
            observe=observe,
        )
        keys = {i: torch.cat(trace.keys, 1) for i, trace in traces.items()}
        left = {i: joined(trace.tokens) for i, trace in traces.items()}
        return Pass(state, len(self.prefix_ids) + len(tokens) + state.separators_fed, keys, left, state.op_counts)

    def _read_question(self, read: Pass, layers: range) -> dict[int, Trace]:
        traces, observe = _traced(layers)
        mark = read.state.mark()
        try:
            self.decoder.prefill_text(read.state, self.suffix_ids, observe=observe)
            self.fed += len(self.suffix_ids)
            self.op_counts += read.state.op_counts - read.op_counts
        finally:
            read.state.rewind(mark)
        return traces


def _traced(layers: range) -> tuple[dict[int, Trace], Observer]:
    """Traces of `layers`, and the observer that fills them and stops each feed in the last of them."""
    traces = {i: Trace() for i in layers}

    def observe(i: int, queries: Tensor, keys: Tensor, visual: VisualTokens | None) -> None:
        if i in traces:
            traces[i].keys.append(keys)
            if visual is None:
                traces[i].queries.append(queries)
            else:
                # no view of the features: it would keep all of them
                bare = replace(visual, features=visual.features.new_empty(len(visual), 0), deepstack=None)
                traces[i].tokens.append(bare)
        if i == layers[-1]:
            raise StopForward

    return traces, observe
