"""The value objects that flow through evalkit, in the order in which data meets them.

Shape letters: F frames, T temporal cells (2 frames each for Qwen2-VL), P places per cell, N = visual tokens (T·P before
compression), D feature width, L levels of deepstack features, S tokens of one chunk, H query heads, G key/value heads,
d head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import MethodError
from evalkit.merging import Merged
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from evalkit.chunk_scores import VideoPart
    from evalkit.encoder_view import EncoderView
    from evalkit.ledger import Ledger

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """What somebody else's model says about the frames of a video and one question: how well each of some frames
    matches it, or which frames to show.
    """

    at: tuple[float, ...]  # frame numbers in the video, or seconds
    scores: tuple[float, ...] | None = None  # one for each of `at`, which ascend; None: `at` are the frames to show
    in_seconds: bool = False  # what `at` counts

    def frame_numbers(self, video: Video) -> tuple[int, ...]:
        """`at` as frame numbers. MethodError for one that the video does not have."""
        numbers = tuple(round(at * video.fps) if self.in_seconds else round(at) for at in self.at)
        if numbers and not 0 <= min(numbers) <= max(numbers) < video.frames:
            raise MethodError(
                f"{video.path.name}: expected frames 0 to {video.frames - 1}, as the video has, benchmark.frame_scores "
                f"names {min(numbers)} to {max(numbers)}; they belong to another file of this video"
            )
        return numbers


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of a benchmark."""

    benchmark: str  # format: videomme, mlvu or lvbench
    id: str  # unique inside the benchmark
    video_id: str
    video_path: Path
    text: str  # the question alone, without options
    options: tuple[str, ...]  # texts without letters
    answer: str  # right letter; "" where the official row has no right option (always scored wrong)
    groups: Mapping[
        str, tuple[str, ...]
    ]  # e.g. {"duration": ("short",), "task_type": ("count",)}; several labels allowed
    row: Mapping[str, Any] = field(repr=False)  # the row in the shape that lmms-eval's task code reads
    subtitle_path: Path | None = None
    duration_s: float | None = None  # from the annotations; None where they do not say
    evidence_s: tuple[tuple[float, float], ...] = ()  # spans of the video that hold the answer; () where not known
    frame_scores: FrameScores | None = field(default=None, repr=False)  # of a file that the run names; None: of none


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row of an annotation file that cannot be asked; it is recorded as failed, the run goes on."""

    benchmark: str
    id: str
    message: str  # file, row, what was expected, what came, what to do
    video_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A loaded question set."""

    name: str  # format: videomme, mlvu or lvbench
    label: str  # what tables call it: "VideoMME", or "generated videos (VideoMME format)"
    root: Path
    split: str  # e.g. test, dev
    questions: tuple[Question, ...]
    bad_rows: tuple[BadRow, ...] = ()
    generated: bool = False  # True: evalkit's own generated videos
    notes: tuple[str, ...] = ()  # quirks that tables repeat, e.g. "2 rows have no right option"

    def by_video(self) -> dict[str, list[Question]]:
        """Questions grouped by video id, in the order of first appearance."""
        groups: dict[str, list[Question]] = {}
        for question in self.questions:
            groups.setdefault(question.video_id, []).append(question)
        return groups


@dataclass(frozen=True, kw_only=True)
class Video:
    """What is known of a video before decoding."""

    path: Path
    duration_s: float
    fps: float  # average frames per second
    frames: int  # decodable frames
    height: int  # pixels
    width: int  # pixels
    fingerprint: str = ""  # of its file: evalkit.data.fingerprint; "" where it is not known
    # (frames,) when each frame is shown, from the first one's 0 on; None: evenly, at `fps`
    seconds: tuple[float, ...] | None = field(default=None, repr=False, compare=False)
    # of the question at hand, for a method with `needs_frame_scores`; None: there are none
    frame_scores: FrameScores | None = field(default=None, repr=False, compare=False)
    short: str = ""  # what is missing of the announced video, in words; "" for a whole one
    # bytes of the file and nanoseconds of its last change when it was probed; None: not known
    state: tuple[int, int] | None = field(default=None, repr=False, compare=False)

    def shown_at(self, index: int) -> float:
        """Seconds from the first frame to frame `index`."""
        return index / self.fps if self.seconds is None else self.seconds[index]


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """Which frames a method wants decoded, and at what size.

    `indices` are unique and ascending. `order` says how they fill the cells' frame slots, as positions in `indices`;
    None means each once, in time order (a control may repeat or shuffle). With an order, the slots take the times of as
    many frames spread by the run's sampling preset, unless the plan `keeps_times`.
    """

    indices: tuple[int, ...]  # frame numbers in the video
    height: int  # pixels, a multiple of patch × merge (28 for Qwen2-VL)
    width: int
    order: tuple[int, ...] | None = None
    keeps_times: bool = False  # True: slots show their own frames' times, which an `order` that only repeats may do
    # height and width to which frames shrink by nearest neighbour on the way to their size; the run's sampling says so
    nearest: tuple[int, int] | None = None

    @property
    def slots(self) -> tuple[int, ...]:
        """Position in `indices` for every frame slot fed to the encoder."""
        return tuple(range(len(self.indices))) if self.order is None else self.order


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Decoded frames."""

    pixels: np.ndarray = field(repr=False)  # (F, height, width, 3) uint8 RGB
    indices: tuple[int, ...]  # (F,) frame numbers in the video
    seconds: tuple[float, ...]  # (F,) presentation times, true ones


@dataclass(frozen=True, kw_only=True)
class VisualTokens:
    """Visual features after the vision merger, and where each token comes from. Newlines and times that a family puts
    between them are not among them (evalkit.model.separators).

    `slot` is the temporal cell whose position a token takes in the LLM: its own cell, unless a method packs survivors
    into the first `span` slots; text then follows that much earlier. Tokens are ordered by slot. Inside a slot they
    have the order that the method gives them where a family keeps it (`Decoder.keeps_order`), else raster order. A
    merged token has cell, place and slot of one of its sources; two may have the same.
    """

    features: Tensor = field(repr=False)  # (N, D)
    cell: Tensor = field(repr=False)  # (N,) long: temporal cell it was encoded in
    place: Tensor = field(repr=False)  # (N,) long: raster index inside the cell's grid
    slot: Tensor = field(repr=False)  # (N,) long: temporal cell that gives its position
    protected: Tensor = field(repr=False)  # (N,) bool: later stages keep it first
    cell_seconds: Tensor = field(repr=False)  # (T,) float64: true time of each cell's first frame
    grid: tuple[int, int]  # rows and columns of places in a cell
    # (T,) float64, ascending: the time at which each slot is shown to the LLM; None: `cell_seconds`
    slot_seconds: Tensor | None = field(default=None, repr=False)
    # (T,) float64: mean time of each cell's frames (where there are `slot_seconds`, of each slot's), for families that
    # write times as text; None: as `times`
    mean_seconds: Tensor | None = field(default=None, repr=False)
    span: int | None = None  # slots that the video takes in the LLM's time; None: all T
    # (N,) long: how many of the LLM's first layers see each token, as `select` decided for `prune`; None: not decided
    until: Tensor | None = field(default=None, repr=False)
    # (N, L, D): what is added to the tokens' hidden states after the LLM's first L layers; None: nothing
    deepstack: Tensor | None = field(default=None, repr=False)
    flops: int = 0  # operations of the matrix products by which a method chose them, two for a multiply-add
    # False: a token's place says nothing about where in a frame it is, nor in which, as the encoder merged patches
    spatial: bool = True
    encoder: EncoderView | None = field(default=None, repr=False)  # what the method `needs`; None: nothing
    merged: Merged | None = field(default=None, repr=False)  # what they stand for; None: each for itself alone
    # True: on a family that numbers tokens one after the other they keep the dense run's ids, with gaps, and text
    # follows where it does there; False: they are numbered anew. Ids of rows, columns and time are kept in any case
    original_ids: bool = False

    def __post_init__(self) -> None:
        if self.deepstack is not None and len(self.deepstack) != len(self.features):
            raise MethodError(
                f"expected deepstack features of {len(self.features)} visual tokens, as there are features, got "
                f"{len(self.deepstack)}; a method narrows tokens with VisualTokens.keep()"
            )

    @classmethod
    def dense(
        cls, features: Tensor, seconds: Sequence[float], grid: tuple[int, int], deepstack: Tensor | None = None
    ) -> VisualTokens:
        """All tokens of T whole cells: features (T·P, D) in raster order, `seconds` of each cell's first frame."""
        import torch

        cells, places = len(seconds), grid[0] * grid[1]
        cell = torch.arange(cells).repeat_interleave(places)
        return cls(
            features=features,
            cell=cell,
            place=torch.arange(places).repeat(cells),
            slot=cell,
            protected=torch.zeros(len(cell), dtype=torch.bool),
            cell_seconds=torch.tensor(seconds, dtype=torch.float64),
            grid=grid,
            deepstack=deepstack,
        )

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def seconds(self) -> Tensor:
        """True time of each token, (N,) float64."""
        return self.cell_seconds[self.cell]

    @property
    def shown_seconds(self) -> Tensor:
        """Mean time of each slot's frames where it is written as text, (T,) float64.

        That of the cell that a slot's tokens come from, and the mean where they come from several; where frames were
        repeated or reordered, the slot's own.
        """
        shown = self.times if self.mean_seconds is None else self.mean_seconds
        if self.slot_seconds is not None:
            return shown
        of_tokens = shown[self.cell]
        first, last, mean = (
            shown.scatter_reduce(0, self.slot, of_tokens, how, include_self=False) for how in ("amin", "amax", "mean")
        )
        return first.where(first == last, mean)  # of one cell: its time to the last bit, as it is rounded for the text

    @property
    def times(self) -> Tensor:
        """Time of each slot in the LLM, (T,) float64: the cells' own, unless the frames were repeated or reordered."""
        return self.cell_seconds if self.slot_seconds is None else self.slot_seconds

    def same(self, other: VisualTokens) -> bool:
        """Whether everything that the LLM reads of both is equal, bit by bit."""
        import torch

        def equal(ours: Any, theirs: Any) -> bool:
            if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
                return torch.equal(ours, theirs)
            if isinstance(ours, Merged) and isinstance(theirs, Merged):
                return equal(ours.token, theirs.token) and equal(ours.source, theirs.source)
            return bool(ours is theirs or (type(ours) is type(theirs) and ours == theirs))

        read = [each.name for each in fields(self) if each.name not in ("flops", "encoder")]
        return len(self) == len(other) and all(equal(getattr(self, name), getattr(other, name)) for name in read)

    def keep(self, index: Tensor) -> VisualTokens:
        """The tokens at `index` (positions; ascending, unless `slot` is set anew), all per-token fields aligned."""
        on_device = to_device(index, self.features.device)
        return replace(
            self,
            features=self.features[on_device],
            deepstack=None if self.deepstack is None else self.deepstack[on_device],
            cell=self.cell[index],
            place=self.place[index],
            slot=self.slot[index],
            protected=self.protected[index],
            until=None if self.until is None else self.until[index],
            encoder=None if self.encoder is None else self.encoder.keep(index),
            merged=None if self.merged is None else self.merged.keep(index, len(self)),
        )

    def merge(self, index: Tensor, features: Tensor, *, token: Tensor, source: Tensor) -> VisualTokens:
        """The tokens at `index` (K,), with `features` (K, D) in place of their own where those are made of several.

        `token` and `source` (M,), in any order, are pairs: a number below K, and the position among these tokens of
        one that went into it. A token in no pair stands for itself alone. Positions in `index` may occur twice.
        """
        encoded = self.cell * (self.grid[0] * self.grid[1]) + self.place
        if self.merged is not None or len(features) != len(index):
            raise MethodError(
                f"merge() needs tokens as they were encoded and a feature for each of {len(index)} kept, got "
                f"{len(features)} features{'' if self.merged is None else ' and merged tokens'}"
            )
        return replace(
            self.keep(index),
            features=features.to(self.features.device, self.features.dtype),
            merged=Merged.of(encoded[index], token, encoded[source]),
        )


@dataclass(frozen=True, kw_only=True)
class LayerChunk:
    """What one decoder layer sees of one video chunk, after its attention ran on the whole chunk."""

    layer: int  # 0-based
    layers: int  # decoder layers in all
    queries: Tensor = field(repr=False)  # (H, S, d) before rotation
    keys: Tensor = field(repr=False)  # (G, S, d) before rotation
    positions: Tensor = field(repr=False)  # (R, S) ids at this layer, as used, on the CPU; R = 3 for M-RoPE, else 1
    rotate: Rotate = field(repr=False)  # applies the layer's rotary embedding: rotate(x, positions)
    protected: Tensor = field(repr=False)  # (S,) bool, on the CPU
    max_keep: int  # tokens of this chunk that the budget leaves
    prompt_tokens: int  # of the whole prompt: head, video, and the question where the method asks
    cached: CachedVideo | None = field(default=None, repr=False)  # for a method that `rechooses`
    # for a method that has `settle`: which part of the video this is, and the queries (H, Q, d) before rotation and ids
    # (R, Q) of the text that was fed behind it
    part: VideoPart | None = None
    guide: Tensor | None = field(default=None, repr=False)
    guide_positions: Tensor | None = field(default=None, repr=False)
    known: dict[str, Tensor] = field(default_factory=dict, repr=False)  # by `once`, for all that read this chunk

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives: once for all ratios of a method that read this chunk together.

        It must depend on nothing but the method and the chunk, neither on its budget (`max_keep`) nor on `part`.
        """
        if name not in self.known:
            self.known[name] = compute()
        return self.known[name]


@dataclass(frozen=True, kw_only=True)
class CachedVideo:
    """All that a layer's cache holds of the video, V entries, those of the chunk at hand last; views, not copies."""

    keys: Tensor = field(repr=False)  # (G, V, d) rotated
    values: Tensor = field(repr=False)  # (G, V, d)
    grid: tuple[int, int]  # rows and columns of visual tokens in a cell
    spatial: bool = True  # as VisualTokens.spatial
    cells_left: int  # temporal cells that come after this chunk
    max_cells: int  # whose worth of entries the ratio leaves at the end


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Which tokens of a chunk go on to a layer and to all layers after it."""

    index: Tensor  # (K,) long, ascending positions in the chunk; of a chunk, K may be 0
    # True: from this layer on they are numbered anew without gaps, after the layer's last id, and what follows after
    # them; False: they keep their ids; None: as the backbone's positions want it (RoPE anew, M-RoPE kept)
    renumber: bool | None = None
    # (K, D): what goes on as the states of those tokens, such as means with tokens that are dropped; None: their own
    states: Tensor | None = field(default=None, repr=False)
    memo: object = None  # for the method's next call on the same feed, where it is `view.memo`
    flops: int = 0  # operations of the matrix products that the choice took


@dataclass(frozen=True, kw_only=True)
class Evicted:
    """Which tokens of a chunk stay in a layer's cache.

    Of a method that `rechooses`, positions are those in `LayerChunk.cached`, and each key head may have its own K.
    """

    # (K,) long, ascending positions in the chunk; (G, K) for a choice of each key head. Where it is on the keys' device
    # nothing waits for it: it is checked and recorded when all layers have run
    index: Tensor
    # (R, K) new ids, on the index's device; None keeps the old ones. Separators go between them, and what follows
    # continues from there
    positions: Tensor | None = None
    # True: following text moves with all three rows of its ids; False: in time alone, as ReTaKe's code; None: as the
    # backbone's positions want it (Qwen2-VL in time alone, Qwen2.5-VL and Qwen3-VL with all rows)
    align_text: bool | None = None
    flops: int = 0  # operations of the matrix products that the choice took


if TYPE_CHECKING:
    Rotate = Callable[[Tensor, Tensor], Tensor]  # ((heads, S, d), (R, S)) -> (heads, S, d)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a protocol reads a model's reply."""

    letter: str | None  # None: no option could be read
    correct: bool | None  # None: the protocol leaves the reply out of its averages

    def contradiction(self, gold: str) -> str:
        """What is wrong where `correct` does not say whether `letter` is the right one, `gold`; "" where it does."""
        right = bool(self.letter) and self.letter == gold
        if self.correct in (None, right):
            return ""
        return f"expected correct to be {right} or None for letter {self.letter!r} beside {gold!r}, came {self.correct}"


@dataclass(frozen=True, kw_only=True)
class KeptOverTime:
    """What of the video was in the cache when an answer began, by temporal cell; empty cells are left out."""

    seconds: tuple[float, ...]  # true time of each cell's first frame
    tokens: tuple[float, ...]  # visual entries of that cell, mean over layers
    cells: tuple[int, ...] | None = None  # index of each cell among those encoded; None in answers of older versions
    last_seconds: tuple[float, ...] | None = None  # true time of each cell's last frame; None as for `cells`
    # encoded tokens, of any cell, that were merged into this cell's tokens before the LLM, themselves included; None:
    # nothing was merged there
    merged: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One line of answers.jsonl: what one method at one ratio answered to one question, and what it spent."""

    benchmark: str
    question_id: str
    video_id: str
    groups: Mapping[str, tuple[str, ...]]
    method: str
    ratio: float
    text: str  # the model's words
    letter: str | None
    gold: str
    correct: bool | None  # None: not scored, as it failed or the protocol leaves it out
    status: str  # ok, unparsed or failed
    error: str | None
    prompt_sha: str
    ledger: Ledger | None
    prompt: str = ""  # the protocol's words as the model got them; "" where it got none
    options: tuple[str, ...] = ()
    duration_s: float | None = None  # of the video
    kept: KeptOverTime | None = None  # None: no video was fed
    repeated: bool | None = None  # all new tokens were used, on one token over and over; None: not counted
    # spans of the video that hold the answer, as the benchmark says; () not known, None: answer of an older version
    evidence_s: tuple[tuple[float, float], ...] | None = None
    # what is missing of the video by its file or by the annotations, in words; None: nothing, or not known
    short: str | None = None
    # log-probability of the right letter minus that of the best wrong one, at the reply's first token; None: there is
    # none (no options, no right one), or an older version did not measure it
    margin: float | None = None
    # fingerprint of the video's file and its number of frames; None: no video, or an older version has not written it
    video_file: str | None = None
    # frames that do not decode and in whose place others were fed; None: answer of an older version, or a failed one
    stand_ins: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        groups = {key: list(labels) for key, labels in self.groups.items()}
        ledger = None if self.ledger is None else self.ledger.to_dict()
        return {**vars(self), "groups": groups, "ledger": ledger, "kept": self.kept and vars(self.kept)}
