"""The formulas of lessons and their sheets."""

import re

import nbformat


def formulas_of(text):
    """Each formula, and whether it stands on lines of its own."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    displayed = re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL)
    rest = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", rest)
    return [(f, True) for f in displayed] + [(f, False) for f in inline]


def texts_of(path):
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def formulas_in(path):
    return [formula for text in texts_of(path) for formula in formulas_of(text)]
