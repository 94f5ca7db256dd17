"""What a wrong result looks like where no reading explains it."""

import numpy as np

from .search import WRONG


def symptoms(trials):
    """Return sentences on which cases fail, and where in them the error sits."""
    ratios = {t.case.id: t.ratio(t.reference, list(t.reference)) for t in trials}
    failing = [t for t in trials if ratios[t.case.id] > WRONG]
    passing = [t for t in trials if ratios[t.case.id] <= WRONG]
    found = []
    shared = set.intersection(*(set(t.case.tags) for t in failing)) if failing else set()
    telling = shared - {tag for t in passing for tag in t.case.tags}
    for tag in sorted(telling):
        found.append(f"wrong in each case tagged {tag!r}, right in all others")
    if failing:
        found += _where(failing[0])
    return found


def _where(trial):
    """Where the error of a case sits: in which result, at which index, in how much of it."""
    said = []
    for name, theirs in trial.theirs.items():
        ours, scale = trial.reference[name], trial.scales[name]
        off = np.abs(theirs - ours) > WRONG * scale
        if not off.any():
            continue
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
        share = f"{int(off.sum())} of {off.size} elements of {name} are wrong, first {list(first)}"
        said.append(f"{trial.case.id}: {share}")
        if off.ndim > 1 and off.shape[0] > 1 and not off[0].any():
            said.append(f"{name} is right for the first element of the batch, wrong behind it")
        if off.ndim > 2 and off.shape[1] > 1 and not off[:, 0].any():
            said.append(f"{name} is right for the first token, wrong behind it")
    return said
