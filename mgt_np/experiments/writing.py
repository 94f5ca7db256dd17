"""Write a result: figure, rows, provenance; lay out the tables of claims."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import textwrap
from dataclasses import asdict
from pathlib import Path

from mgt_np import plotting
from mgt_np.data.files import write_whole

from .claims import judge
from .experiment import Result
from .rows import Rows


def judged(experiment, result):
    """The verdicts on all claims of an experiment."""
    return [judge(claim, result) for claim in experiment.claims(result.settings)]


def write(experiment, result, folder):
    """Judge, draw and write `<name>.png`, `.csv` and `.json` into `folder`; return the verdicts.

    All three are made before any is renewed.
    """
    folder = Path(folder)
    verdicts = judged(experiment, result)
    rows = as_csv(result.rows)
    record = {
        **result.provenance,
        "sha256": hashlib.sha256(rows).hexdigest(),
        "claims": [asdict(each) for each in verdicts],
    }
    files = {
        "csv": rows,
        "json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(),
        "png": plotting.as_png(experiment.plot(result, verdicts)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_together({folder / f"{result.name}.{suffix}": data for suffix, data in files.items()})
    return verdicts


def _write_together(files):
    """Renew some files: all of them are on the disk before the first takes its name."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, data in files.items():
            parts[path].write_bytes(data)
        for path in files:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a directory")
        for path in files:
            os.replace(parts[path], path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(next(iter(files)).parent)) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def as_csv(rows):
    """One line a row under the column names, in the digits of the store."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(rows[0])
    lines.writerows(row.values() for row in rows)
    return text.getvalue().encode()


def read_csv(path):
    """The rows of a file that was written with `as_csv`."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return Rows(
            {name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)
        )


def read_result(experiment, settings, folder):
    """The result that was written into `folder`; None where there is none of these settings.

    Rows that are not those of the record, as after a kill between two files, are none.
    """
    path = Path(folder) / f"{experiment.name}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["settings"] != json.loads(json.dumps(asdict(settings))):
            return None
        if (
            record.pop("sha256")
            != hashlib.sha256(path.with_suffix(".csv").read_bytes()).hexdigest()
        ):
            return None
        rows = read_csv(path.with_suffix(".csv"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Result(
        experiment.name, settings, rows, {k: v for k, v in record.items() if k != "claims"}
    )


def _number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def claims_table(claims, width=100):
    """Return verdicts as text, at most `width` columns wide: one row a claim, cells wrapped.

    `claims` are pairs of a figure's name and a verdict.
    """
    titles = ("claim", "source", "criterion", "measured", "figure", "verdict")
    shares = (0.20, 0.13, 0.12, 0.27, 0.12, 0.16)
    room = width - 3 * (len(titles) - 1)
    pairs = zip(titles, shares, strict=True)
    widths = [max(len(title), int(share * room)) for title, share in pairs]
    widths[3] -= max(0, sum(widths) - room)  # the widest gives way to the titles
    rule = "─┼─".join("─" * w for w in widths)
    lines = [" │ ".join(title.ljust(w) for title, w in zip(titles, widths, strict=True))]
    for figure, each in claims:
        columns = (each.claim, each.source, each.criterion, each.measured, figure, each.verdict)
        wrapped = [textwrap.wrap(text, w) or [""] for text, w in zip(columns, widths, strict=True)]
        lines.append(rule)
        for i in range(max(map(len, wrapped))):
            parts = [text[i] if i < len(text) else "" for text in wrapped]
            row = " │ ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
            lines.append(row.rstrip())
    return "\n".join(lines)


def findings(claims):
    """The claims that are marked for the README as a Markdown table."""
    lines = ["| claim | source | measured | verdict |", "| --- | --- | --- | --- |"]
    for figure, each in claims:
        if each.readme:
            cells = (each.claim, each.source, each.measured, each.verdict)
            *texts, verdict = (text.replace("|", "\\|") for text in cells)
            lines.append(f"| {' | '.join(texts)} | [{verdict}](figures/{figure}) |")
    return "\n".join(lines)


BEGIN, END = "<!-- findings: begin -->", "<!-- findings: end -->"


def write_findings(path, claims=None):
    """Renew the table of findings in a Markdown file, between its two marks.

    Without `claims` the file is only read. Raises ValueError unless it is UTF-8 and has the marks
    once, one below the other.
    """
    path = Path(path).resolve()
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8 in {path}: {error}") from None
    end = "\r\n" if "\r\n" in text else "\n"
    pattern = re.compile(f"({re.escape(BEGIN)})[ \t]*\r?\n.*?({re.escape(END)})", re.DOTALL)
    table = findings(claims or []).replace("\n", end)
    renewed, n = pattern.subn(lambda found: f"{found[1]}{end}{table}{end}{found[2]}", text)
    if n != 1:
        raise ValueError(f"expected {BEGIN} and below it {END} once in {path}, got {n} such pairs")
    if claims is not None:
        write_whole(path, renewed.encode())
