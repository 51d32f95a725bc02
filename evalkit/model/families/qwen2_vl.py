"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): pixels to features, features to an answer.

The prefill loop is ours: head, then the video in chunks of whole cells, then the tail. Batch size is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evalkit.method import Budget, Method
from evalkit.model import positions, prompt
from evalkit.model.attach import Feed
from evalkit.model.context import Context
from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Qwen2VL:
    """A Qwen2-VL checkpoint behind the engine's few calls."""

    cell_frames = 2

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        vision = model.config.vision_config
        self.model, self.tokenizer = model, tokenizer
        self.text = model.model.language_model
        self.patch, self.merge = int(vision.patch_size), int(vision.spatial_merge_size)
        self.unit = self.patch * self.merge
        self.layers = len(self.text.layers)
        # the processor's fused form of "divide by 255, subtract the mean, divide by the deviation"
        self._mean = torch.tensor(mean) * 255
        self._std = torch.tensor(std) * 255

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @property
    def kv_entry_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        config = self.text.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * int(config.num_key_value_heads) * int(width) * int(self.model.dtype.itemsize)

    def parameters(self) -> tuple[int, int]:
        """Weights of the vision tower and of the language model."""
        vision, language = (sum(p.numel() for p in m.parameters()) for m in (self.model.model.visual, self.text))
        return vision, language

    def prompt(self, text: str, *, video: bool) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        return prompt.split(self.tokenizer, text, video=video)

    # ---- vision

    def patches(self, pixels: np.ndarray) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> normalised patches (T·h·w, 3·2·patch²) in Qwen's order."""
        frames, height, width, _ = pixels.shape
        x = (torch.from_numpy(np.ascontiguousarray(pixels)).float() - self._mean) / self._std
        m, p = self.merge, self.patch
        x = x.permute(0, 3, 1, 2).reshape(frames // 2, 2, 3, height // (m * p), m, p, width // (m * p), m, p)
        return x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * 2 * p * p)

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> features after the merger (T·P, D), `slice_cells` cells at a time.

        Cells do not attend to each other in the vision tower, so slicing is exact.
        """
        step = slice_cells * self.cell_frames
        return torch.cat([self._encode_slice(pixels[i : i + step]) for i in range(0, len(pixels), step)])

    def _encode_slice(self, pixels: np.ndarray) -> Tensor:
        frames, height, width, _ = pixels.shape
        grid = (frames // self.cell_frames, height // self.patch, width // self.patch)
        return self.encode_patches(self.patches(pixels), grid)

    def encode_patches(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Normalised patches (T·h·w, C) of a grid (T, h, w in patches) -> features (T·P, D)."""
        visual = self.model.model.visual
        thw = torch.tensor([grid], device=self.device)
        features: Tensor = visual(patches.to(self.device, visual.dtype), grid_thw=thw).pooler_output
        return features

    # ---- language

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """Temporal id of each of the video's T slots, counted from its start, (T,) long."""
        return torch.arange(len(tokens.cell_seconds))

    def ids_after(self, tokens: VisualTokens) -> int:
        """How many ids the video takes before text goes on: its uncompressed extent, less the time that was packed."""
        times = self.slot_times(tokens)
        packed = 0 if tokens.span is None else int(times[-1] - times[tokens.span - 1])
        return max(int(times[-1]) + 1, *tokens.grid) - packed

    def feed_text(self, context: Context, ids: Sequence[int], *, decoding: bool = False) -> Tensor:
        """Feed text tokens; returns the hidden state of the last one (D,)."""
        embeds = self.text.embed_tokens(torch.tensor([list(ids)], device=self.device))
        where = positions.text(context.next_id, len(ids))
        context.next_id = positions.following(where)
        return self._run(Feed(self.text, context, where, decoding=decoding), embeds, context)

    def feed_video(
        self,
        context: Context,
        tokens: VisualTokens,
        method: Method,
        budget: Budget,
        *,
        chunk_cells: float | None,
        tail: int = 0,
    ) -> None:
        """Feed visual tokens in chunks of `chunk_cells` temporal cells (None: all at once).

        `tail` is the number of tokens that will follow, for methods whose budget is that of the whole prompt.
        """
        start = context.next_id
        where = positions.video(start, self.slot_times(tokens)[tokens.slot], tokens.place, tokens.grid[1])
        share = min(1.0, budget.ratio * budget.dense_tokens / len(tokens))
        prompt = max(context.lengths) + len(tokens) + tail
        parts = list(chunks(tokens, chunk_cells))
        evicts = type(method).evict is not Method.evict
        context.reserve(int(len(tokens) * (share if evicts else 1.0)), max(map(len, parts)) + tail)
        for index in parts:
            part, ids = tokens.keep(index), where[:, index]
            # what rounding leaves over in one chunk goes to the next
            before, after = (int(share * tokens_fed + 1e-9) for tokens_fed in (int(index[0]), int(index[-1]) + 1))
            feed = Feed(
                self.text,
                context,
                ids,
                method=method,
                tokens=part,
                budget=budget,
                room=after - before,
                prompt_tokens=prompt,
            )
            self._run(feed, part.features[None].to(self.device, self.model.dtype), context)
        context.next_id = start + self.ids_after(tokens)

    def _run(self, feed: Feed, embeds: Tensor, context: Context) -> Tensor:
        with feed.attached():
            out = self.text(
                inputs_embeds=embeds,
                position_ids=feed.positions[:, None].to(self.device),
                attention_mask={"full_attention": None},
                past_key_values=context.cache,
                use_cache=True,
            )
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

    def generate(self, context: Context, hidden: Tensor, max_new_tokens: int, stop: Sequence[str] = ()) -> list[int]:
        """Greedy decoding from the last prompt token's hidden state (D,); returns the new ids without the end."""
        ids: list[int] = []
        ends = self.stop_ids()
        while len(ids) < max_new_tokens:
            token = int(self.logits(hidden).argmax())
            if token in ends:
                break
            ids.append(token)
            if stop and any(s in self.tokenizer.decode(ids) for s in stop):
                break
            if len(ids) < max_new_tokens:
                hidden = self.feed_text(context, [token], decoding=True)
        return ids

    def context(self) -> Context:
        """A new, empty context."""
        return Context(self.layers)


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: time in the positions is absolute, `tokens_per_second` ids a second."""

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """True seconds of each slot since the first, in ids; (T,) long."""
        rate = float(self.model.config.vision_config.tokens_per_second)
        seconds = tokens.cell_seconds - tokens.cell_seconds[0]
        # timestamps are binary fractions of a frame's time: 0.4999… s is half a second
        return torch.floor(seconds * rate + 1e-3).long()


FAMILIES: dict[str, type[Qwen2VL]] = {"qwen2_vl": Qwen2VL, "qwen2_5_vl": Qwen25VL}


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
