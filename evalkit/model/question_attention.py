"""Question→token attention: what a question attends to in a video, window by window.

A pass over some cells is made once per video, since nothing before the question depends on it; each question then adds
its own few tokens to that pass, and computes no more of a window than its own rows. A pass ends with the last layer
that is asked for. It is narrowed by the method's `prune` and never by its `evict`: what that cuts may depend on the
length of the question, and on how the video is cut into chunks. What stands between visual tokens in the model's
sequence (evalkit.model.separators) is fed with them; a window then holds visual tokens alone.
Shape letters: H query heads, G key/value heads, S tokens of a feed, d head width.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.model.cell_sequences import joined, relaid
from evalkit.model.flops import OpCounts
from evalkit.model.live_tokens import LiveTokens
from evalkit.model.prune_view import NO_VIEW
from evalkit.model.shared_passes import Looked, Pass, SharedPasses, traced
from evalkit.model.video_feed import chunks
from evalkit.model.window_attention import WindowAttention, per_cell
from evalkit.types import Pruned, VisualTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.model.shared_passes import PassKey, Trace


@dataclass(frozen=True, kw_only=True)
class PruneAlone(Method):
    """A method's `prune` without its other verbs."""

    method: Method

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """As the method."""
        return self.method.prune(layer, layers, tokens, budget, view)


CALL = "attention_from_question()"  # as a method knows it


class QuestionAttention:
    """Passes over one video for one operating point.

    Other operating points on the same decoder whose `prune` leaves the same tokens use the same passes, and what the
    same question looked at in them, where they are given the same `shared`.

    `fed` and `op_counts` count the tokens that went into the LLM and what it did with them, for the current question:
    what questions or operating points share counts in full for each. `reused_seconds` are those that another operating
    point spent on what this one found done for the current question, passes apart.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        shared: SharedPasses | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`now`: seconds from an arbitrary start."""
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
        self.fed, self.op_counts, self.reused_seconds = 0, OpCounts(), 0.0
        self._shared, self._now = SharedPasses() if shared is None else shared, now
        self._pruned: dict[tuple[object, ...], tuple[object, ...]] = {}
        self._counted: set[PassKey] = set()  # passes that the current question has used

    def set_question(self, prefix_ids: Sequence[int], suffix_ids: Sequence[int], header: int) -> None:
        """From now on it is this question that attends: token ids before and after the video."""
        self.prefix_ids, self.suffix_ids, self.header = list(prefix_ids), list(suffix_ids), header
        self.fed, self.op_counts, self.reused_seconds = 0, OpCounts(), 0.0
        self._counted.clear()

    @property
    def reused_op_counts(self) -> OpCounts:
        """The part of `op_counts` that depends on no question: it is computed once for all questions about a video."""
        return sum((self._shared.passes[key].op_counts for key in self._counted), OpCounts())

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
        key = self._pass(cells, layers, until)
        asked = (key, tuple(self.suffix_ids), self.header, tuple(map(tuple, windows)), skip, causal, closing, last)
        if asked in self._shared.looked:
            self.reused_seconds += self._shared.looked[asked].seconds
        else:
            start, rows, seen = self._now(), slice(skip, self.header), self.header
            if last:
                rows = slice(len(self.suffix_ids) - 1, len(self.suffix_ids))
            if closing or last:
                seen = len(self.suffix_ids)
            found = self._look(self._shared.passes[key], windows, layers, rows, seen, causal=causal, by_token=last)
            self._shared.looked[asked] = replace(found, seconds=self._now() - start)
        looked = self._shared.looked[asked]
        self.fed += looked.n_tokens
        self.op_counts += looked.op_counts
        return looked.weights.clone()

    def _look(
        self,
        read: Pass,
        windows: Sequence[tuple[int, int]],
        layers: range,
        rows: slice,
        seen: int,
        *,
        causal: bool,
        by_token: bool,
    ) -> Looked:
        """What `rows` of the question attend to, by cell or by token, where they may look at `seen` of its tokens."""
        question, op_counts = self._read_question(read, layers)
        groups, found = [], []
        for i in layers:
            attention = WindowAttention(
                positions=self.decoder.positions,
                keys=read.keys[i],
                prefix=read.prefix(i),
                question_keys=question[i].keys[0][:, :seen],
                queries=question[i].queries[0][:, rows],
                rows=rows,
                renumbered=read.state.reindexed[i],
                causal=causal,
            )
            for group in read.windows(self.decoder.positions, i, windows):
                weights, counts = attention.per_token(group)
                groups.append((i - layers.start, group))
                found.append(weights)
                op_counts += counts
        sizes = [weights.numel() for weights in found]
        on_cpu = torch.split(torch.cat([weights.flatten() for weights in found]).cpu(), sizes)  # one copy for them all
        if by_token:
            return Looked(on_cpu[0].double().view(1, 1, -1), len(self.suffix_ids), op_counts, 0.0)
        width = windows[0][1] - windows[0][0]
        scores = torch.empty(len(layers), len(windows), width, dtype=torch.float64)
        for (row, group), weights in zip(groups, on_cpu, strict=True):
            scores[row, list(group.numbers)] = per_cell(weights.view(len(group), -1), group.slot, width)
        return Looked(scores, len(self.suffix_ids), op_counts, 0.0)

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

    def _pass(self, cells: Sequence[int], layers: range, until: Tensor | None = None) -> PassKey:
        """The pass over `cells`, made or found; it counts once for a question."""
        decided = None if until is None else tuple(until.tolist())
        fed = (tuple(cells), layers, decided)
        if fed not in self._pruned:
            self._pruned[fed] = self._what_prune_leaves(cells, layers, until)
        key = (tuple(self.prefix_ids), *fed, self._pruned[fed])
        if key not in self._shared.passes:
            self._shared.passes[key] = self._read(cells, layers, until)
        if key not in self._counted:
            self._counted.add(key)
            self.fed += self._shared.passes[key].n_tokens
            self.op_counts += self._shared.passes[key].op_counts
        return key

    def _what_prune_leaves(self, cells: Sequence[int], layers: range, until: Tensor | None) -> tuple[object, ...]:
        """All that a pass takes from the method and its budget: tokens that stay, numbered how, chosen at what cost."""
        if not self.method.overrides("prune"):
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
        traces, observe = traced(layers)
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
        left = _once({i: joined(trace.tokens) for i, trace in traces.items()})
        return Pass(state, len(self.prefix_ids) + len(tokens) + state.separators_fed, keys, left, state.op_counts)

    def _read_question(self, read: Pass, layers: range) -> tuple[dict[int, Trace], OpCounts]:
        traces, observe = traced(layers)
        mark = read.state.mark()
        try:
            self.decoder.prefill_text(read.state, self.suffix_ids, observe=observe)
            return traces, read.state.op_counts - read.op_counts
        finally:
            read.state.rewind(mark)


def _once(tokens: Mapping[int, VisualTokens]) -> dict[int, VisualTokens]:
    """One object for layers that follow each other and see the same tokens."""
    found: dict[int, VisualTokens] = {}
    last: VisualTokens | None = None
    for i, one in tokens.items():
        if last is None or not last.same(one):
            last = one
        found[i] = last
    return found
