"""A language model behind the engine's few calls: prompts, several questions on one cache, the reply.

Shape letters: D width, V vocabulary.
"""

from __future__ import annotations

from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from evalkit.model import chat_template, flops, generation, option_margin, tails
from evalkit.model.finite import check_finite
from evalkit.model.flops import OpCounts
from evalkit.model.generation import Processors
from evalkit.model.positions import following
from evalkit.model.prefill_loop import PrefillLoop
from evalkit.model.reply_tokens import TokenFeed
from evalkit.model.tails import TailFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.reply_tokens import Chain
    from evalkit.model.tails import PassingFeed, Tail

REMEMBERED = 8  # texts before a video whose ids are kept: one for each system turn


class Decoder(PrefillLoop):
    """A language model and its tokenizer."""

    template: ClassVar[str | None] = None  # layout of prompts, as chat_template.split takes it; None: the checkpoint's
    video_wrapper: ClassVar[tuple[str, str]] = chat_template.VIDEO_WRAPPER  # text on both sides that goes with a video

    def __init__(self, model: Any, text: Any, tokenizer: Any) -> None:
        """`text`: the language model inside `model`."""
        super().__init__(model, text)
        self.tokenizer = tokenizer

    # ---- prompts

    def prompt(
        self, text: str, *, video: bool, system: str | None = None, prefill: str = ""
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        return chat_template.split(
            self.tokenizer,
            text,
            video=video,
            system=system,
            prefill=prefill,
            template=self.template,
            wrapper=self.video_wrapper,
            before=self._ids_before,
        )

    @cached_property
    def _ids_before(self) -> Callable[[str], list[int]]:
        return lru_cache(maxsize=REMEMBERED)(partial(chat_template.ids, self.tokenizer))

    def reply_header(self, suffix_ids: Sequence[int]) -> int:
        """Where the assistant's header begins in the ids after the video; their end where there is none."""
        if self.tokenizer is None:
            return len(suffix_ids)
        start = self.tokenizer.convert_tokens_to_ids("<|im_start|>")
        return max((i for i, token in enumerate(suffix_ids) if token == start), default=len(suffix_ids))

    # ---- several questions after one cache

    @cached_property
    def reads_together(self) -> bool:
        """Whether questions that are read in one feed give the bits of questions that are fed one by one.

        Tried on a few made-up ones, here and once.
        """
        with torch.inference_mode():
            state, texts = self._tried()
            mark, same = state.mark(), True
            for text, tail in zip(texts, self._read_tails(state, texts), strict=True):
                same = same and tail.is_end_of(state, self.prefill_text(state, text))
                state.rewind(mark)
            return same

    @cached_property
    def replies_together(self) -> bool:
        """Whether tokens of several replies, fed at once, give the bits of tokens fed one by one: tried, too."""
        with torch.inference_mode():
            state, texts = self._tried()
            questions = self._read_tails(state, texts)
            mark, same = state.mark(), True
            for question, tail in zip(
                questions, self.read_tokens(state, [[q] for q in questions], [1, 2, 3, 4]), strict=True
            ):
                self.append_tail(state, question)
                same = same and tail.is_end_of(state, self.prefill_text(state, tail.token_ids, decoding=True))
                state.rewind(mark)
            return same

    def _tried(self) -> tuple[PrefillState, list[list[int]]]:
        """A text that was read, and made-up questions on it."""
        size = int(self.text.config.vocab_size)
        texts = [[(7 * place + 3 * n) % size for place in range(length)] for n, length in enumerate(tails.TRIED)]
        state = self.new_state()
        self.prefill_text(state, texts[0] * 4)
        return state, texts

    def read_tails(self, state: PrefillState, questions: Sequence[Sequence[int]]) -> list[Tail]:
        """Read questions (token ids) after what `state` has read, which stays as it is; in few feeds."""
        return [
            tail
            for pack in tails.packs(questions)
            for tail in self._read_tails(state, [questions[place] for place in pack])
        ]

    def _read_tails(self, state: PrefillState, questions: Sequence[Sequence[int]]) -> list[Tail]:
        feed = TailFeed(self.text.layers, self.positions, state, questions)
        return self._read(feed, [token for ids in questions for token in ids])

    def read_tokens(self, state: PrefillState, chains: Sequence[Chain], tokens: Sequence[int]) -> list[Tail]:
        """Read the next token of several replies after `state`, which stays as it is, and what was read behind it."""
        return self._read(TokenFeed(self.text.layers, self.positions, state, chains, tokens), tokens)

    def _read(self, feed: PassingFeed, tokens: Sequence[int]) -> list[Tail]:
        return feed.tails(self._states(feed, self.embedded(tokens)[None], feed.cache, tails=feed))

    def append_tail(self, state: PrefillState, tail: Tail, *, decoding: bool = False) -> Tensor:
        """Make what was read after `state` a part of it, as `prefill_text` does; its hidden state (D,)."""
        following_id = following(self.positions.text_ids(state.next_id, len(tail.token_ids)))
        state.record_input(tail.token_ids, following_id, reply=decoding)
        for i, layer in enumerate(tail.layers):
            state.append(i, layer.ids)
            state.layers[i].update(layer.keys, layer.values)
        state.check()
        return tail.hidden

    # ---- the reply

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

    @cached_property
    def letter_ids(self) -> option_margin.LetterIds:
        """Tokens with which a reply may begin to name option A, B, …"""
        return option_margin.letter_ids(self.tokenizer)

    def score_next(self, state: PrefillState, hidden: Tensor) -> Tensor:
        """The model's own logits (V,) of the token after the one whose hidden state (D,) is given.

        Raises ModelError where one is not finite: the largest would be NaN's.
        """
        state.count(OpCounts(scored=1))
        return check_finite(self.logits(hidden), "logits of the language model")

    def choose(self, state: PrefillState, logits: Tensor) -> int:
        """The likeliest token by logits (V,) and the checkpoint's generation_config."""
        return int(self.processors(logits, state.read, len(state.read) - state.replied).argmax())

    def next_token(self, state: PrefillState, hidden: Tensor) -> int:
        """The likeliest token after the one whose hidden state (D,) is given; errors as `score_next`."""
        return self.choose(state, self.score_next(state, hidden))

    def choose_after(self, state: PrefillState, chain: Chain) -> int:
        """The likeliest token after what was read behind `state`, as `choose` finds it in its turn."""
        read = torch.cat([state.read, torch.tensor([token for tail in chain for token in tail.token_ids])])
        prompt = len(state.read) + len(chain[0].token_ids)
        return int(self.processors(self.logits(chain[-1].hidden), read, prompt).argmax())

    def is_over(self, ids: Sequence[int], limit: int, stop: Sequence[str]) -> bool:
        """Whether a reply of these tokens ends with the last of them: an end, or nothing may follow it."""
        if ids[-1] in self.processors.ends or len(ids) == limit:
            return True
        return bool(stop) and any(s in self.tokenizer.decode(ids) for s in stop)

    def generate(
        self,
        state: PrefillState,
        token: int,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        *,
        ahead: Sequence[Tail] = (),
    ) -> list[int]:
        """Greedy decoding that begins with `token`, the one after the prompt; returns the new ids without the end.

        `ahead`: tokens that were read ahead, which are not fed again where they are those of the reply.
        """
        ids = [token]
        while not self.is_over(ids, max_new_tokens, stop):
            here = ahead[len(ids) - 1 : len(ids)]
            if here and here[0].token_ids == (ids[-1],):
                hidden = self.append_tail(state, here[0], decoding=True)
            else:
                ahead, hidden = (), self.prefill_text(state, ids[-1:], decoding=True)
            ids.append(self.next_token(state, hidden))
        return ids[:-1] if ids[-1] in self.processors.ends else ids

    def flops(self, op_counts: OpCounts) -> int:
        """Operations of what a state counted."""
        return flops.decoder(self._costs, op_counts)

    @cached_property
    def _costs(self) -> tuple[int, ...]:
        return flops.decoder_costs(self.text.config)
