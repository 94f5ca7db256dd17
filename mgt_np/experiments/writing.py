"""Write a result: figure, rows, provenance; lay out the claims table."""

import csv
import io
import json
import textwrap
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mgt_np import plotting
from mgt_np.data.files import write_whole


def write(result, claims, figure, folder):
    """Write `<name>.png`, `.csv` and `.json` into `folder`, each whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        **result.provenance,
        "claims": [asdict(claim) for claim in claims],
        "arrays": {name: _plain(array) for name, array in result.arrays.items()},
    }
    files = {
        "csv": _csv(result.rows),
        "json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(),
        "png": plotting.as_png(figure),
    }
    for suffix, data in files.items():
        write_whole(folder / f"{result.name}.{suffix}", data)


def _csv(rows):
    """One line a row under the column names, floats to 10 digits."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(rows[0])
    for row in rows:
        lines.writerow(format(v, ".10g") if isinstance(v, float) else v for v in row.values())
    return text.getvalue().encode()


def _plain(array):
    """Nested lists, with null for what JSON cannot hold."""
    array = np.asarray(array, dtype=np.float64)
    return np.where(np.isfinite(array), array, None).tolist()


def claims_table(claims, width=100):
    """Return the claims as text, at most `width` columns wide: one row a claim, cells wrapped."""
    titles = ("claim", "source", "measured", "figure", "verdict")
    shares = (0.24, 0.14, 0.30, 0.14, 0.18)
    widths = [int(share * (width - 3 * (len(titles) - 1))) for share in shares]
    rule = "─┼─".join("─" * w for w in widths)
    lines = [" │ ".join(title.ljust(w) for title, w in zip(titles, widths, strict=True))]
    for figure, claim in claims:
        cells = (claim.claim, claim.source, claim.measured, figure, claim.verdict)
        wrapped = [textwrap.wrap(cell, w) or [""] for cell, w in zip(cells, widths, strict=True)]
        lines.append(rule)
        for i in range(max(map(len, wrapped))):
            parts = [cell[i] if i < len(cell) else "" for cell in wrapped]
            row = " │ ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
            lines.append(row.rstrip())
    return "\n".join(lines)
