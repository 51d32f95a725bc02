"""What a visual token could know of the story so far: helper targets on the video itself.

A question teaches one word; these teach something at every token that shows an event. Without them the order of events
stays at chance on long videos. Only training uses them: the linear head is not part of the checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.model.packed_questions import IGNORE
from evalkit.tiny.model import WIDTH
from evalkit.tiny.training import symbols
from evalkit.tiny.videos.world import COLORS, DIGITS, MOST, OBJECTS, PLACES, World

LAYER = 3  # decoder layers below the head; those above are left for the question
CLEAR = 0.3  # weight from which on a token shows an event
# what is asked at a token, and how many answers there are
SIZES = {
    "thing": len(OBJECTS) + len(DIGITS),
    "color": len(COLORS),
    "place": len(PLACES),
    "before": len(OBJECTS) + 1,  # the object that was seen last before this event; the last answer: none
    "rank": MOST + 1,  # objects seen so far, this one included
}


def targets(world: World, weights: np.ndarray) -> np.ndarray:
    """Answers (5, M) int64, in the order of SIZES, at tokens in order of time with concept weights (M, C)."""
    out = np.full((len(SIZES), len(weights)), IGNORE, np.int64)
    busy = np.flatnonzero(weights[:, symbols.MARKS].max(1) > CLEAR)
    things, places = (weights[busy][:, among].argmax(1) for among in (symbols.THINGS, symbols.WHERE))
    colors = {OBJECTS.index(e.thing): COLORS.index(e.color) for e in world.objects}
    seen: list[int] = []
    for token, thing, place in zip(busy.tolist(), things.tolist(), places.tolist(), strict=True):
        is_object = thing < len(OBJECTS)
        if is_object and thing not in seen:
            seen.append(thing)
        earlier = [t for t in seen if t != thing]
        before = earlier[-1] if earlier else len(OBJECTS)
        out[:, token] = (thing, colors.get(thing, IGNORE), place, before, len(seen))
    return out


class AuxiliaryHead(nn.Module):
    """One linear head for all these questions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH)
        self.read = nn.Linear(WIDTH, sum(SIZES.values()))

    def forward(self, hidden: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """States (B, M, D) and answers (B, 5, M) -> loss, and which answers were right by question."""
        losses, right = [], {}
        parts = self.read(self.norm(hidden)).split(list(SIZES.values()), -1)
        for name, logits, answers in zip(SIZES, parts, wanted.unbind(1), strict=True):
            asked = answers != IGNORE
            if bool(asked.any()):
                losses.append(F.cross_entropy(logits[asked], answers[asked]))
                right[name] = logits[asked].argmax(-1) == answers[asked]
        return torch.stack(losses).sum() if losses else hidden.sum() * 0, right
