"""Readers of replies: the published table of what each makes of a reply, and what the released code returned."""

from __future__ import annotations

import json

import pytest

from evalkit.data.protocols import letters

READERS = (
    letters.videomme_official,
    letters.retake,
    letters.flash,
    letters.mlvu_official,
    letters.lvbench_official,
)
# What the original functions returned, one letter per reader above; "-" is none. Where LVBench's own function gives a
# character that is no option ("T" of "The", "b"), it names none.
TABLE = [
    ("B", "BBBBB"),
    ("B.", "BBB-B"),
    ("The answer is B", "BBB--"),
    ("Answer: B", "BAB-A"),
    ("Based on the video, the answer is C.", "BBC-B"),
    ("Certainly! The correct option is (D).", "CCDDD"),
    ("b", "--B--"),
    ("E", "-EEEE"),
    ("The man is wearing a Blue shirt", "BBA--"),
]


@pytest.mark.parametrize(("reply", "expected"), TABLE)
def test_the_published_table(reply, expected):
    assert "".join(read(reply) or "-" for read in READERS) == expected


def test_the_table_tells_all_readers_apart():
    """Were two readers the same function, the table could not see them swapped."""
    assert len(set(zip(*(row for _, row in TABLE), strict=True))) == len(READERS)


@pytest.mark.parametrize("read", [*READERS, letters.videomme_flash])
@pytest.mark.parametrize("reply", ["", " \n\t ", "?", "ß é 漢", ")", "(", "()", "12"])
def test_nothing_to_read(read, reply):
    assert read(reply) == ""


@pytest.mark.parametrize(
    ("read", "reply", "letter"),
    [
        (letters.mlvu_official, "B) Red", "B"),  # what a model writes after the prefill "Best Option: ("
        (letters.mlvu_official, ") B", ""),  # the character before the first ")" is none
        (letters.mlvu_official, "(A) or (B)", "A"),
        (letters.mlvu_official, "Red)", ""),
        (letters.lvbench_official, "(C) Wait", "C"),
        (letters.lvbench_official, "Answer (C", "C"),
        (letters.videomme_official, "Option: C", "C"),
        (letters.videomme_flash, "Option: C", "C"),
        (letters.videomme_flash, "Answer: C", "A"),
        # the missing commas: "Best answer:" is no prefix of its own, so its B is read; ReTaKe's list has the commas
        (letters.videomme_official, "Best option: D", "B"),
        (letters.retake, "Best option: D", "D"),
        (letters.videomme_official, "The best option is D", "D"),
        (letters.flash, "B. A knife", "B"),
        (letters.flash, "b.\nbecause", "B"),
        (letters.flash, "it is B.C", ""),  # the period vanishes and glues the letters together
        (letters.flash, "." * 40 + "B.C", "B"),  # all but the first 32 periods stay
        (letters.flash, "x,A or B", "A"),
        (letters.flash, "1,000 A-B", ""),  # a number with a comma makes every mark vanish: "AB"
        (letters.flash, "10 A-B", "A"),
        (letters.flash, "snake_a", "A"),  # an underscore becomes a space
    ],
)
def test_quirks(read, reply, letter):
    assert read(reply) == letter


@pytest.fixture
def parsing(small_golden):
    return json.loads((small_golden / "xcomp" / "parsing" / "parsing.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", ["mlvu_mc", "lvbench", "mvbench"])
def test_what_videochat_flash_returned(parsing, task):
    """Per reply and right letter, whether their scorer took it for right."""
    replies, scored = parsing["responses"], parsing["mcq_acc"][task]
    assert len(replies) == len(scored) == 28
    for reply, outcome in zip(replies, scored, strict=True):
        assert [[gold, int(letters.flash(reply) == gold)] for gold, _ in outcome] == outcome, reply


def test_what_videochat_flash_read_for_videomme(parsing):
    returned = parsing["videomme_extract_characters_regex"]
    assert [letters.videomme_flash(reply) for reply in parsing["responses"]] == returned
    assert [letters.videomme_official(reply) for reply in parsing["responses"]] != returned  # negative control
