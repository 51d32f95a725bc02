"""The prefill loop over a decoder-only language model: head, then the video in chunks of whole cells, then the tail.

The loop is ours and the same for every family; a family says how positions are laid out. Batch size is one.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import transformers

from evalkit.errors import ConfigError, ModelError
from evalkit.method import Budget, Method
from evalkit.model import chat_template, flops, generation, positions
from evalkit.model.finite import check_finite
from evalkit.model.flops import OpCounts
from evalkit.model.generation import Processors
from evalkit.model.hooks import LayerHooks, StopForward
from evalkit.model.prefill_state import PrefillState
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from evalkit.model.hooks import Observer

CACHE_NAMES = ("cache", "past_key_values")  # since transformers 5.24, and before


class Decoder:
    """A language model behind the engine's few calls. Families fill in the layout of positions (R rows of ids)."""

    rows = 1  # of position ids: 1 (RoPE), or 3 (M-RoPE: time, height, width)
    renumbers = True  # whether what `prune` leaves is numbered anew, unless the method says so itself
    aligns_text = False  # whether text after re-forged ids moves with all rows, unless the method says so itself
    yarn_length: int | None = None  # ids of training that YaRN stretches; None: as many as the checkpoint allows

    def __init__(self, model: Any, text: Any, tokenizer: Any) -> None:
        self.model, self.text, self.tokenizer = model, text, tokenizer
        self.layers = len(text.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @property
    def placeholder(self) -> int | None:
        """Id that stands for a visual token in a prompt; None where the family has none."""
        found: int | None = getattr(self.model.config, "video_token_id", None)
        return found

    @property
    def kv_entry_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        config = self.text.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * int(config.num_key_value_heads) * int(width) * int(self.model.dtype.itemsize)

    # ---- positions, a family's own

    def text_ids(self, start: int, length: int) -> Tensor:
        """Ids of text tokens from `start` on, (R, length): equal rows."""
        return positions.text(start, length)[: self.rows]

    def video_ids(self, start: int, tokens: VisualTokens) -> Tensor:
        """Ids of visual tokens that follow the id before `start`, (R, N): here one after the other."""
        return self.text_ids(start, len(tokens))

    def ids_after(self, tokens: VisualTokens) -> int:
        """How many ids the video takes before text goes on."""
        return len(tokens)

    def rotary(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (1, S, d) for ids (R, S), on the device and in the dtype of `x`."""
        cos, sin = self.text.rotary_emb(x, self.model_ids(ids))
        return cos, sin

    def model_ids(self, ids: Tensor) -> Tensor:
        """Ids (R, S) in the shape that the language model takes, with its batch of one."""
        return ids.to(self.device)

    @cached_property
    def cache_name(self) -> str:
        """The argument in which the language model takes its cache.

        One that it does not know would vanish among its keyword arguments, and it would make a cache of its own. Raises
        ConfigError where it knows none of the names.
        """
        known = inspect.signature(self.text.forward).parameters
        found = next((name for name in CACHE_NAMES if name in known), None)
        if found is None:
            raise ConfigError(
                f"{type(self.text).__name__} of transformers {transformers.__version__}: expected one of the arguments "
                f"{', '.join(CACHE_NAMES)}, came {', '.join(known)}; install a release that evalkit is tested with"
            )
        return found

    def probe(self) -> None:
        """Feed two tokens twice, as chunks of a video are fed, and check the cache after each.

        Raises ConfigError where this fails: with the installed transformers no question could be answered.
        """
        context = self.context()
        try:
            with torch.inference_mode():
                for _ in range(2):
                    self.prefill_text(context, [0, 0])
        except (ModelError, AttributeError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{type(self.text).__name__} cannot be fed with transformers {transformers.__version__}: "
                f"{type(error).__name__}: {error}"
            ) from error

    # ---- the loop

    def prompt(
        self, text: str, *, video: bool, system: str | None = None, prefill: str = ""
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        return chat_template.split(self.tokenizer, text, video=video, system=system, prefill=prefill)

    def header(self, tail: Sequence[int]) -> int:
        """Where the assistant's header begins in the ids after the video; their end where there is none."""
        if self.tokenizer is None:
            return len(tail)
        mark = self.tokenizer.convert_tokens_to_ids("<|im_start|>")
        return max((i for i, token in enumerate(tail) if token == mark), default=len(tail))

    def context(self) -> PrefillState:
        """A new, empty context."""
        return PrefillState(self.layers, self.rows)

    def prefill_text(
        self, context: PrefillState, ids: Sequence[int], *, decoding: bool = False, observe: Observer | None = None
    ) -> Tensor:
        """Feed text tokens; returns the hidden state of the last one (D,). `observe` sees each layer's attention."""
        context.note(ids, reply=decoding)
        embeds = self.text.embed_tokens(torch.tensor([list(ids)], device=self.device))
        where = self.text_ids(context.next_id, len(ids))
        context.next_id = positions.following(where)
        return self._run(LayerHooks(self, context, where, decoding=decoding, observe=observe), embeds, context)

    def prefill_video(
        self,
        context: PrefillState,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        tail: int = 0,
        observe: Observer | None = None,
    ) -> None:
        """Feed visual tokens in chunks of `chunk_cells` temporal cells (None: all at once).

        `tail` is the number of tokens that will follow, for methods whose budget is that of the whole prompt;
        `observe` sees each layer's attention.
        """
        start = context.next_id
        context.note([] if self.placeholder is None else [self.placeholder] * len(tokens))
        where = self.video_ids(start, tokens)
        share = min(1.0, budget.ratio * budget.dense_tokens / len(tokens))
        prompt = max(context.lengths) + len(tokens) + tail
        parts = list(chunks(tokens, chunk_cells))
        evicts = type(method).evict is not Method.evict
        context.reserve(int(len(tokens) * (share if evicts else 1.0)), max(map(len, parts)) + tail)
        for index in parts:
            part, ids = tokens.keep(index), where[:, index]
            # what rounding leaves over in one chunk goes to the next
            before, after = (int(share * tokens_fed + 1e-9) for tokens_fed in (int(index[0]), int(index[-1]) + 1))
            feed = LayerHooks(
                self,
                context,
                ids,
                method=method,
                tokens=part,
                budget=budget,
                max_keep=after - before,
                prompt_tokens=prompt,
                observe=observe,
            )
            self._run(feed, part.features[None].to(self.device, self.model.dtype), context)
        context.next_id = start + self.ids_after(tokens)

    def _run(self, feed: LayerHooks, embeds: Tensor, context: PrefillState) -> Tensor:
        try:
            with feed.attached():
                out = self.text(
                    inputs_embeds=embeds,
                    position_ids=self.model_ids(feed.positions),
                    attention_mask={"full_attention": None},
                    use_cache=True,
                    **{self.cache_name: context.cache},
                )
        except StopForward:  # in the last layer's attention: no MLP there, and no hidden state
            context.op_counts -= OpCounts(transformed=int(feed.positions.shape[1]))
            context.check()
            return embeds.new_empty(0)
        context.check()
        hidden: Tensor = out.last_hidden_state[0, -1]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden state (D,) -> logits (V,)."""
        out: Tensor = self.model.lm_head(hidden)
        return out

    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a reply."""
        configured = self.model.generation_config.eos_token_id
        ids = set(configured if isinstance(configured, list) else [configured]) - {None}
        if self.tokenizer is not None and self.tokenizer.eos_token_id is not None:
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    @cached_property
    def processors(self) -> Processors:
        """What the checkpoint's generation_config changes about greedy decoding."""
        return Processors(generation.applied(self.model.generation_config), self.stop_ids())

    def next_token(self, context: PrefillState, hidden: Tensor) -> int:
        """The likeliest token after the one whose hidden state (D,) is given, by the checkpoint's generation_config.

        Raises ModelError where a logit is not finite: the largest would be NaN's.
        """
        context.op_counts += OpCounts(scored=1)
        logits = check_finite(self.logits(hidden), "logits of the language model")
        prompt = len(context.read) - context.replied
        return int(self.processors(logits, context.read, prompt).argmax())

    def generate(self, context: PrefillState, token: int, max_new_tokens: int, stop: Sequence[str] = ()) -> list[int]:
        """Greedy decoding that begins with `token`, the one after the prompt; returns the new ids without the end."""
        ids: list[int] = []
        ends = self.stop_ids()
        while token not in ends:
            ids.append(token)
            stopped = stop and any(s in self.tokenizer.decode(ids) for s in stop)
            if stopped or len(ids) == max_new_tokens:
                break
            token = self.next_token(context, self.prefill_text(context, [token], decoding=True))
        return ids

    # ---- what it takes

    def flops(self, op_counts: OpCounts) -> int:
        """Operations of what a context counted."""
        return flops.decoder(self.text.config, op_counts)


def chunks(tokens: VisualTokens, cells: float | None) -> Iterator[Tensor]:
    """Positions (ascending) of the tokens in each run of `cells` temporal slots; None: of all tokens.

    Reference traces cut inside a cell where their number of cells is odd; then `cells` has a fraction.
    """
    if cells is None:
        yield torch.arange(len(tokens))
        return
    places = tokens.grid[0] * tokens.grid[1]
    group = (tokens.slot * places + tokens.place) // max(1, int(cells * places))
    for value in dict.fromkeys(group.tolist()):
        yield (group == value).nonzero()[:, 0]
