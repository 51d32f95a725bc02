"""`python -m evalkit.tiny.training.train`: train the small model, stage by stage; an interrupted run resumes."""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.atomic_write import replacing
from evalkit.tiny.model import grown, random_model, save
from evalkit.tiny.training import recipe

if TYPE_CHECKING:
    from evalkit.tiny.training.language import Scores
    from evalkit.tiny.training.recipe import Stage

SAVE_EVERY = 50
LOG_EVERY = 25
WARM_UP = 100


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m evalkit.tiny.training.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/train"), help="folder of checkpoints and the curve")
    parser.add_argument("--out", type=Path, help="folder for the finished checkpoint (default: WORK/model)")
    parser.add_argument("--seed", type=int, default=recipe.SEED)
    given = parser.parse_args()
    train(given.work, given.out or given.work / "model", seed=given.seed)


def train(work: Path, out: Path, *, seed: int) -> None:
    """All stages: checkpoints and curve.csv in `work`, the finished checkpoint folder in `out`."""
    work.mkdir(parents=True, exist_ok=True)
    run = Run(work, seed)
    for number, stage in enumerate(recipe.STAGES):
        run.stage(number, stage)
    save(run.plain, out)


class Run:
    """Model, optimiser and progress."""

    def __init__(self, work: Path, seed: int) -> None:
        from accelerate import Accelerator
        from accelerate.utils import set_seed

        from evalkit.tiny.training.auxiliary_head import AuxiliaryHead

        set_seed(seed)
        self.work, self.seed = work, seed
        self.accelerator = Accelerator()
        self.done = (0, 0)  # stage, steps of it
        self.state = work / "state.pt"
        self.auxiliary_head = AuxiliaryHead()
        self._use(random_model(seed, recipe.STAGES[0].layers))
        if self.state.exists():
            self._load()

    @property
    def plain(self) -> Any:
        """The model without accelerate's wrapper."""
        return self.accelerator.unwrap_model(self.model)

    def stage(self, number: int, stage: Stage) -> None:
        """The stage's remaining steps."""
        first = self.done[1] if self.done[0] == number else 0
        if self.done[0] > number:
            return
        if first == 0:
            self._use(grown(self.plain, self.seed, stage.layers))
        tally, begun = Tally(), time.monotonic()
        for step in range(first, stage.steps):
            self._step(number, stage, step, tally)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == stage.steps:
                self._log(stage.name, step + 1, time.monotonic() - begun, tally)
                tally, begun = Tally(), time.monotonic()
            if (step + 1) % SAVE_EVERY == 0:
                self._save((number, step + 1))
        self._save((number + 1, 0))

    def _step(self, number: int, stage: Stage, step: int, tally: Tally) -> None:
        from evalkit.tiny.training import stages

        share = step / max(1, stage.steps - 1)
        rate = stage.rate[0] + share * (stage.rate[1] - stage.rate[0])
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARM_UP)
        scores, kinds = stages.scores(self.plain, self.auxiliary_head, stage, self.seed * 10**9 + number * 10**6 + step)
        self.optimizer.zero_grad()
        self.accelerator.backward(scores.loss)
        self.accelerator.clip_grad_norm_([*self.model.parameters(), *self.auxiliary_head.parameters()], 1.0)
        self.optimizer.step()
        tally.add(scores, kinds)

    def _use(self, model: Any) -> None:
        """Train this model from here on, with a fresh optimiser."""
        import torch

        weights = [*model.parameters(), *self.auxiliary_head.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=1e-3, betas=recipe.BETAS, weight_decay=0.01)
        self.model, self.optimizer = self.accelerator.prepare(model.train(), optimizer)

    def _save(self, done: tuple[int, int]) -> None:
        import torch

        self.done = done
        parts = {"model": self.plain, "auxiliary_head": self.auxiliary_head, "optimizer": self.optimizer}
        with replacing(self.state) as fresh:
            torch.save({name: of.state_dict() for name, of in parts.items()} | {"done": list(done)}, fresh)

    def _load(self) -> None:
        import torch

        state = torch.load(self.state, weights_only=True)
        stage, steps = state["done"]
        layers = recipe.STAGES[stage if steps else stage - 1].layers
        self._use(grown(self.plain, self.seed, layers))
        self.plain.load_state_dict(state["model"])
        self.auxiliary_head.load_state_dict(state["auxiliary_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = (stage, steps)

    def _log(self, stage: str, step: int, seconds: float, tally: Tally) -> None:
        row = {"stage": stage, "step": step, "seconds": f"{seconds:.0f}", **tally.row()}
        print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
        path = self.work / "curve.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


class Tally:
    """Losses and accuracy since the last line of the curve."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.words_correct: list[bool] = []
        self.letters_correct: list[bool] = []
        self.by_kind: dict[str, list[bool]] = defaultdict(list)

    def add(self, scores: Scores, kinds: Iterable[Iterable[str]]) -> None:
        """Count one batch."""
        self.losses.append(float(scores.loss.detach()))
        correct = scores.word_correct.flatten().tolist()
        self.words_correct += correct
        self.letters_correct += [] if scores.letter_correct is None else scores.letter_correct.flatten().tolist()
        for kind, word in zip((k for row in kinds for k in row), correct, strict=True):
            self.by_kind[kind].append(word)
        for name, answers in scores.auxiliary_correct.items():
            self.by_kind[f"auxiliary.{name}"] += answers.tolist()

    def row(self) -> dict[str, str]:
        """Mean loss, accuracy of words and letters, accuracy of words by kind and of the auxiliary head."""
        kinds = " ".join(f"{k}:{_mean(v):.2f}" for k, v in sorted(self.by_kind.items()))
        return {
            "loss": f"{_mean(self.losses):.3f}",
            "word": f"{_mean(self.words_correct):.3f}",
            "letter": f"{_mean(self.letters_correct):.3f}",
            "kinds": kinds,
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    main()
