"""The contract between a compression method and the engine: four verbs, each defaulting to "keep all".

A method is a frozen dataclass whose fields are its hyper-parameters. It holds no state of a video and never touches the
model: it returns indices; the engine gathers, rotates, counts and undoes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from evalkit.errors import MethodError
from evalkit.types import Evicted, FramePlan, LayerChunk, Pruned, Video, VisualTokens

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.chunk_scores import Guide, Scored, VideoPart
    from evalkit.encoder_view import Need

    Draws = Callable[[int], Tensor]  # n -> the next n of a sequence of numbers, (n,) float32 uniform in [0, 1)


Role = Literal["reference", "method", "control"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The common limits of a grid cell.

    `ratio` means the same for every method: visual KV entries at answer time, summed over the layers that have a KV
    cache, as a share of the dense run's (every sampled frame, every token, every such layer). All layers of today's
    families have one; text between frames, such as timestamps, is no visual entry.
    """

    ratio: float  # in (0, 1]
    frames: tuple[int, ...]  # frame numbers that the dense run decodes, unique and ascending
    sample: Callable[[int], tuple[int, ...]]  # n -> n frame numbers, spread by the run's sampling preset
    cell_frames: int  # frames per temporal cell (2 for Qwen2-VL)
    clip_frames: int  # frames that the encoder sees together, whole cells; fewer are never chosen apart
    height: int  # pixels of a dense frame
    width: int
    grid: tuple[int, int]  # rows and columns of visual tokens in a dense cell
    # pixels per side of one visual token (28 for Qwen2-VL); None: the backbone takes frames of this one size
    pixels_per_token: int | None
    layers: int  # decoder layers of the LLM, each with a KV cache
    seed: int  # of the run
    video: str = ""  # the video's file name, which goes into what is drawn at random

    @classmethod
    def encoded(
        cls,
        cells: int,
        grid: tuple[int, int],
        *,
        ratio: float,
        layers: int,
        cell_frames: int = 2,
        pixels_per_token: int = 28,
    ) -> Budget:
        """Of a video that is encoded already, `grid` rows and columns of tokens a cell: its cells are the dense run."""
        frames = tuple(range(cells * cell_frames))
        return cls(
            ratio=ratio,
            frames=frames,
            sample=lambda n: frames[:n],
            cell_frames=cell_frames,
            clip_frames=cell_frames,
            height=grid[0] * pixels_per_token,
            width=grid[1] * pixels_per_token,
            grid=grid,
            pixels_per_token=pixels_per_token,
            layers=layers,
            seed=0,
        )

    def seed_for(self, purpose: str) -> int:
        """A number that depends on the run's seed, the video's file name and `purpose` alone; 64 bits."""
        key = f"{self.seed}:{self.video}:{purpose}"
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")

    def draws(self, purpose: str) -> Draws:
        """Random numbers for `purpose`, the same at every call for the same run and video."""
        import torch

        generator = torch.Generator().manual_seed(self.seed_for(purpose) >> 1)
        return lambda count: torch.rand(count, generator=generator)

    @property
    def cells(self) -> int:
        """Temporal cells of the dense run, whose last clip is filled up."""
        return -(-len(self.frames) // self.clip_frames) * self.clip_cells

    @property
    def clip_cells(self) -> int:
        """Temporal cells of a clip."""
        return self.clip_frames // self.cell_frames

    @property
    def places(self) -> int:
        """Visual tokens in one dense cell."""
        return self.grid[0] * self.grid[1]

    @property
    def dense_tokens(self) -> int:
        """Visual tokens of the dense run."""
        return self.cells * self.places

    def cells_at(self, share: float) -> int:
        """Cells of the whole clips nearest to `share` of the dense run's, at least one clip."""
        return max(1, round(self.cells * share / self.clip_cells)) * self.clip_cells


class AttentionFromQuestion(Protocol):
    """Question→token attention: one counted pass of the LLM over some cells, and what the question looks at there."""

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
        """Mean attention that each cell of each window gets from the question, (layers, windows, width) float64.

        `cells` are fed in the order given, laid out as if they followed each other, with the method's own `prune`.
        A window (from, to) is a run of positions in `cells`, all of one width. In each layer of `layers` the question
        attends to prompt, window and itself alone, with positions counted anew; averaged over heads, the question's
        tokens (the first `skip` left out, and those from the assistant's header on) and the cell's tokens.

        `causal`: whether a token of the question is kept from seeing later ones; `closing`: whether what it sees goes
        on to the end of the prompt, header included.
        `until` (N,): the pass is made with these `VisualTokens.until` for the video's tokens, which `prune` reads.
        `last`: of one layer and one window of all cells instead what the prompt's very last token attends to, averaged
        over heads, for each visual token that the layer sees, (1, 1, n) float64.
        What does not depend on the question is computed once per video.
        """
        ...


class PruneView(Protocol):
    """What `prune` may look at beside the tokens, computed when it is asked for and counted then.

    n visual tokens are alive. Attention is that of the prompt's last token, the softmax over all that it sees, text
    included, in float32, averaged over heads; it exists in a `whole` feed alone, and MethodError says so elsewhere.
    """

    @property
    def between(self) -> bool:
        """Whether this is the call between a layer's attention and its MLP (see `Method.between`)."""
        ...

    @property
    def memo(self) -> object:
        """`Pruned.memo` of the method's last call on this feed that dropped something; None before."""
        ...

    @property
    def states(self) -> Tensor:
        """Hidden states of the visual tokens at this point, (n, D), on the model's device."""
        ...

    def last_attention(self) -> Tensor:
        """Of the attention that ran last, (n,) float32 on the CPU: the layer below's; `between`: this layer's own."""
        ...

    def next_attention(self) -> Tensor:
        """Of this layer's own attention on the states that are about to enter it, (n,) float32 on the CPU."""
        ...


def no_question(cells: Sequence[int], **_: object) -> Tensor:
    """Stands for `ask` where there is no question: outside a run, for a method that does not ask."""
    raise MethodError(f"ask() was called for {len(cells)} cells where there is no question to ask")


@dataclass(frozen=True, kw_only=True)
class Method:
    """Keep everything. Subclasses override the verbs at which they intervene."""

    # what tables and plots take it for; a reference is what others are compared with, at equal cost
    role: ClassVar[Role] = "method"
    identity_at_one: ClassVar[bool] = True  # False: a control that changes the input at any ratio
    spends: ClassVar[bool] = True  # False: a control that spends nothing of the budget, whatever the ratio
    off_ratio: ClassVar[str] = ""  # why the share that it spends is by design another than the ratio; "": it is not
    # True: `frames` reads `video.frame_scores`, which belong to one question; each question is then decoded for itself
    needs_frame_scores: ClassVar[bool] = False
    # True: prefix, video and question go through the layers together, in one feed without chunks, once for each
    # question; `prune` may then read attention
    whole: ClassVar[bool] = False
    # True: `prune` is called a second time in each layer, before its MLP; needs `whole`
    between: ClassVar[bool] = False
    # True: `evict` sees all of the video in a layer's cache, values included, and chooses among all of it, for each key
    # head where it wants to; not where text or newlines stand between visual tokens
    rechooses: ClassVar[bool] = False

    @property
    def query_aware(self) -> bool:
        """True: what it does depends on the question, so its prefix is not shared between questions."""
        return self.needs_frame_scores or self.whole

    @property
    def vacuous(self) -> bool:
        """True: it acts only after the whole prompt was read, so that the first token, and with it a letter, is the
        dense run's whatever the ratio; tables say so.
        """
        own = {verb for verb in ("frames", "select", "prune", "evict") if self.overrides(verb)}
        return self.whole and own == {"evict"}

    @classmethod
    def overrides(cls, verb: str) -> bool:
        """Whether it has this verb of its own."""
        return getattr(cls, verb) is not getattr(Method, verb)

    def sees_later(self, layer: int, layers: int) -> bool:
        """Of a `whole` feed: whether tokens see later ones in this layer's attention, as some released code has it."""
        return False

    @property
    def needs(self) -> frozenset[Need]:
        """What of the vision encoder `select` reads in `VisualTokens.encoder`; what is not named is not computed."""
        return frozenset()

    def notes(self, *, aligns_text: bool) -> tuple[str, ...]:
        """What tables say about its settings on a backbone, whose layout of text `aligns_text` names."""
        return (f"misses the ratio by design: {self.off_ratio}",) if self.off_ratio else ()

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """Before decoding: which frames, at what size."""
        return FramePlan(indices=budget.frames, height=budget.height, width=budget.width)

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """After the encoder: which visual tokens go to the LLM, by `tokens.keep`, or by `tokens.merge` where some are
        made of several. Only a `query_aware` method may call `attention_from_question`.
        """
        return tokens

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """Before decoder layer `layer` (0-based, of `layers`): the tokens that go on to it; None for all.

        `tokens` are the chunk's survivors so far; their `features` are those that entered the LLM. A method that is
        `whole` may look at more, which `view` computes; one that also has `between` is called again before each MLP.
        """
        return None

    def chunks(self, cells: int, budget: Budget) -> tuple[int, ...] | None:
        """How many of a video's cells are prefilled at a time, one number a chunk; None: as the backbone is set up."""
        return None

    def evict(self, chunk: LayerChunk) -> Evicted | Scored | None:
        """After a layer's attention on a video chunk: what of it stays in that layer's cache; None for all.

        A method that has `settle` returns scores, for all layers or for none.
        """
        return None

    # ---- of a method whose choice in one layer depends on the other layers

    def shares(self, tokens: VisualTokens, sizes: Sequence[int], share: float, prompt_tokens: int) -> Sequence[float]:
        """The share of its tokens that each chunk keeps, where the method has `settle`.

        `tokens` are what `select` handed over, `sizes` how many of them each chunk has, `share` is what the ratio
        leaves of all, `prompt_tokens` counts the whole prompt.
        """
        return [share] * len(sizes)

    def guide(self, part: VideoPart) -> Guide | None:
        """What of the text after the video is fed behind this chunk, so that `evict` sees its queries; None: nothing.

        Nothing of it stays. Only a `query_aware` method, which has `settle`, may ask for it.
        """
        return None

    def settle(self, scores: Tensor, part: VideoPart) -> Sequence[Tensor]:
        """After a chunk's last layer: what of it stays in each layer's cache, by all layers' scores (L, S).

        One index a layer, (K,) long, ascending positions in the chunk. It is called where `evict` returned scores.
        """
        raise MethodError(f"{type(self).__name__}.evict() returned scores, but it has no settle()")


@dataclass(frozen=True)
class OperatingPoint:
    """One method at one ratio."""

    name: str  # of the method's configuration
    method: Method
    ratio: float  # in (0, 1], as Budget.ratio
    adapter: str | None = None  # tuned weights in place of the backbone's: a folder, or builtin/NAME; None: as it is
