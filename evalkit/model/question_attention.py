"""Question→token attention: what a question looks at in a video, window by window.

A pass over some cells is made once per video, since nothing before the question depends on it; each question then adds
its own few tokens to that pass, and computes no more of a window than its own rows. A pass ends with the last layer
that is asked for. It is narrowed by the method's `prune` and never by its `evict`: what that cuts may depend on the
length of the question, and on how the video is cut into chunks.
Shape letters: H query heads, G key/value heads, d head width, R rows (tokens of the question that ask), n keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.model.cells import attention, joined, per_cell, relaid
from evalkit.model.flops import OpCounts
from evalkit.model.hooks import StopForward, rotate
from evalkit.types import Pruned, VisualTokens

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.model.prefill_state import PrefillState


@dataclass(frozen=True, kw_only=True)
class PruneAlone(Method):
    """A method's `prune` without its other verbs."""

    method: Method

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget) -> Pruned | None:
        """As the method."""
        return self.method.prune(layer, layers, tokens, budget)


@dataclass
class Trace:
    """What was seen of one layer's attention: keys and queries before rotation, and the visual tokens among them."""

    queries: list[Tensor] = field(default_factory=list)  # (H, S, d) each
    keys: list[Tensor] = field(default_factory=list)  # (G, S, d) each
    tokens: list[VisualTokens] = field(default_factory=list)


@dataclass(frozen=True)
class Pass:
    """Head and cells, read: ready for any question."""

    context: PrefillState
    head: int  # tokens
    video: int  # tokens that were fed
    keys: dict[int, Tensor]  # per layer: (G, head + visual, d) before rotation
    tokens: dict[int, VisualTokens]  # per layer: without features
    op_counts: OpCounts  # that it took


PassKey = tuple[tuple[int, ...], tuple[int, ...], range]  # head, cells, layers


class QuestionAttention:
    """Passes over one video for one operating point.

    `fed` and `work` count the tokens that went into the LLM and what it did with them, for the current question: what
    questions share counts in full for each.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
    ) -> None:
        if len(tokens) != len(tokens.cell_seconds) * tokens.grid[0] * tokens.grid[1]:
            raise MethodError(
                f"ask() reads whole cells: expected {len(tokens.cell_seconds)} cells of {tokens.grid} tokens, got "
                f"{len(tokens)} tokens; ask before tokens are dropped"
            )
        self.decoder, self.video, self.method, self.budget = decoder, tokens, method, budget
        self.chunk_cells = chunk_cells
        self.head: list[int] = []
        self.tail: list[int] = []
        self.header = 0  # position in `tail` where the assistant's header begins
        self.fed, self.op_counts = 0, OpCounts()
        self._passes: dict[PassKey, Pass] = {}
        self._counted: set[PassKey] = set()  # passes that the current question has used

    def question(self, head: Sequence[int], tail: Sequence[int], header: int) -> None:
        """Ask for this one from now on: token ids before and after the video."""
        self.head, self.tail, self.header = list(head), list(tail), header
        self.fed, self.op_counts = 0, OpCounts()
        self._counted.clear()

    def __call__(
        self,
        cells: Sequence[int],
        *,
        windows: Sequence[tuple[int, int]],
        layers: range,
        skip: int = 0,
        causal: bool = False,
        closing: bool = False,
    ) -> Tensor:
        """See `evalkit.method.Ask`."""
        self._check(cells, windows, layers, skip)
        key = (tuple(self.head), tuple(cells), layers)
        if key not in self._passes:
            self._passes[key] = self._read(cells, layers)
        read = self._passes[key]
        if key not in self._counted:
            self._counted.add(key)
            self.fed += read.head + read.video
            self.op_counts += read.op_counts
        self.fed += len(self.tail)
        trace = self._add_question(read, layers)
        rows = slice(skip, self.header)
        seen = len(self.tail) if closing else self.header
        return torch.stack([self._layer(read, i, trace[i], windows, rows, seen, causal) for i in layers])

    def _check(self, cells: Sequence[int], windows: Sequence[tuple[int, int]], layers: range, skip: int) -> None:
        if not self.method.query_aware:
            raise MethodError(f"{type(self.method).__name__}.select() calls ask(), but its `asks` is False")
        count = len(self.video.cell_seconds)
        if not cells or min(cells) < 0 or max(cells) >= count:
            raise MethodError(f"ask() needs cells in 0..{count - 1}, got {list(cells)[:8]}")
        inside = all(0 <= start < stop <= len(cells) for start, stop in windows)
        if len({stop - start for start, stop in windows}) != 1 or not inside:
            raise MethodError(
                f"ask() needs windows (from, to) of one width inside the {len(cells)} cells, got {list(windows)[:8]}"
            )
        if layers.step != 1 or not 0 <= layers.start < layers.stop <= self.decoder.layers:
            raise MethodError(
                f"ask() needs layers that follow each other in 0..{self.decoder.layers - 1}, got {layers}"
            )
        if not 0 <= skip < self.header:
            raise MethodError(f"ask() needs some of the question's {self.header} tokens to ask, got {skip = }")

    def _read(self, cells: Sequence[int], layers: range) -> Pass:
        decoder, context, tokens = self.decoder, self.decoder.context(), relaid(self.video, cells)
        traces = {i: Trace() for i in layers}

        def observe(i: int, _: Tensor, keys: Tensor, visual: VisualTokens | None) -> None:
            if i in traces:
                traces[i].keys.append(keys)
                if visual is not None:
                    # no view of the features: it would keep all of them
                    traces[i].tokens.append(replace(visual, features=visual.features.new_empty(len(visual), 0)))
            if i == layers[-1]:
                raise StopForward

        decoder.prefill_text(context, self.head, observe=observe)
        decoder.prefill_video(
            context,
            tokens,
            PruneAlone(method=self.method),
            self.budget,
            chunk_cells=self.chunk_cells,
            tail=len(self.tail),
            observe=observe,
        )
        keys = {i: torch.cat(trace.keys, 1) for i, trace in traces.items()}
        left = {i: joined(trace.tokens) for i, trace in traces.items()}
        return Pass(context, len(self.head), len(tokens), keys, left, context.op_counts)

    def _add_question(self, read: Pass, layers: range) -> dict[int, Trace]:
        traces = {i: Trace() for i in layers}

        def observe(i: int, queries: Tensor, keys: Tensor, _: VisualTokens | None) -> None:
            if i in traces:
                traces[i] = Trace([queries], [keys])
            if i == layers[-1]:
                raise StopForward

        mark = read.context.mark()
        try:
            self.decoder.prefill_text(read.context, self.tail, observe=observe)
            self.op_counts += read.context.op_counts - read.op_counts
        finally:
            read.context.rewind(mark)
        return traces

    def _layer(
        self,
        read: Pass,
        layer: int,
        trace: Trace,
        windows: Sequence[tuple[int, int]],
        rows: slice,
        seen: int,
        causal: bool,
    ) -> Tensor:
        """(windows, width) float64."""
        queries, own = trace.queries[0][:, rows], trace.keys[0][:, :seen]
        tokens, keys = read.tokens[layer], read.keys[layer]
        found = []
        for start, stop in windows:
            first, last = torch.searchsorted(tokens.slot, torch.tensor([start, stop])).tolist()
            inside = tokens.keep(torch.arange(first, last))
            inside = replace(
                inside,
                slot=inside.slot - start,
                cell_seconds=tokens.cell_seconds[start:stop],
                slot_seconds=None if tokens.slot_seconds is None else tokens.slot_seconds[start:stop],
            )
            ids, after = self._ids(read.head, inside, seen, renumbered=read.context.reindexed[layer])
            picked = torch.cat([keys[:, : read.head], keys[:, read.head + first : read.head + last], own], 1)
            asking = rotate(queries, *(x[0] for x in self.decoder.rotary(queries, ids[:, after:][:, rows])))
            looked_at = rotate(picked, *(x[0] for x in self.decoder.rotary(picked, ids)))
            self.op_counts += OpCounts(
                extra=2 * asking.numel() * picked.shape[1]
            )  # of queries and keys alone: no values
            weights = attention(asking, looked_at, self._future(rows, seen, after) if causal else None)
            found.append(per_cell(weights[read.head : after], inside.slot, stop - start))
        return torch.stack(found)

    def _ids(self, head: int, inside: VisualTokens, seen: int, *, renumbered: bool) -> tuple[Tensor, int]:
        """Positions counted anew for prompt, window and question, (R, n), and where the question begins."""
        after = head + len(inside)
        if renumbered:  # where the pass itself numbers what is left without gaps
            return self.decoder.text_ids(0, after + seen), after
        parts = [self.decoder.text_ids(0, head), self.decoder.video_ids(head, inside)]
        parts.append(self.decoder.text_ids(head + self.decoder.ids_after(inside), seen))
        return torch.cat(parts, 1), after

    def _future(self, rows: slice, seen: int, after: int) -> Tensor:
        """(R, n) bool: True where a row may not look."""
        asking, looked_at = torch.arange(seen)[rows], torch.arange(-after, seen)
        return (looked_at[None] > asking[:, None]).to(self.decoder.device)
