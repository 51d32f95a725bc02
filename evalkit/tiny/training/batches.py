"""Training batches: worlds, the visual tokens chosen from them, and several questions about each.

All questions of a video share its tokens in one sequence: head, video, then one tail per question that sees the video
and itself only. Each tail has the positions it would have alone, as the engine lays them out.
Shape letters: B videos, M visual tokens, C concepts, Q questions a video, A tokens of a tail, S = head + M + Q·A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.model.packed_questions import IGNORE
from evalkit.tiny import prompts
from evalkit.tiny.model import GRID
from evalkit.tiny.training import auxiliary_head, symbols
from evalkit.tiny.training.shape import Shape
from evalkit.tiny.videos.questions import Asked, Choice, ask, choose
from evalkit.tiny.videos.world import World, draw


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training batch."""

    concepts: Tensor  # (B, M, C) weights over words
    cell: Tensor  # (B, M) long
    place: Tensor  # (B, M) long
    story: Tensor  # (B, 5, M) long: answers of `story.targets`
    tails: Tensor  # (B, Q, A) long, padded with 0
    word_at: Tensor  # (B, Q) long: index of the question mark in its tail
    words: Tensor  # (B, Q, V) target shares over tokens at the question mark
    reply_at: Tensor  # (B, Q) long: index of the token after which the letter comes; 0 without options
    letter: Tensor  # (B, Q) long: the letter's token id
    options_at: Tensor  # (B, Q, 4) long: index of each option's word; 0 without options
    marks: Tensor  # (B, Q, 4) long: what is to be said at each option's word
    kinds: list[list[str]]
    worlds: list[World]
    shown: list[np.ndarray]  # (cells,) dense cell numbers shown
    cells: int  # shown
    dense: int  # sampled


def make(shape: Shape, seed: int, vocabulary: int) -> Batch:
    """The batch of this seed."""
    rng = np.random.default_rng(seed)
    style = str(rng.choice(shape.formats))
    samples = [_sample(shape, style, rng) for _ in range(shape.videos)]
    length = max(len(t) for s in samples for t in s["tails"])
    columns = {k: [s[k] for s in samples] for k in samples[0]}
    return Batch(
        concepts=torch.from_numpy(np.stack(columns["concepts"])),
        cell=torch.from_numpy(np.stack(columns["cell"])),
        place=torch.from_numpy(np.stack(columns["place"])),
        story=torch.from_numpy(np.stack(columns["story"])),
        tails=torch.tensor([[t + [0] * (length - len(t)) for t in tails] for tails in columns["tails"]]),
        word_at=torch.tensor(columns["word_at"]),
        words=_shares(columns["right"], vocabulary),
        reply_at=torch.tensor(columns["reply_at"]),
        letter=torch.tensor(columns["letter"]),
        options_at=torch.tensor(columns["options_at"]),
        marks=torch.tensor(columns["marks"]),
        kinds=columns["kinds"],
        worlds=columns["world"],
        shown=columns["shown"],
        cells=shape.cells,
        dense=shape.dense,
    )


def _sample(shape: Shape, style: str, rng: np.random.Generator) -> dict[str, Any]:
    seed = int(rng.integers(shape.seeds.start, shape.seeds.stop))
    world = draw(seed, objects=int(rng.integers(shape.objects[0], shape.objects[1] + 1)))
    times = symbols.moments(shape.dense)
    weights = symbols.weights(world, times)
    shown = _choose_cells(weights, shape, rng)
    visible = times.reshape(-1, 2)[shown].ravel()
    weights = weights[shown]
    picked = _choose_tokens(weights, shape, rng)
    asked = _choose_questions(world, visible, shape, rng)
    choices = [choose(a, int(rng.integers(4)), rng) for a in asked]
    cell, place = np.divmod(picked, GRID * GRID)
    concepts = weights.reshape(-1, weights.shape[-1])[picked]
    return {
        "concepts": concepts,
        "story": auxiliary_head.targets(world, concepts),
        "cell": cell,
        "place": place,
        "kinds": [a.kind for a in asked],
        "world": world,
        "shown": shown,
        **_tails(choices, style, shape.options),
    }


def _choose_cells(weights: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    busy = weights[:, :, symbols.MARKS].max((1, 2)) > 0.3
    order = np.argsort(rng.random(len(weights)) - 2 * (busy & (rng.random(len(weights)) < 0.97)))
    return np.sort(order[: shape.cells])


def _choose_tokens(weights: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    busy = weights[:, :, symbols.MARKS].max(2).ravel() > 0.3
    rank = rng.random(len(busy)) - 2 * (busy & (rng.random(len(busy)) < 0.97))
    if shape.single:
        shares = weights[:, :, symbols.THINGS].reshape(len(busy), -1)
        rank = rng.random(len(busy)) + 2 * busy
        rank[shares.argmax(0)[shares.max(0) > 0.3]] = -1
    return np.sort(np.argsort(rank)[: shape.tokens])


def _choose_questions(world: World, times: np.ndarray, shape: Shape, rng: np.random.Generator) -> list[Asked]:
    """Questions with every kind as likely as it is often named in `shape.kinds`."""
    pool: dict[str, list[Asked]] = {}
    for kind in shape.kinds:
        good = [
            a
            for a in ask(world, [kind])
            if kind == "scene" or symbols.seen(a.evidence, times) or rng.random() < shape.unseen
        ]
        if good:
            pool[kind] = good
    pool = pool or {k: found for k in shape.kinds if (found := ask(world, [k]))}
    kinds = [k for k in shape.kinds if k in pool]
    drawn = [kinds[i % len(kinds)] for i in rng.permutation(max(len(kinds), shape.questions))[: shape.questions]]
    return [pool[k][int(rng.integers(len(pool[k])))] for k in drawn]


def _tails(choices: list[Choice], style: str, options: bool) -> dict[str, Any]:
    words = prompts.words()
    if options:
        tails = [[*prompts.tail_ids(c, style), words["ABCD"[c.answer]]] for c in choices]
    else:
        tails = [prompts.question_ids(c.asked.text) for c in choices]
    mark, pairs = words["?"], list(zip(tails, choices, strict=True))
    return {
        "tails": tails,
        "word_at": [t.index(mark) for t in tails],
        "reply_at": [len(t) - 2 if options else 0 for t in tails],
        "letter": [words["ABCD"[c.answer]] if options else IGNORE for c in choices],
        "options_at": [[t.index(words[" " + o], t.index(mark)) if options else 0 for o in c.options] for t, c in pairs],
        "marks": [[words["ABCD"[k] if k == c.answer else "\n"] for k in range(4)] for c in choices],
        "right": [[words[" " + w] for w in c.asked.right] for c in choices],
    }


def _shares(right: list[list[list[int]]], vocabulary: int) -> Tensor:
    shares = torch.zeros(len(right), len(right[0]), vocabulary)
    for b, row in enumerate(right):
        for q, ids in enumerate(row):
            shares[b, q, ids] = 1 / len(ids)
    return shares
