"""A report as text and as JSON."""

import textwrap

WIDTH = 100


def text(report):
    """Return a table with, for each function, the verdict, its reason and a line to paste."""
    lines = []
    for row in report.rows.values():
        worst = max(row.worst.values(), default=None)
        size = "" if worst is None else f"worst {_number(worst)} × rounding"
        cases = _count(row.cases, "case") if row.cases else ""
        lines.append(f"{row.function:28} {cases:>8}  {size:26} {_verdict(row)}")
        lines += [f"    {line}" for said in _details(row) for line in _wrapped(said)]
    n_wrong = sum(not row.ok for row in report.rows.values())
    lines.append(f"{_count(len(report.rows), 'function')} compared, {n_wrong} wrong")
    return "\n".join(lines)


def _count(n, what):
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _wrapped(said):
    """The lines of what is said; a line to paste stays whole, and so does the id of a case."""
    if said.startswith("again: "):
        return [said]
    return textwrap.wrap(said, WIDTH - 4, break_on_hyphens=False, break_long_words=False)


def _number(x):
    return f"{x:.2g}" if x < 1e4 else f"{x:.0e}"


def _verdict(row):
    said = row.verdict.replace("-", " ")
    if row.verdict == "right-following":
        return f"right, following {row.convention}"
    if row.verdict == "right":
        return said + (", gradients too" if row.gradients else "")
    return said if row.ok else said.upper()


def _details(row):
    if row.why:
        yield row.why
    if row.verdict in ("wrong", "not-finite"):
        if row.explanations:
            first, *others = row.explanations
            yield "; ".join(f"{r.says} ({r.name})" for r in first)
            yield "Change: " + "; ".join(r.change for r in first) + "."
            for other in others[:3]:
                yield "or, which no case here tells apart: " + "; ".join(r.says for r in other)
        elif row.symptoms or not row.why:
            yield from ["not named.", *row.symptoms]
    if not row.ok and row.shows:
        hidden = f"; hidden on {', '.join(row.hidden)}" if row.hidden else ""
        yield f"shows on {', '.join(row.shows)}{hidden}"
        yield f'again: mgt_np.crosscheck.case("{row.shows[0]}").run(yours.{row.function})'


def as_json(report):
    """Return a report in the fixed form "mgt-np-compare", version 1."""
    return {
        "format": "mgt-np-compare",
        "version": 1,
        "rows": [
            {
                "function": row.function,
                "cases": row.cases,
                "worst": {dtype: _finite(x) for dtype, x in row.worst.items()},
                "verdict": row.verdict,
                "readings": _readings(row),
                "symptoms": [*([row.why] if row.why else []), *row.symptoms],
            }
            for row in report.rows.values()
        ],
    }


def _finite(x):
    return float(f"{min(x, 1e300):.3g}")


def _readings(row):
    if not row.explanations:
        return []
    first, *others = row.explanations
    found = [_as_json(r) for r in first]
    if others:
        found[-1]["or"] = [[_as_json(r) for r in other] for other in others]
    return found


def _as_json(reading):
    return {
        "name": reading.name,
        "class": reading.bug,
        "says": reading.says,
        "change": reading.change,
    }
