"""What LaTeX would stumble over in a file of tables, found without one."""

from __future__ import annotations

import re


def flaws(text: str) -> list[str]:
    """Environments and braces that do not match, rows of other lengths than the table, bare special characters."""
    bare = re.sub(r"\\[&%$#_{}]", "", text.replace("\\\\", r"\cr "))
    return [*_nesting(bare), *_rows(bare), *_specials(bare)]


def _nesting(bare: str) -> list[str]:
    found, opened = [], []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", bare):
        if kind == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            found.append(rf"\end{{{name}}}")
    depths, depth = [0], 0
    for sign in re.findall("[{}]", bare):
        depth += 1 if sign == "{" else -1
        depths.append(depth)
    return found + opened + ["braces"] * (min(depths) < 0 or depth != 0) + ["dollars"] * (bare.count("$") % 2)


def _rows(bare: str) -> list[str]:
    found = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end\{tabular\}", bare, re.S):
        for line in body.splitlines():
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            if r"\cr" in line and line.count("&") + 1 - len(spans) + sum(spans) != len(columns):
                found.append(line)
            elif re.search(r"\\cr\s*[\[*]", line) or re.match(r"\s*[\[*]", line):
                found.append(line)  # read as options of the line end before it
    return found


def _specials(bare: str) -> list[str]:
    """`&` belongs between cells, `_` and `^` into mathematics."""
    words = re.sub(r"\\label\{[^}]*\}|\$[^$]*\$", "", bare)
    cells = re.sub(
        r"(\\begin\{tabular\}.*?\\end\{tabular\})", lambda found: found[0].replace("&", ""), words, flags=re.S
    )
    return re.findall(r"[&%#_^<>|\"].{0,9}", cells)
