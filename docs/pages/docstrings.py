"""Docstrings as what they are: plain text with indented equations and names between backticks."""

import re
import textwrap
from typing import NamedTuple

# An equation, and behind a gap the bracket that says where it is from.
SOURCED = re.compile(r"^(.*?\S)\s{2,}\(([^()]*(?:\([^()]*\)[^()]*)*)\)\.?$")


class Line(NamedTuple):
    """One line of an equation, and its source: "mHC, eq. 7", or "" where none is given."""

    text: str
    source: str


class Equation(NamedTuple):
    """Lines that stand indented in a docstring."""

    lines: tuple


class Paragraph(NamedTuple):
    """Running text in parts, (text, whether it is code); `item` where a dash stood before it."""

    parts: tuple
    item: bool = False


def blocks(docstring):
    """The paragraphs and equations of a docstring as `inspect.getdoc` gives it."""
    groups = [[]]
    for line in docstring.split("\n"):
        before = groups[-1]
        if not line.strip():
            groups.append([])
        elif line.startswith("- ") or (before and _indented(line) != _indented(before[0])):
            groups.append([line])
        else:
            before.append(line)
    return [_block(lines) for lines in groups if lines]


def _indented(line):
    return line.startswith("    ")


def _block(lines):
    if _indented(lines[0]):
        dedented = textwrap.dedent("\n".join(lines)).split("\n")
        return Equation(tuple(with_source(line) for line in dedented))
    text = " ".join(" ".join(lines).split())
    return Paragraph(inline(text.removeprefix("- ")), text.startswith("- "))


def with_source(line):
    """A line of an equation, parted from the bracket with its source."""
    found = SOURCED.match(line)
    return Line(found[1], found[2]) if found else Line(line.rstrip(), "")


def inline(text):
    """Text in parts: what stands between single backticks is code."""
    parts = re.split(r"`([^`]+)`", text)
    return tuple((part, i % 2 == 1) for i, part in enumerate(parts) if part)
