"""The prefill loop over a decoder-only language model: prefix, the video in chunks of whole cells, suffix.

The loop is ours and the same for every family; how positions are laid out is the Positions' that a decoder has. Batch
size is one. Shape letters: R rows of ids, N visual tokens, D width.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import transformers

from evalkit.errors import ConfigError, ModelError
from evalkit.method import Budget, Method
from evalkit.model.cell_sequences import in_raster_order
from evalkit.model.flops import OpCounts
from evalkit.model.hooks import LayerHooks, StopForward, VideoChunk
from evalkit.model.positions import Positions, following
from evalkit.model.prefill_state import PrefillState
from evalkit.model.video_feed import VideoFeed
from evalkit.model.whole_prompt import WholePromptHooks
from evalkit.to_device import to_device
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import Cache

    from evalkit.model.hooks import Observer
    from evalkit.model.separators import Separators

CACHE_NAMES = ("cache", "past_key_values")  # since transformers 5.24, and before


class PrefillLoop:
    """Feeds a language model."""

    positions_type: ClassVar[type[Positions]]  # a family's own
    # whether the tokens of a slot are fed in the order that a method gives them; False: in raster order
    keeps_order: ClassVar[bool] = False

    def __init__(self, model: Any, text: Any) -> None:
        """`text`: the language model inside `model`."""
        self.model, self.text = model, text
        self.layers = len(text.layers)
        self.positions = self.positions_type.of(model.config, text.rotary_emb)

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
    def max_positions(self) -> int | None:
        """Positions that the language model was made for; None where its configuration does not say."""
        found: int | None = getattr(self.text.config, "max_position_embeddings", None)
        return found

    @cached_property
    def kv_entry_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        config = self.text.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * int(config.num_key_value_heads) * int(width) * int(self.model.dtype.itemsize)

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
        state = self.new_state()
        try:
            with torch.inference_mode():
                for _ in range(2):
                    self.prefill_text(state, [0, 0])
        except (ModelError, AttributeError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{type(self.text).__name__} cannot be fed with transformers {transformers.__version__}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def separators(self, tokens: VisualTokens) -> Separators | None:
        """What stands between these visual tokens in the language model's sequence; None: nothing does.

        It is asked once, for the tokens that a method's `select` hands over.
        """
        return None

    def ordered(self, tokens: VisualTokens) -> VisualTokens:
        """What a method's `select` hands over in the order in which it is fed, and on which separators depend."""
        return tokens if self.keeps_order else in_raster_order(tokens)

    def embedded(self, ids: Sequence[int]) -> Tensor:
        """What the language model reads for token ids, (n, D)."""
        found: Tensor = self.text.embed_tokens(to_device(torch.tensor(list(ids), dtype=torch.long), self.device))
        return found

    def new_state(self) -> PrefillState:
        """The state of a sequence of which nothing has been read."""
        return PrefillState(self.layers, self.positions.rows)

    def prefill_text(
        self, state: PrefillState, ids: Sequence[int], *, decoding: bool = False, observe: Observer | None = None
    ) -> Tensor:
        """Feed text tokens; returns the hidden state of the last one (D,). `observe` sees each layer's attention."""
        position_ids = self.positions.text_ids(state.next_id, len(ids))
        state.record_input(ids, following(position_ids), reply=decoding)
        embeds = self.embedded(ids)[None]
        hooks = LayerHooks(self.text.layers, self.positions, state, position_ids, decoding=decoding, observe=observe)
        return self.run(hooks, embeds)

    def prefill_video(
        self,
        state: PrefillState,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        suffix_ids: Sequence[int] = (),
        observe: Observer | None = None,
    ) -> None:
        """Feed visual tokens, and the separators between them, in chunks, as `VideoFeed` says."""
        VideoFeed(
            self, state, tokens, method, budget, chunk_cells=chunk_cells, suffix_ids=suffix_ids, observe=observe
        ).read()

    def prefill_whole(
        self,
        state: PrefillState,
        prefix_ids: Sequence[int],
        tokens: VisualTokens,
        suffix_ids: Sequence[int],
        method: Method,
        budget: Budget,
    ) -> Tensor:
        """Feed a new state prefix, visual tokens and suffix at once; returns the last token's hidden state (D,)."""
        separators, text = self.separators(tokens), (len(prefix_ids), len(suffix_ids))
        state.record_input(prefix_ids, len(prefix_ids))
        self.record_video(state, tokens, separators)
        video_ids = self.positions.video_ids(text[0], tokens, separators)
        state.record_input(suffix_ids, state.next_id + len(suffix_ids))
        after = self.positions.ids_after(tokens, separators)
        ids = self.positions.prompt_ids(text[0], video_ids, after, text[1], renumbered=False)
        chunk = VideoChunk(
            tokens=tokens,
            separators=separators,
            method=method,
            budget=budget,
            max_keep=int(min(1.0, budget.ratio * budget.dense_tokens / len(tokens)) * len(tokens) + 1e-9),
            prompt_tokens=int(ids.shape[1]),
            text=text,
        )
        features = to_device(tokens.features, self.device, self.model.dtype)
        video = features if separators is None else separators.interleave(features)
        before, behind = self.embedded(prefix_ids), self.embedded(suffix_ids)
        hooks = WholePromptHooks(self.text.layers, self.positions, state, ids, chunk=chunk)
        return self.run(hooks, torch.cat([before, video, behind])[None])

    def record_video(self, state: PrefillState, tokens: VisualTokens, separators: Separators | None) -> None:
        """Record visual tokens and what stands between them as read."""
        placeholders = [] if self.placeholder is None else [self.placeholder] * len(tokens)
        state.record_input(
            placeholders if separators is None else separators.read_as(len(tokens), self.placeholder),
            state.next_id + self.positions.ids_after(tokens, separators),
            separators=0 if separators is None else len(separators),
        )

    def run(self, hooks: LayerHooks, embeds: Tensor) -> Tensor:
        """Feed embeds (1, n, D) under these hooks; returns the last token's state (D,), (0,) if it ended early."""
        state, fed = hooks.state, int(hooks.ids.shape[1])
        try:
            hidden = self._states(hooks, embeds, state.cache)[0, -1]
        except StopForward:  # in a layer's attention, or before it with no token left: no MLP there, no hidden state
            state.count(OpCounts(transformed=-(fed if hooks.live is None else len(hooks.live))))
            hidden = embeds.new_empty(0)
        for each in (hooks, *hooks.alike):
            each.record_evictions()
            each.state.check()
        return hidden

    def _states(self, hooks: LayerHooks, embeds: Tensor, cache: Cache, **options: object) -> Tensor:
        """The last layer's states (1, n, D) after one call of the language model; `options` reach its attention."""
        with hooks.attached():
            out = self.text(
                inputs_embeds=embeds,
                position_ids=self.positions.model_ids(hooks.ids, self.device),
                attention_mask={"full_attention": None},
                use_cache=True,
                **{self.cache_name: cache},
                **options,
            )
        states: Tensor = out.last_hidden_state
        return states
