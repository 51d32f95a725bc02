"""Training batches: worlds, the visual tokens chosen from them, and several questions about each.

All questions of a video share its tokens in one sequence: prefix, video, then one suffix per question that attends to
the video and itself only. Each suffix has the positions it would have alone, as the engine lays them out.
Shape letters: B videos, M visual tokens, C concepts, Q questions a video, A tokens of a suffix, S = prefix + M + Q·A.
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
from evalkit.tiny.videos.questions import Choice, OpenQuestion, choose, questions_about
from evalkit.tiny.videos.world import World, draw


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training batch."""

    concepts: Tensor  # (B, M, C) weights over words
    cell: Tensor  # (B, M) long
    place: Tensor  # (B, M) long
    auxiliary_targets: Tensor  # (B, 5, M) long: those of `auxiliary_head.targets`
    suffix_ids: Tensor  # (B, Q, A) long, padded with 0
    word_at: Tensor  # (B, Q) long: index of the question mark in its suffix
    word_targets: Tensor  # (B, Q, V) target shares over tokens at the question mark
    reply_at: Tensor  # (B, Q) long: index of the token after which the letter comes; 0 without options
    letter: Tensor  # (B, Q) long: the letter's token id
    options_at: Tensor  # (B, Q, 4) long: index of each option's word; 0 without options
    option_targets: Tensor  # (B, Q, 4) long: the token to predict at each option's word
    kinds: list[list[str]]
    worlds: list[World]
    shown_cells: list[np.ndarray]  # (cells,) dense cell numbers shown
    cells: int  # shown
    dense: int  # sampled


def make(shape: Shape, seed: int, vocabulary: int) -> Batch:
    """The batch of this seed."""
    rng = np.random.default_rng(seed)
    style = str(rng.choice(shape.formats))
    samples = [_sample(shape, style, rng) for _ in range(shape.videos)]
    length = max(len(t) for s in samples for t in s["suffix_ids"])
    columns = {k: [s[k] for s in samples] for k in samples[0]}
    return Batch(
        concepts=torch.from_numpy(np.stack(columns["concepts"])),
        cell=torch.from_numpy(np.stack(columns["cell"])),
        place=torch.from_numpy(np.stack(columns["place"])),
        auxiliary_targets=torch.from_numpy(np.stack(columns["auxiliary_targets"])),
        suffix_ids=torch.tensor(
            [[t + [0] * (length - len(t)) for t in suffixes] for suffixes in columns["suffix_ids"]]
        ),
        word_at=torch.tensor(columns["word_at"]),
        word_targets=_shares(columns["correct"], vocabulary),
        reply_at=torch.tensor(columns["reply_at"]),
        letter=torch.tensor(columns["letter"]),
        options_at=torch.tensor(columns["options_at"]),
        option_targets=torch.tensor(columns["option_targets"]),
        kinds=columns["kinds"],
        worlds=columns["world"],
        shown_cells=columns["shown_cells"],
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
    questions = _choose_questions(world, visible, shape, rng)
    choices = [choose(a, int(rng.integers(4)), rng) for a in questions]
    cell, place = np.divmod(picked, GRID * GRID)
    concepts = weights.reshape(-1, weights.shape[-1])[picked]
    return {
        "concepts": concepts,
        "auxiliary_targets": auxiliary_head.targets(world, concepts),
        "cell": cell,
        "place": place,
        "kinds": [a.kind for a in questions],
        "world": world,
        "shown_cells": shown,
        **_suffixes(choices, style, shape.options),
    }


def _choose_cells(weights: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    has_event = weights[:, :, symbols.EVENTS].max((1, 2)) > 0.3
    order = np.argsort(rng.random(len(weights)) - 2 * (has_event & (rng.random(len(weights)) < 0.97)))
    return np.sort(order[: shape.cells])


def _choose_tokens(weights: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    has_event = weights[:, :, symbols.EVENTS].max(2).ravel() > 0.3
    rank = rng.random(len(has_event)) - 2 * (has_event & (rng.random(len(has_event)) < 0.97))
    if shape.single:
        shares = weights[:, :, symbols.THINGS].reshape(len(has_event), -1)
        rank = rng.random(len(has_event)) + 2 * has_event
        rank[shares.argmax(0)[shares.max(0) > 0.3]] = -1
    return np.sort(np.argsort(rank)[: shape.tokens])


def _choose_questions(world: World, times: np.ndarray, shape: Shape, rng: np.random.Generator) -> list[OpenQuestion]:
    """Questions whose kinds are drawn in proportion to how often `shape.kinds` names them."""
    pool: dict[str, list[OpenQuestion]] = {}
    for kind in shape.kinds:
        good = [
            a
            for a in questions_about(world, [kind])
            if kind == "scene" or symbols.sampled(a.evidence, times) or rng.random() < shape.unseen
        ]
        if good:
            pool[kind] = good
    pool = pool or {k: found for k in shape.kinds if (found := questions_about(world, [k]))}
    kinds = [k for k in shape.kinds if k in pool]
    drawn = [kinds[i % len(kinds)] for i in rng.permutation(max(len(kinds), shape.questions))[: shape.questions]]
    return [pool[k][int(rng.integers(len(pool[k])))] for k in drawn]


def _suffixes(choices: list[Choice], style: str, options: bool) -> dict[str, Any]:
    vocab = prompts.vocab()
    if options:
        suffixes = [[*prompts.suffix_ids(c, style), vocab["ABCD"[c.answer]]] for c in choices]
    else:
        suffixes = [prompts.question_ids(c.question.text) for c in choices]
    question_mark, pairs = vocab["?"], list(zip(suffixes, choices, strict=True))
    return {
        "suffix_ids": suffixes,
        "word_at": [t.index(question_mark) for t in suffixes],
        "reply_at": [len(t) - 2 if options else 0 for t in suffixes],
        "letter": [vocab["ABCD"[c.answer]] if options else IGNORE for c in choices],
        "options_at": [
            [t.index(vocab[" " + o], t.index(question_mark)) if options else 0 for o in c.options] for t, c in pairs
        ],
        "option_targets": [[vocab["ABCD"[k] if k == c.answer else "\n"] for k in range(4)] for c in choices],
        "correct": [[vocab[" " + w] for w in c.question.correct] for c in choices],
    }


def _shares(correct: list[list[list[int]]], vocabulary: int) -> Tensor:
    shares = torch.zeros(len(correct), len(correct[0]), vocabulary)
    for b, row in enumerate(correct):
        for q, ids in enumerate(row):
            shares[b, q, ids] = 1 / len(ids)
    return shares
