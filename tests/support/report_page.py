"""The report's page as text, and what a browser would make of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from evalkit.analysis.report.document import document
from evalkit.analysis.results import Results
from tests.support.report_runs import averages

if TYPE_CHECKING:
    from evalkit.runs.load import Run


class Page(HTMLParser):
    """What a browser would make of the page: elements, attributes, and texts by the element they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open:
            self.texts.setdefault(self._open[-1], []).append(" ".join(data.split()))


def page(runs: list[Run]) -> str:
    return document(Results(runs, averages), thumbnails_mb=0)


def summary(text: str) -> list[str]:
    """The four sentences of each question set, without markup."""
    return _items(text, "summary")


def lines(text: str) -> list[str]:
    """What is said of each question set's size, failures and achieved ratios, without markup."""
    return _items(text, "lines")


def _items(text: str, kind: str) -> list[str]:
    lists = re.findall(rf'<ul class="{kind}">(.*?)</ul>', text, re.DOTALL)
    found = [line for own in lists for line in re.findall(r"<li>(.*?)</li>", own, re.DOTALL)]
    return [" ".join(re.sub("<.*?>", "", line).split()) for line in found]


def tables(text: str) -> str:
    return " ".join(re.sub("<.*?>", " ", table) for table in re.findall(r"<table>.*?</table>", text, re.DOTALL))
