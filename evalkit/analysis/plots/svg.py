"""An SVG that can stand in a page beside others: ids of its own, no style sheet, a title and a description."""

from __future__ import annotations

from typing import Any
from xml.dom.minidom import Document, Element, parseString

_DEFAULTS = "stroke-linejoin: round; stroke-linecap: butt"  # of all that matplotlib draws


def standalone(element: bytes) -> bytes:
    """The same as a file."""
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + element + b"\n"


def inline(raw: bytes, prefix: str, title: str, description: str) -> bytes:
    """`raw` as matplotlib writes it, with `prefix` before every id."""
    page = parseString(raw)  # noqa: S318 – made by matplotlib in this process, its texts escaped
    root: Any = page.documentElement
    for name in ("metadata", "style"):  # a style sheet would hold for the whole page around it
        for element in root.getElementsByTagName(name):
            element.parentNode.removeChild(element)
    for element in root.getElementsByTagName("*"):
        _rename(element, prefix)
    root.setAttribute("style", _DEFAULTS)
    root.setAttribute("role", "img")
    root.setAttribute("aria-labelledby", f"{prefix}-title")
    first = root.firstChild
    root.insertBefore(_text(page, "title", title, id=f"{prefix}-title"), first)
    root.insertBefore(_text(page, "desc", description), first)
    return str(root.toxml()).encode()


def _rename(element: Element, prefix: str) -> None:
    for name, value in list(element.attributes.items()):
        if name == "id":
            element.setAttribute(name, f"{prefix}-{value}")
        elif name == "xlink:href":
            element.setAttribute(name, value.replace("#", f"#{prefix}-", 1))
        elif "url(#" in value:
            element.setAttribute(name, value.replace("url(#", f"url(#{prefix}-"))


def _text(page: Document, name: str, text: str, **attributes: str) -> Element:
    element = page.createElement(name)
    for key, value in attributes.items():
        element.setAttribute(key, value)
    element.appendChild(page.createTextNode(text))
    return element
