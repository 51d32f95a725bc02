"""How sure a model is of the right option: a difference of log-probabilities at the first token of its reply."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from evalkit.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

LetterIds = tuple[tuple[int, ...], ...]  # of A, B, …: ids of the tokens with which a reply may begin to say the letter
DECIMALS = 4


def letter_ids(tokenizer: Any) -> LetterIds:
    """The first token of each capital letter as the tokenizer encodes it alone ("A") and after a space (" A").

    A token with which several letters begin, such as a lone space, says none of them and is left out. () without a
    tokenizer.
    """
    if tokenizer is None:
        return ()
    spelled = [{_first(tokenizer, form) for form in (letter, f" {letter}")} for letter in LETTERS]
    uses = Counter(token for own in spelled for token in own)
    return tuple(tuple(sorted(token for token in own if uses[token] == 1)) for own in spelled)


def _first(tokenizer: Any, text: str) -> int:
    return int(tokenizer(text, add_special_tokens=False)["input_ids"][0])


def margin(logits: Tensor, ids: LetterIds, gold: str, options: int) -> float | None:
    """Log-probability of the right letter minus that of the best wrong one, in nats, rounded to 4 decimals.

    `logits` (V,) are the model's own, before anything that generation_config.json does to them. A letter's probability
    is the sum over its `ids`; what all tokens have in common, the normalization, cancels. None where there is no such
    thing: no right letter among the first `options`, fewer than two of them, or a letter without an id.
    """
    own = ids[:options]
    place = LETTERS.find(gold) if len(gold) == 1 else -1
    if options < 2 or len(own) < options or not 0 <= place < options or not all(own):
        return None
    # one transfer from the device for all of them
    values = iter(logits[[token for letter in own for token in letter]].float().tolist())
    scores = [_log_sum_exp([next(values) for _ in letter]) for letter in own]
    right = scores.pop(place)
    return round(right - max(scores), DECIMALS)


def _log_sum_exp(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
