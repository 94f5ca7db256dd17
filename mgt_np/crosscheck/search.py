"""Which readings explain a wrong result? The smallest set that reproduces it in every case."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from . import noise
from .readings import generic, predict, steps_of
from .steps import Reading

RIGHT = 4.0  # times the scale of rounding: no more is right
WRONG = 16.0  # more is wrong; between, a dtype with more digits has to tell
OWN_SCALE = 300.0  # within this factor of the limit a reading is held to its own rounding
MOST = 4  # readings in one explanation
BEAM = 8

# What a reading raises on a case that does not admit it, such as a transpose of what is not square.
_NOT_ADMITTED = (ValueError, TypeError, IndexError, FloatingPointError, np.linalg.LinAlgError)


@dataclass
class Trial:
    """A case with what the other side made of it, in a dtype: all that readings are held to."""

    case: object
    dtype: str
    arrays: dict  # as the dtype has them
    theirs: dict
    reference: dict
    scales: dict

    def ratio(self, predicted, names, scales=None):
        """Return the largest error of these outputs in units of the scale of rounding."""
        scales = self.scales if scales is None else scales
        return max(in_units(self.theirs[name], predicted[name], scales[name]) for name in names)


def _largest(y):
    y = np.abs(y)
    return float(np.max(y, initial=0.0, where=np.isfinite(y)))


def in_units(theirs, ours, scale):
    """Return the largest error in units of `scale`; ∞ for NaN on one side, or another shape."""
    if np.shape(theirs) != np.shape(ours):
        return math.inf
    if theirs.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        off = np.abs(theirs - ours)
    # NaN is equal to NaN here: a reading may be what makes it
    same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
    off = np.where(same, 0.0, np.where(np.isfinite(off), off, math.inf))
    worst = float(np.max(off))
    return 0.0 if worst == 0.0 else (worst / scale if scale > 0.0 else math.inf)


@dataclass(frozen=True)
class Explanation:
    """A set of readings, the worst ratio that it leaves, and the convention it starts from."""

    readings: tuple
    worst: float
    convention: str = ""


class Search:
    """A search over the readings of one function, on all its trials that are finite.

    base: readings that the other side declares; all others are searched beside them.
    """

    def __init__(self, trials, names, predictions=60_000, base=()):
        self.base = tuple(base)
        self.trials = sorted(trials, key=lambda t: -t.ratio(t.reference, names))
        self.names, self.left = names, predictions
        function = trials[0].case.function
        self.steps = steps_of(function)
        self.own = list(self.steps.readings)
        self.generic = [
            r
            for r in generic(function)
            if not r.axis.startswith("output ") or r.axis.removeprefix("output ") in names
        ]
        self.ratios, self.scales, self.moves = {}, {}, {}
        # Most sets fail in the first trial already: it should be one that takes little time.
        self.quickest = sorted(self.trials, key=self._cost)

    def worst(self, readings, fitted=None, stop=WRONG):
        """Return the worst ratio over the trials; at the first beyond `stop`, that one's."""
        worst = 0.0
        for trial in self.quickest:
            ratio = self._ratio(trial, readings, fitted)
            worst = max(worst, ratio)
            if worst > stop:
                break
        return worst

    def _cost(self, trial):
        """Whether the contract explains a trial, and about how much there is to compute."""
        size = sum(np.size(x) for x in trial.arrays.values() if x is not None)
        n_iters = trial.case.options.get("n_iters", 20)
        return trial.ratio(trial.reference, self.names) <= WRONG, size * n_iters

    def _ratio(self, trial, readings, fitted):
        key = (trial.case.id, frozenset(r.name for r in readings), *(fitted or {}).items())
        if key not in self.ratios:
            self.ratios[key] = self._computed_ratio(trial, readings, fitted)
        return self.ratios[key]

    def _computed_ratio(self, trial, readings, fitted):
        try:
            with np.errstate(all="ignore"):
                predicted = self._predict(trial.case, trial.arrays, readings, fitted)
                ratio = trial.ratio(predicted, self.names, self._scales(trial, predicted))
                if WRONG < ratio <= WRONG * OWN_SCALE:
                    scales = self._own_scales(trial, readings, fitted, predicted)
                    ratio = trial.ratio(predicted, self.names, scales)
        except _NOT_ADMITTED:
            return math.inf
        return ratio

    def _scales(self, trial, predicted):
        """The scales of the contract's results, or the rounding of what is predicted if larger."""
        unit = noise.UNIT[trial.dtype]
        return {
            name: max(trial.scales[name], unit * _largest(predicted[name])) for name in self.names
        }

    def _own_scales(self, trial, readings, fitted, predicted):
        key = (trial.case.id, tuple(r.name for r in readings), *(fitted or {}).items())
        if key not in self.scales:
            made = lambda arrays: self._predict(trial.case, arrays, readings, fitted)  # noqa: E731
            own = noise.scale(made, trial.arrays, predicted, trial.dtype)
            self.scales[key] = {name: max(own[name], trial.scales[name]) for name in own}
        return self.scales[key]

    def _predict(self, case, arrays, readings, fitted=None):
        """The outputs of a case by these readings, beside what is declared on other axes."""
        self.left -= 1
        axes = {*(r.axis for r in readings), *(fitted or {})}
        declared = (r for r in self.base if r.axis not in axes)
        return predict(case, arrays, (*declared, *readings), fitted)

    def late(self):
        """Say whether the search has come to its end: by predictions, the same on any machine."""
        return self.left <= 0

    def explanations(self):
        """Return the smallest explanations, equal in size; none where the search finds none.

        Of those that are one function in other words, the first stands for all.
        """
        return self._different([self._needed(e) for e in self._smallest()])

    def single(self):
        """Return the single readings that explain all, none if there is none."""
        own = self._first([(r,) for r in self.own])
        return self._different(own or self._first([(r,) for r in self.generic]))

    def _needed(self, explanation):
        """An explanation without the readings that it explains as much without."""
        readings = explanation.readings
        for reading in explanation.readings:
            fewer = tuple(r for r in readings if r is not reading)
            if fewer and (worst := self.worst(fewer)) <= WRONG:
                readings, explanation = fewer, Explanation(fewer, worst, explanation.convention)
        return explanation

    def _smallest(self):
        if found := self._first([(r,) for r in self.own]):
            return found
        if found := self._first([(r,) for r in self.generic]):
            return found
        if found := self._conventions():
            return found
        if found := [e for fit in self.steps.fits if (e := self._fit(fit)) is not None]:
            return found[:1]
        return self._larger()

    def _different(self, found):
        """Drop what gives the same results as an explanation before it, on other numbers too."""
        kept, seen = [], []
        for explanation in sorted(found, key=_generic_ones):
            results = [y for t in self.trials for y in self._redrawn(t, explanation.readings)]
            if not any(_alike(results, others) for others in seen):
                kept.append(explanation)
                seen.append(results)
        return kept

    def _redrawn(self, trial, readings):
        """The results of a case by these readings, for other numbers of the same size."""
        rng = np.random.default_rng(7)
        arrays = {
            name: None if x is None else x * rng.uniform(0.5, 1.5, np.shape(x))
            for name, x in trial.arrays.items()
        }
        with np.errstate(all="ignore"):
            made = self._predict(trial.case, arrays, readings)
        return [made[name] for name in self.names]

    def _telling(self):
        """The readings that move some trial, one of each set that moves all trials alike."""
        kept, seen = [], []
        still = [y.tobytes() for y in self._made(())]
        for reading in [*self.own, *self.generic]:
            moved = self._made((reading,))
            self.moves[reading.name] = {
                i for i, (y, z) in enumerate(zip(moved, still, strict=True)) if y.tobytes() != z
            }
            plain = [t.reference[name] for t in self.trials for name in self.names]
            if not _alike(moved, plain) and not any(_alike(moved, other) for other in seen):
                kept.append(reading)
                seen.append(moved)
        return kept

    def _made(self, readings, trials=None):
        """All results of all trials by these readings, NaN where a trial does not admit them."""
        results = []
        for trial in self.trials if trials is None else trials:
            try:
                with np.errstate(all="ignore"):
                    made = self._predict(trial.case, trial.arrays, readings)
                results += [np.asarray(made[name]) for name in self.names]
            except _NOT_ADMITTED:
                results += [np.asarray(math.nan)] * len(self.names)
        return results

    def _off(self):
        """The places in `_made` of the results that are wrong."""
        places = [(trial, name) for trial in self.trials for name in self.names]
        return {i for i, (t, name) in enumerate(places) if t.ratio(t.reference, [name]) > WRONG}

    def _reach(self, readings, off):
        """Say whether each wrong result is moved by some of these readings."""
        return off <= set().union(*(self.moves.get(r.name, off) for r in readings))

    def _first(self, sets, convention=""):
        found = []
        for readings in sets:
            worst = self.worst(readings)
            if worst <= WRONG:
                found.append(Explanation(readings, worst, convention))
            if self.late():
                break
        return found

    def _conventions(self):
        found = []
        for name, choices in self.steps.centres.items():
            readings = self._of_choices(choices)
            if (worst := self.worst(readings)) <= WRONG:
                found.append(Explanation(readings, worst, name))
        return sorted(found, key=lambda e: len(e.readings))

    def _of_choices(self, choices):
        known = {(r.axis, r.value): r for r in self.own}
        return tuple(
            known.get((axis, value))
            or Reading(axis, value, "INPUT", f"{axis} is {value!r}", f"choose another {axis}")
            for axis, value in choices.items()
        )

    def _fit(self, fit, readings=()):
        """The value of one number that explains all: by a logarithmic grid, then golden section."""
        self_worst = lambda t: self.worst(readings, {fit.axis: math.exp(t)}, math.inf)  # noqa: E731
        grid = np.linspace(math.log(fit.low), math.log(fit.high), 33)
        scores = [self_worst(t) for t in grid]
        best = int(np.argmin(scores))
        if not math.isfinite(scores[best]):
            return None
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        t, _ = _golden(self_worst, low, high)
        # The search ends some digits before the rounding of float64: people write few digits.
        for digits in range(1, 7):
            value = float(f"{math.exp(t):.{digits}g}")
            worst = self.worst(readings, {fit.axis: value})
            if worst <= WRONG:
                break
        else:
            return None
        says = fit.says.format(value=f"{value:g}")
        return Explanation((*readings, Reading(fit.axis, value, fit.bug, says, fit.change)), worst)

    def _larger(self):
        """Sets of two and more: all pairs, then the best of each size grown by one reading."""
        every, singles = [*self.own, *self.generic], self._telling()
        centres = [(self._of_choices(c), name) for name, c in self.steps.centres.items()]
        for base, name in centres:  # one step from a convention
            grown = [(*(b for b in base if b.axis != r.axis), r) for r in every]
            if found := self._first(grown, name):
                return found
        sets, off = {}, self._off()
        for pair in itertools.combinations(singles, 2):
            if pair[0].axis == pair[1].axis or not self._reach(pair, off):
                continue
            worst = self.worst(pair)
            if worst <= WRONG:
                sets[pair] = worst
            if self.late():
                break
        if sets:
            return _fewest_generic([Explanation(pair, worst) for pair, worst in sets.items()])
        best = sorted(((self._score((r,)), (r,)) for r in singles), key=lambda x: x[0])[:BEAM]
        best += [(self._score(base), base) for base, _ in centres]
        for _ in range(MOST - 1):
            grown = {}
            for _, base in best:
                for r in singles:
                    if _fits(base, r) and not self.late():
                        readings = (*base, r)
                        grown.setdefault(frozenset(x.name for x in readings), readings)
            reaching = (s for s in grown.values() if self._reach(s, off))
            found = [Explanation(s, w) for s in reaching if (w := self.worst(s)) <= WRONG]
            if found:
                return _fewest_generic(found)
            scored = [(self._score(s), s) for s in grown.values() if not self.late()]
            best = sorted(scored, key=lambda x: x[0])[:BEAM]
            if self.late() or not best:
                break
        return []

    def _score(self, readings):
        """How far a set is from an explanation: the sum over trials of log ratios."""
        total = 0.0
        for trial in self.trials[:2]:
            ratio = self._ratio(trial, readings, None)
            total += 40.0 if not math.isfinite(ratio) else math.log10(max(ratio, 1.0))
        return total

    def partly(self):
        """Return the reading that takes most of the error away, if it takes a factor of 100."""
        before = self.worst((), stop=math.inf)
        found = [(self.worst((r,), stop=math.inf), (r,)) for r in [*self.own, *self.generic]]
        worst, readings = min(found, key=lambda x: x[0], default=(math.inf, ()))
        return Explanation(readings, worst) if worst * 100.0 <= before else None


def _fits(base, reading):
    return all(r.axis != reading.axis for r in base)


def _fewest_generic(found):
    least = min(map(_generic_ones, found))
    return [e for e in found if _generic_ones(e) == least]


def _generic_ones(explanation):
    return sum(" " in r.axis for r in explanation.readings)


def _alike(results, others):
    """Say whether two lists of results are equal to within rounding."""
    for y, z in zip(results, others, strict=True):
        if np.shape(y) != np.shape(z):
            return False
        with np.errstate(all="ignore"):
            off = np.abs(y - z) > 1e-12 * np.max(np.abs(z), initial=0.0)
        if np.any(off) or np.any(np.isnan(y) != np.isnan(z)):
            return False
    return True


def _golden(function, low, high, steps=40):
    """Return where a function of one number is least between two bounds, and its value there."""
    g = (math.sqrt(5.0) - 1.0) / 2.0
    a, b = high - g * (high - low), low + g * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(steps):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - g * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + g * (high - low)
            at_b = function(b)
    return (a, at_a) if at_a <= at_b else (b, at_b)
