"""`python -m evalkit.tiny.training.validate CHECKPOINT`: accuracy on validation worlds by kind and cells."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from evalkit.tiny.training.shape import Shape
from evalkit.tiny.videos.world import VALIDATION_SEEDS

CELLS = (8, 16, 32, 64, 128)
MARKERS = "osD^v<>PX*h"


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(prog="python -m evalkit.tiny.training.validate", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS)
    parser.add_argument("--symbols", action="store_true", help="show word embeddings in place of frames")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw accuracy by cells, too")
    given = parser.parse_args()

    from transformers import Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration.from_pretrained(
        given.checkpoint, local_files_only=True, trust_remote_code=False
    ).eval()
    found: dict[int, dict[str, float]] = {}
    for cells in given.cells:
        found[cells] = accuracy(model, cells, given.videos, symbols=given.symbols)
        print(line(cells, found[cells]), flush=True)
    if given.plot is not None:
        plot(found, given.plot)


def line(cells: int, by_kind: dict[str, float]) -> str:
    """One line of the table."""
    return f"{cells:4d} cells  " + "  ".join(f"{kind} {share:.2f}" for kind, share in by_kind.items())


def plot(found: dict[int, dict[str, float]], path: Path) -> None:
    """Accuracy by cells, a line a kind; lines differ in marker and in colour."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    cells, last = sorted(found), found[max(found)]
    for kind, marker in zip(sorted(last, key=lambda kind: -last[kind]), MARKERS, strict=False):
        is_mean = kind == "all"
        shares = [100 * found[n][kind] for n in cells]
        axes.plot(
            cells, shares, marker=marker, label=kind, color="black" if is_mean else None, lw=2.5 if is_mean else 1.2
        )
    axes.axhline(25, color="grey", ls=":", lw=1)
    axes.annotate("chance", (cells[0], 26), color="grey")
    axes.set(xscale="log", xticks=cells, ylim=(0, 103), xlabel="cells of two frames", ylabel="right letters, percent")
    axes.set_xticks(cells, [str(n) for n in cells], minor=False)
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="kind, best first")
    with rc_context({"svg.hashsalt": "evalkit"}):  # the same numbers give the same file
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def accuracy(model: Any, cells: int, videos: int, *, symbols: bool = False) -> dict[str, float]:
    """Share of correct letters by kind and over all ("all": every kind weighs the same), on videos of `cells` cells."""
    import torch

    from evalkit.tiny.training import batches

    correct: dict[str, list[bool]] = defaultdict(list)
    shape = Shape(
        videos=4, questions=10, dense=cells, cells=cells, tokens=16 * cells, unseen=1.0, seeds=VALIDATION_SEEDS
    )
    for seed in range(-(-videos // shape.videos)):
        batch = batches.make(shape, seed, model.config.text_config.vocab_size)
        with torch.no_grad():
            letters_correct = _letters(model, batch, symbols)
        for kinds, letters in zip(batch.kinds, letters_correct, strict=True):
            for kind, letter in zip(kinds, letters, strict=True):
                correct[kind].append(letter)
    shares = {kind: sum(v) / len(v) for kind, v in sorted(correct.items())}
    return {"all": sum(shares.values()) / len(shares), **shares}


def _letters(model: Any, batch: Any, symbols: bool) -> list[list[bool]]:
    from evalkit.tiny.training import language, stages

    features = language.symbol_features(model, batch.concepts, 0.0) if symbols else stages.frame_features(model, batch)
    correct = language.run(model, features, batch).letter_correct
    assert correct is not None
    found: list[list[bool]] = correct.tolist()
    return found


if __name__ == "__main__":
    main()
