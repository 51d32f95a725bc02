"""The published readers: from a model's reply to the letter it names, "" where they find none.

Written from the description of the released code and tested against what that code returned, quirks included.
"""

from __future__ import annotations

import re

_ANSWER_IS = ("The best answer is", "The correct answer is", "The answer is", "The answer")
_BEST_OPTION, _CORRECT_OPTION = "The best option is", "The correct option is"
_BEST_ANSWER_COLON, _BEST_OPTION_COLON = "Best answer:", "Best option:"
# Two missing commas in the scorer that others copied: each of these pairs is one prefix, which no reply contains.
_FUSED = (*_ANSWER_IS, _BEST_OPTION + _CORRECT_OPTION, _BEST_ANSWER_COLON + _BEST_OPTION_COLON)
# ReTaKe's copy has the commas.
_APART = (*_ANSWER_IS, _BEST_OPTION, _CORRECT_OPTION, _BEST_ANSWER_COLON, _BEST_OPTION_COLON)
# The official scorer's list goes on after the second pair, so that one fuses only those two.
_OFFICIAL = (*_FUSED, "Answer:", "Option:", "The correct answer", "The correct option")


def videomme_official(text: str) -> str:
    """Video-MME's own scorer: the first capital A to D once its prefixes are gone, the one of "Based" too."""
    return _first_capital(text, _OFFICIAL, "ABCD")


def videomme_flash(text: str) -> str:
    """VideoChat-Flash's and XComp's scorer for Video-MME: an older copy that knows no "Answer:"."""
    return _first_capital(text, _FUSED, "ABCD")


def retake(text: str) -> str:
    """ReTaKe's only reader: as Video-MME's, with A to G and another list of prefixes."""
    return _first_capital(text, _APART, "ABCDEFG")


def mlvu_official(text: str) -> str:
    """MLVU's own reader: the one character before the first ")"; without one the whole reply must be the letter."""
    text = text.strip()
    end = text.find(")")
    return _letter(text if end < 0 else text[max(0, end - 1) : end])


def lvbench_official(text: str) -> str:
    """LVBench's own reader: first character of the first word, after "(" and before ")"."""
    text = text.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    return _letter(text[:1])


def flash(text: str) -> str:
    """VideoChat-Flash's reader for MLVU and LVBench: "B. text", else the first A to E standing alone, case ignored.

    So the article in "the man is a cook" is an A.
    """
    text = text.strip()
    if match := re.match(r"([A-E])\.\s*.+$", text, re.IGNORECASE):
        return match[1].upper()
    match = re.search(r"\b[A-E]\b", _without_punctuation(text.replace("\n", " ").replace("\t", " ")), re.IGNORECASE)
    return match[0].upper() if match else ""


def _first_capital(text: str, prefixes: tuple[str, ...], letters: str) -> str:
    for prefix in prefixes:
        text = text.replace(prefix, "")
    match = re.search(f"[{letters}]", text)
    return match[0] if match else ""


def _letter(text: str) -> str:
    return text if len(text) == 1 and text in "ABCDEFG" else ""


_MARKS = ';/[]"{}()=+\\_->' + "<@`,?!"
_PERIODS = 32  # their count argument is a flag of this value: later periods stay


def _without_punctuation(text: str) -> str:
    """A mark next to a space anywhere in the text vanishes everywhere, else it becomes a space; periods vanish."""
    grouped = re.search(r"\d,\d", text) is not None  # a number such as 1,000: then every mark vanishes
    cleaned = text
    for mark in _MARKS:
        beside_space = mark + " " in text or " " + mark in text
        cleaned = cleaned.replace(mark, "" if grouped or beside_space else " ")
    return re.sub(r"\.(?!\d)", "", cleaned, count=_PERIODS)
