"""The documents of the repository, and the commands in them.

A fenced block of shell commands is really run, unless its first line says what it needs (`# needs: weights, a GPU`);
then each command is held against the program that it calls: settings compose, options parse, targets exist.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS = {"network", "weights", "benchmark data", "a GPU", "minutes", "run folders", "your files", "an extra"}
PATTERNS = ("*.md", "docs/*.md", "methods/*.md", "results/README.md", "perf/RESULTS.md", "evalkit/tiny/*/README.md")
PAGES = sorted(file.relative_to(ROOT).as_posix() for pattern in PATTERNS for file in ROOT.glob(pattern))


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str

    @property
    def needs(self) -> set[str]:
        """What its first line says; empty: nothing, so it is really run."""
        found = re.match(r"# needs: (.+)\n", self.text)
        return set(found[1].split(", ")) if found else set()

    @property
    def commands(self) -> list[list[str]]:
        """Its commands as lists of words; continued lines are joined, comments left out, `a && b` is two commands."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = (shlex.split(line, comments=True) for line in lines)
        return [part for line in words for part in _parts(line) if part]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _parts(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == "&&":
            yield part
            part = []
        else:
            part.append(word)
    yield part


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page without its fenced blocks, which end at a fence of the same indentation."""
    return re.sub(r"^( *)```.*?^\1```$", "", text(page), flags=re.S | re.M)


def blocks(page: str, *languages: str) -> list[Block]:
    found = re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text(page), re.S | re.M)
    return [
        Block(page, text(page)[: m.start()].count("\n") + 1, m[2], re.sub(rf"^{m[1]}", "", m[3], flags=re.M))
        for m in found
        if m[2] in languages
    ]


def inline_commands(page: str) -> list[list[str]]:
    """Commands in running text: code spans that start with a program and its arguments."""
    spans = re.findall(r"`((?:python|make|pip|accelerate launch) [^`]+)`", prose(page))
    return [shlex.split(span.replace("\n", " ")) for span in spans if "…" not in span]


def anchors(page: str) -> set[str]:
    """Fragments by which headings are linked, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
