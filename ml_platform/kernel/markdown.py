"""Markdown that no value can break: what people named, or wrote as a reason, stays text."""

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)")  # within a word an underscore means nothing
_ENTITY = re.compile(r"&(?=#?\w+;)")


def text(value: object) -> str:
    """A value as one line of plain text: no markup of Markdown or HTML that it holds has any effect."""
    line = " ".join(str(value).split())
    plain = _ENTITY.sub("&amp;", line).replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"\\{found.group()}", plain)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose cells are plain text; without rows it is the word `none`."""
    cells = [[text(cell) for cell in row] for row in rows]
    if not cells:
        return "none"
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str) -> str:
    """Text as a block that nothing in it can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
