"""What one answer spent. Every number is counted by the engine, never by a method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Wall-clock seconds of each stage on a question's whole path.

    All but `generate` are over when the scores of the first token are there: their sum is the time to first token.
    `decode` is what decoding took, also where another process did it and nobody waited.
    Work that questions share counts in full for each; decoding that operating points share is divided among them by
    their frames, so that it depends on what else was run (`Ledger.seconds_shared`).
    """

    decode: float = 0.0
    encode: float = 0.0
    select: float = 0.0
    prefill: float = 0.0
    generate: float = 0.0

    @property
    def total(self) -> float:
        """All stages together."""
        return self.decode + self.encode + self.select + self.prefill + self.generate


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of each stage, as `Seconds` counts time: matrix products, two for a multiply-add."""

    encode: int = 0
    select: int = 0
    prefill: int = 0
    generate: int = 0


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The budget spent on one answer.

    `ratio_achieved` = visual KV entries at answer time, summed over layers, divided by `tokens_dense` × layers. Layers
    are those that have a KV cache, which is all of them in every family that is supported.
    """

    frames_decoded: int  # distinct frames of the video that the method looked at
    cells: int  # temporal cells encoded
    tokens_dense: int  # visual tokens of the dense run: every sampled frame, every token
    tokens_encoded: int  # visual tokens that the vision encoder produced for this method
    tokens_selected: int  # visual tokens handed to the LLM
    # tokens fed to the LLM: head, video with the separators between its tokens, question, generated ones
    llm_tokens_fed: int
    kv_tokens_per_layer: tuple[int, ...]  # visual KV entries in each layer at answer time
    kv_bytes: int  # bytes of those entries, keys and values
    ratio_nominal: float
    ratio_achieved: float
    shared_prefix: bool  # the video's prefix was prefilled once for several questions
    peak_bytes: int  # CUDA: allocator's peak, encoder included; CPU: peak resident set of the process
    # Decoding, encoding or the prefix was done for other operating points or questions, too: `seconds` and `peak_bytes`
    # depend on them and compare with nothing. Answers of older versions do not say and count as shared.
    seconds_shared: bool = True
    # entries in each layer at answer time that stand between visual ones, newlines or times as text: no ratio counts
    # them; () in answers of older versions, whose backbones have none
    kv_separators_per_layer: tuple[int, ...] = ()
    # encoded tokens that those handed to the LLM stand for, each counted once: more than `tokens_selected` where a
    # method merged some. None in answers of older versions
    tokens_represented: int | None = None
    seconds: Seconds = field(default_factory=Seconds)
    flops: Flops | None = None  # None: not counted (answers of older versions)
    # Of `seconds` and `flops`, what no other question about the video needs: the question, the reply, and choice and
    # prefill of a query-aware method. None in answers of older versions.
    own_seconds: float | None = None
    own_flops: int | None = None

    @property
    def kv_tokens(self) -> float:
        """Visual KV entries at answer time, mean over layers."""
        return sum(self.kv_tokens_per_layer) / len(self.kv_tokens_per_layer)

    @property
    def kv_separators(self) -> float:
        """Entries between visual ones at answer time, mean over layers."""
        return sum(self.kv_separators_per_layer) / max(1, len(self.kv_separators_per_layer))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to answers.jsonl."""
        # dataclasses.asdict is a deep copy, many times as slow; a run does this for every answer
        flops = None if self.flops is None else dict(vars(self.flops))
        return {**vars(self), "seconds": dict(vars(self.seconds)), "flops": flops}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One line of timing.jsonl: one question about one video, answered by one operating point alone and warm."""

    benchmark: str
    video_id: str
    question_id: str
    method: str
    ratio: float
    status: str  # ok or failed
    error: str | None
    duration_s: float | None  # of the video
    seconds: Seconds | None
    peak_bytes: int | None  # CUDA: allocator's peak; None on a CPU, where a process has one peak for all it did
    videos: int  # that were drawn for timing
    conditions: Mapping[str, Any]  # what changes seconds and no answer: device, threads, encode_cells
    own_seconds: float | None = None  # of `seconds`, as the ledger's; None in measurements of older versions

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
