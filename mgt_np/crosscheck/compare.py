"""A verdict on somebody else's functions: right, or wrong and how."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mgt_np import grad
from mgt_np.arrays.checks import one_of
from mgt_np.layers import MHC_CONVENTIONS

from . import noise
from .cases import CASES, cases_of
from .contract import CONTRACT, arguments, results
from .cuts import CUTS
from .other_side import (
    SECONDS,
    call,
    cotangents,
    float64_of_jax,
    libraries_for,
    library_named,
    rounded,
)
from .readings import predict, steps_of
from .search import RIGHT, WRONG, Search, Trial, in_units
from .steps import Reading
from .symptoms import symptoms

GOOD = ("right", "right-following", "right-in-float32-only", "skipped", "not-offered")
OWN = "this is the contract's own: what is declared does not hold"
# What these cases are about lies outside float16's range: 6e-8 to 65,504.
BEYOND_HALF = {"small", "small-sums", "low", "low-scores", "extreme", "offset", "stiff"}

VERDICTS = (
    *GOOD,
    "doubtful",
    "wrong",
    "gradient-wrong",
    "not-finite",
    "wrong-shape",
    "wrong-dtype",
    "wrong-device",
    "mutates-inputs",
    "not-deterministic",
    "raises",
)


@dataclass
class Row:
    """The verdict on one function.

    worst: by dtype, the largest error in units of the scale of rounding. explanations: sets of
    readings, each of which explains all cases; several are one class that no case tells apart.
    """

    function: str
    verdict: str
    cases: int = 0
    worst: dict = field(default_factory=dict)
    explanations: list = field(default_factory=list)
    symptoms: list = field(default_factory=list)
    why: str = ""
    shows: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    convention: str = ""
    gradients: bool = False

    @property
    def ok(self):
        return self.verdict in GOOD


@dataclass
class Report:
    """The rows of a comparison, by function."""

    rows: dict

    @property
    def ok(self):
        return all(row.ok for row in self.rows.values())

    def __getitem__(self, function):
        return self.rows[function]

    def __str__(self):
        from .report import text

        return text(self)

    def to_json(self):
        from .report import as_json

        return json.dumps(as_json(self), ensure_ascii=False, indent=1)


def compare(
    target,
    *,
    adapter=None,
    follows=None,
    dtypes=("float64", "float32"),
    only=None,
    skip=None,
    gradients=True,
    seconds=SECONDS,
    progress=None,
    **given,
):
    """Return a `Report` on the functions of a module, or of a dict of functions by name.

    With `adapter`, the target is a layer of another library, a live module or its state_dict, and
    `given` are its inputs and options by their own names. A path is that of a file of vectors.

    follows: what the target means to do otherwise, {axis: value} or the name of a convention of
    `MHC_CONVENTIONS`; it is right if that holds. dtypes: those to try that its library has. only:
    a name, or names. skip: {function, or case id: reason}. seconds: how long a call may take.
    progress: called with each function's name and how many there are. Raises ValueError for names
    that are not in the contract, or a target that offers none of them.
    """
    if adapter is not None:
        from .adapted import compare_adapted

        return compare_adapted(target, adapter, **given)
    if given:
        raise TypeError(f"compare: expected inputs beside an adapter alone, got {min(given)}")
    if isinstance(target, str | os.PathLike):
        from .vectors import compare_file

        return compare_file(target, follows=follows, only=only, progress=progress)
    offered = _functions(target)
    chosen = [only] if isinstance(only, str) else list(only or CONTRACT)
    for name in chosen:
        one_of(CONTRACT, **{"the function": name})
    for dtype in dtypes:
        one_of(noise.UNIT, dtype=dtype)
    skip = dict(skip or {})
    for name in skip:
        if name not in CASES:
            one_of(CONTRACT, **{"what to skip": name})
    if not any(name in offered for name in chosen):
        raise ValueError(
            f"compare: expected functions of the contract ({', '.join(CONTRACT)}), got none"
        )
    rows = {}
    for name in chosen:
        if name not in offered:
            if only is not None:
                rows[name] = Row(name, "not-offered", why="the target has no such function")
            continue
        if progress is not None:
            progress(name, sum(n in offered for n in chosen))
        if name in skip:
            rows[name] = Row(name, "skipped", why=skip[name])
            continue
        with float64_of_jax():
            rows[name] = _compare_one(
                name, offered[name], target, follows, dtypes, skip, gradients, seconds
            )
    return Report(rows)


def _functions(target):
    if isinstance(target, Mapping):
        found = dict(target)
        for name in found:
            if name != "ARRAYS":
                one_of(CONTRACT, **{"the function": name})
    else:
        found = {name: getattr(target, name, None) for name in CONTRACT}
    return {name: f for name, f in found.items() if callable(f)}


def _compare_one(name, function, target, follows, dtypes, skip, gradients, seconds):
    cases = [case for case in cases_of(name) if case.id not in skip]
    if not cases:
        return Row(name, "skipped", why="each of its cases is to be skipped")
    library, row = _library_for(function, target, cases[0], _declared(name, follows), seconds)
    if row is not None:
        return row

    def ask(case, dtype, reference):
        options = {"gradients": gradients, "seconds": seconds}
        return call(function, case, dtype, library, reference, **options)

    theirs = [dtype for dtype in dtypes if dtype in library.dtypes]
    if not theirs:
        return Row(name, "skipped", why=f"{library.name} has no {', no '.join(dtypes)}")
    return verdict_on(name, cases, theirs, ask, follows)


def verdict_on(name, cases, dtypes, ask, follows=None):
    """Return the `Row` of a function, whose `Answer` to a case `ask(case, dtype, reference)` is."""
    base = _declared(name, follows)
    mhc = name in ("mhc_coefficients", "mhc_connection")
    other = isinstance(follows, str) and follows in MHC_CONVENTIONS and follows != "paper"
    if mhc and other and not base:
        why = f"no case has the parameters of the convention {follows}"
        return Row(name, "skipped", len(cases), why=why)
    trials, found_gradients, odd = {}, {}, []
    for dtype in dtypes:
        trials[dtype] = []
        for case in cases:
            if dtype == "float16" and BEYOND_HALF.intersection(case.tags):
                continue
            arrays = rounded(case, dtype)
            reference = reference_of(case, arrays, base)
            answer = ask(case, dtype, reference)
            if answer.verdict:
                why = f"{case.id} in {dtype}: {answer.why}"
                return Row(name, answer.verdict, len(cases), why=why, shows=[case.id])
            scales = scales_of(case, arrays, reference, dtype, base)
            trial = Trial(case, dtype, arrays, answer.outputs, reference, scales)
            finite = all(
                np.isfinite(y).all() or not np.isfinite(reference[out]).all()
                for out, y in answer.outputs.items()
            )
            if finite:
                trials[dtype].append(trial)
            else:
                odd.append(trial)
            found_gradients[case.id, dtype] = answer.gradients
    return _verdict(name, cases, trials, odd, found_gradients, base, follows)


def reference_of(case, arrays, base):
    """Return the layer's own results; by readings, where the target declares some."""
    if base:
        return predict(case, arrays, base)
    checked = CONTRACT[case.function]
    return results(checked, checked.function(**arguments(checked, arrays, case.options)))


_SCALES = {}


def scales_of(case, arrays, reference, dtype, base):
    key = case.id, dtype, tuple(r.name for r in base)
    if key not in _SCALES:
        # The layer and its composed equation round in different places: the larger of both counts.
        layer = noise.scale(lambda a: reference_of(case, a, base), arrays, reference, dtype)
        steps = noise.scale(lambda a: predict(case, a, base), arrays, reference, dtype)
        _SCALES[key] = {name: max(layer[name], steps[name]) for name in layer}
    return _SCALES[key]


def _declared(name, follows):
    """The readings that the target declares, as far as they concern this function."""
    if follows is None:
        return ()
    steps = steps_of(name)
    if isinstance(follows, str):
        known = {c for n in CONTRACT for c in steps_of(n).centres}
        one_of(sorted(known | MHC_CONVENTIONS.keys()), follows=follows)
        choices = steps.centres.get(_first_name(follows), {})
    else:
        everywhere = [steps_of(n) for n in CONTRACT]
        known = {x.axis for s in everywhere for x in (*s.readings, *s.fits)}
        for axis, value in follows.items():
            one_of(sorted(known), **{"what it follows": axis})
            if not any(_admits(s, axis, value) for s in everywhere):
                values = [r.value for s in everywhere for r in s.readings if r.axis == axis]
                one_of(list(dict.fromkeys(values)), **{axis: value})
        choices = {a: v for a, v in follows.items() if _admits(steps, a, v)}
    return tuple(Reading(a, v, "INPUT", f"{a} is {v!r}", "as declared") for a, v in choices.items())


def _first_name(convention):
    """The first name of a convention that has several, such as "huggingface"."""
    row = MHC_CONVENTIONS.get(convention)
    return next((name for name, other in MHC_CONVENTIONS.items() if other == row), convention)


def _admits(steps, axis, value):
    """Say whether a function has that choice: one of its readings, or any number where it has one.

    What it has not would be computed as if nothing had been declared.
    """
    known = [r.value for r in steps.readings if r.axis == axis]
    numbers = any(fit.axis == axis for fit in steps.fits) or any(map(_is_number, known))
    return value in known or (numbers and _is_number(value))


def _is_number(x):
    return isinstance(x, int | float) and not isinstance(x, bool)


def _library_for(function, target, case, base, seconds):
    """The first library whose arrays the function takes; a row where it takes none."""
    reasons = []
    for name in libraries_for(target):
        library = library_named(name)
        reference = reference_of(case, case.arrays, base)
        answer = call(
            function, case, "float64", library, reference, gradients=False, seconds=seconds
        )
        if answer.verdict not in ("raises", "wrong-dtype"):
            return library, None
        reasons.append((name, answer))
    name, answer = reasons[-1] if len(reasons) == 1 else _most_telling(reasons)
    why = f"{case.id} on {name} arrays: {answer.why}"
    return None, Row(case.function, answer.verdict, shows=[case.id], why=why)


def _most_telling(reasons):
    """Where no library's arrays do, the answer that came closest to a result."""
    for name, answer in reasons:
        if answer.verdict != "raises":
            return name, answer
    hung = [(name, answer) for name, answer in reasons if answer.why.startswith("no answer")]
    return (hung or reasons)[0]


def _verdict(name, cases, trials, odd, gradients, base, follows):
    row = Row(name, "right", len(cases))
    failing = set()
    for dtype, held in trials.items():
        ratios = {t.case.id: t.ratio(t.reference, list(t.reference)) for t in held}
        row.worst[dtype] = max(ratios.values(), default=0.0)
        failing |= {id for id, ratio in ratios.items() if ratio > WRONG}
    failing |= {trial.case.id for trial in odd}
    row.shows = [case.id for case in cases if case.id in failing]
    row.hidden = [case.id for case in cases if case.id not in failing]
    wrong = [d for d, worst in row.worst.items() if worst > WRONG]
    if odd:
        row.verdict = "not-finite"
        where = ", ".join(f"{t.case.id} in {t.dtype}" for t in odd[:3])
        row.why = f"NaN or infinity where the contract's result is finite: {where}"
    odd = [trial for trial in odd if trial.dtype == "float64"]
    if odd and _explain_odd(row, trials["float64"] + odd, base):
        return row
    if wrong == ["float64"] and row.verdict == "right" and _right_in_float32(trials, base):
        row.verdict = "right-in-float32-only"
        row.why = "float64 goes in, float32 is computed: a .float() inside?"
    elif wrong:
        _explain(row, trials[wrong[0]], base)
        if not (row.explanations or base) and wrong[:2] == ["float64", "float32"]:
            _explain_in_float32(row, trials["float32"])
        if not row.explanations and row.verdict != "not-finite" and row.why != OWN:
            row.symptoms = symptoms(trials[wrong[0]])
    elif row.verdict == "right" and max(row.worst.values(), default=0.0) > RIGHT:
        row.verdict = "doubtful"
        row.why = "more than rounding explains, less than a mistake: compare in float64"
    if follows and base and row.verdict == "right":
        row.verdict = "right-following"
        said = ", ".join(r.name for r in base)
        row.convention = follows if isinstance(follows, str) else said
    if row.ok:
        _hold_gradients(row, trials, gradients, base)
    return row


def _right_in_float32(trials, base):
    """Say whether float64 results err as much as float32 does, and no reading explains them."""
    for trial in trials["float64"]:
        arrays = rounded(trial.case, "float32")
        reference = reference_of(trial.case, arrays, base)
        scales = scales_of(trial.case, arrays, reference, "float32", base)
        if trial.ratio(trial.reference, list(trial.reference), scales) > RIGHT:
            return False
    return not Search(trials["float64"], list(trial.reference), base=base).single()


def _explain_in_float32(row, trials):
    """Put into the row the single reading of a layer that computes in float32 whatever is given."""
    found = Search(trials, list(trials[0].reference)).single()
    if found:
        row.explanations = [e.readings for e in found]
        row.why = "explained in float32 alone: a .float() inside, too?"


def _explain_odd(row, trials, base):
    """Say whether readings explain NaN and infinity too, and put them into the row."""
    found = Search(trials, list(trials[0].reference), base=base).single()
    row.explanations = [e.readings for e in found]
    return bool(found)


def _explain(row, trials, base):
    """Put into the row what explains the trials: all results at once, or each by itself."""
    names = list(trials[0].reference)
    row.verdict = "wrong" if row.verdict == "right" else row.verdict
    if base and Search(trials, names).worst(()) <= WRONG:  # beside nothing that is declared
        row.why = OWN
        return
    explained = Search(trials, names, base=base).explanations()
    if not explained and base:
        explained = Search(trials, names).explanations()
        if explained:
            row.why = "what is declared does not hold; beside the contract:"
    if not explained and len(names) > 1:
        explained = _each_result(trials, names, base)
    row.explanations = [e.readings for e in explained]
    conventions = [name for e in explained for name in _conventions(row.function, e)]
    if conventions and not base and row.verdict == "wrong":
        row.verdict, row.convention = "right-following", conventions[0]
    if not explained:
        partly = Search(trials, names, base=base).partly()
        if partly is not None:
            says = " and ".join(r.says for r in partly.readings)
            row.why = f"partly explained: {says}"


def _conventions(function, explanation):
    """The conventions that are just this and are right as well."""
    steps = steps_of(function)
    chosen = {r.axis: r.value for r in explanation.readings}
    return [
        name
        for name, choices in steps.centres.items()
        if chosen == dict(choices) and name in steps.accepted
    ]


def _each_result(trials, names, base):
    """One explanation made of those of the results that are wrong; none if one has none."""
    from .search import Explanation

    together, worst = {}, 0.0
    for name in names:
        if max(t.ratio(t.reference, [name]) for t in trials) <= WRONG:
            continue
        found = Search(trials, [name], base=base).explanations()
        if not found:
            return []
        # a reading that explains another result already says more
        best = max(found, key=lambda e: sum(r.name in together for r in e.readings))
        together |= {r.name: r for r in best.readings}
        worst = max(worst, best.worst)
    return [Explanation(tuple(together.values()), worst)]


# ---- gradients


def _hold_gradients(row, trials, gradients, base):
    """Compare gradients where the values are right; name what is cut."""
    if base or row.convention:
        return
    wrong = []
    for trial, theirs in _with_gradients(trials, gradients):
        row.gradients = True
        ours, scales = _ours(trial, row)
        for name, g in theirs.items():
            ratio = in_units(g, ours[name], scales[name])
            if ratio > WRONG:
                wrong.append((trial, name, ratio))
    if wrong:
        row.why = _what_is_cut(row, wrong, trials, gradients)
        row.verdict = "gradient-wrong"
        row.shows = list(dict.fromkeys(trial.case.id for trial, _, _ in wrong))
        row.hidden = [id for id in row.hidden if id not in row.shows]


_GRADIENTS = {}


def gradient_of(case, arrays, dtype):
    """Return our gradients of Σ out · R by argument, and the scales of their rounding."""
    if (case.id, dtype) not in _GRADIENTS:
        checked = CONTRACT[case.function]
        found = _pulled(checked.function, case, arrays)
        scales = noise.scale(lambda a: _pulled(checked.function, case, a), arrays, found, dtype)
        _GRADIENTS[case.id, dtype] = found, scales
    return _GRADIENTS[case.id, dtype]


def _pulled(function, case, arrays):
    checked = CONTRACT[case.function]
    given = {name: x for name, x in arrays.items() if x is not None}
    shapes = results(checked, checked.function(**arguments(checked, case.arrays, case.options)))
    R = cotangents(case, shapes)

    def loss(given):
        made = results(checked, function(**arguments(checked, given, case.options)))
        total = 0.0
        for name, y in made.items():
            total = total + (y * R[name]).sum()
        return total

    return {name: np.asarray(g) for name, g in grad(loss)(given).items()}


def _what_is_cut(row, wrong, trials, gradients):
    names = list(dict.fromkeys(name for _, name, _ in wrong))
    for cut, variant in CUTS.get(row.function, {}).items():
        if _explains(variant, trials, gradients, row):
            return f"the gradient takes {cut} as a constant: is it detached?"
    zero = [
        n
        for n in names
        if all(not np.any(gradients[t.case.id, t.dtype][n]) for t, name, _ in wrong if name == n)
    ]
    if zero:
        return f"{', '.join(zero)} gets no gradient: is it detached?"
    for factor, said in ((2.0, "twice"), (0.5, "half"), (-1.0, "minus")):
        if all(
            in_units(gradients[t.case.id, t.dtype][n] / factor, ours[n], scales[n]) <= WRONG
            for t, n, _ in wrong
            for ours, scales in (_ours(t, row),)
        ):
            return f"the gradient of {', '.join(names)} is {said} what it should be"
    return f"the gradient of {', '.join(names)} is not that of the values"


def _ours(trial, row):
    """Our gradients of a trial and their scales, those of float32 where it computes in that."""
    found, scales = gradient_of(trial.case, trial.arrays, trial.dtype)
    if row.verdict == "right-in-float32-only":
        scales = gradient_of(trial.case, rounded(trial.case, "float32"), "float32")[1]
    return found, scales


def _with_gradients(trials, gradients):
    """Yield the trials whose gradients are compared: in halves they leave the range too easily.

    Where softmax is saturated, what cancels in a gradient is larger than the gradient.
    """
    for dtype in ("float64", "float32"):
        for trial in trials.get(dtype, ()):
            theirs = gradients.get((trial.case.id, dtype))
            if theirs is not None and not {"large-scores", "low-scores"} & set(trial.case.tags):
                yield trial, theirs


def _explains(variant, trials, gradients, row):
    for trial, theirs in _with_gradients(trials, gradients):
        try:
            found = _pulled(variant, trial.case, trial.arrays)
        except (TypeError, ValueError):
            return False
        scales = _ours(trial, row)[1]
        # Where the contract's gradient is zero, that of the variant may be not.
        float32 = row.verdict == "right-in-float32-only"
        unit = noise.UNIT["float32" if float32 else trial.dtype]
        for n, g in theirs.items():
            scale = max(scales[n], unit * float(np.max(np.abs(found[n]), initial=0.0)))
            if in_units(g, found[n], 4.0 * scale) > WRONG:
                return False
    return True
