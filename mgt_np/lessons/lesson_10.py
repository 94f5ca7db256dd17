"""Judges and predictions of lesson 10, training deep stacks."""

import math

import numpy as np

from .judging import Unanswered, exercise, hint_for
from .predicting import Prediction

Prediction(
    "10.a",
    within=1.25,
    thoughts=(
        (0.0, 8.0, "That is near the 5 of a normal distribution, whose spread is known. With three "
         "numbers the spread is a guess, and often too small."),
        (8.001, 14.5, "Either of the two can come out lower by chance: count both sides."),
        (23.1, 100.0, "So bad it is not: two standard errors do exclude most of what chance does."),
    ),
)  # fmt: skip
Prediction(
    "10.b",
    choices={
        "MGT": "It holds in these rows. What does it rest on? That is part 6.",
        "Pre-LN": "Its step of 1 is what usually trains. At 48 blocks a step of β is lower here.",
        "Pre-LN, steps of MGT's size": "The start is as tame as MGT's. But its steps stay small, "
        "and MGT's β is learned.",
        "Post-LN": "It gets a gradient of the usual size. But its last state does not know the "
        "tokens, and so the loss cannot use them.",
    },
)


def adamw_case(rng):
    n = int(rng.integers(3, 7))
    theta, g, m = rng.normal(size=(3, n))
    v = rng.uniform(0.1, 2.0, n)
    t = int(rng.integers(2, 9))
    lr, eps, decay = rng.uniform(0.01, 0.1), rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.5)
    return theta, g, m, v, t, lr, rng.uniform(0.5, 0.9), rng.uniform(0.91, 0.99), eps, decay


def adamw(theta, g, m, v, t, lr, beta1, beta2, eps, decay, change=""):
    """Parameters after one step of AdamW, or what a usual mistake makes of them."""
    if change == "in the gradient":
        g = g + decay * theta
    if change == "swapped":
        beta1, beta2 = beta2, beta1
    if change == "old moments":
        mean, square = m, v
    else:
        mean = beta1 * m + (1.0 - beta1) * g
        square = beta2 * v + (1.0 - beta2) * (g if change == "not squared" else g * g)
    power = t - 1 if change == "from 0" else t
    of_mean, of_square = 1.0 - beta1**power, 1.0 - beta2**power
    if change in ("no correction", "mean alone"):
        of_square = 1.0
    if change in ("no correction", "square alone"):
        of_mean = 1.0
    mean, square = mean / of_mean, square / of_square
    if change == "not squared":
        square = np.abs(square)
    below = {
        "in the root": np.sqrt(square + eps),
        "before the correction": np.sqrt(square) + eps / math.sqrt(of_square),
        "no root": square + eps,
        "no eps": np.sqrt(square),
    }.get(change, np.sqrt(square) + eps)
    step = lr * mean / below
    kept = {
        "in the gradient": theta,
        "no decay": theta,
        "decay without lr": (1.0 - decay) * theta,
        "decay grows": (1.0 + lr * decay) * theta,
    }.get(change, (1.0 - lr * decay) * theta)
    if change == "uphill":
        return kept + step
    if change == "decay behind":
        return (theta - step) * (1.0 - lr * decay)
    return kept - step


STEPS = {
    "in the gradient": "the decay went into the gradient, and so into both moments: that is Adam "
    "with L2. AdamW takes it off the parameters.",
    "no correction": "without bias correction: the moments began at zero and are too small by "
    "1 − βᵗ.",
    "mean alone": "only the mean is corrected: the square began at zero too.",
    "square alone": "only the square is corrected: the mean began at zero too.",
    "in the root": "ε stands under the root: it is added behind it.",
    "before the correction": "ε is divided by √(1 − β₂ᵗ) too: correct v, take the root, add ε.",
    "no eps": "ε is missing.",
    "no root": "the root of the second moment is missing: a step would depend on the gradient's "
    "unit.",
    "no decay": "the decay is missing.",
    "decay without lr": "the decay is λ times the learning rate.",
    "decay grows": "the decay makes parameters smaller, not larger.",
    "uphill": "the step goes uphill: subtract it.",
    "decay behind": "the decay is of the parameters before the step, not behind it.",
    "from 0": "t counts this step too: the first is t = 1.",
    "old moments": "the moments are those before the step: renew them with g first.",
    "swapped": "β₁ and β₂ are swapped: the mean has β₁.",
    "not squared": "the second moment is a mean of g², not of g.",
}


@exercise("10.1")
def one_step(answer, rng):
    """The parameters after one step of AdamW."""
    case = adamw_case(rng)
    right = adamw(*case)
    usual = [(adamw(*case, change), hint) for change, hint in STEPS.items()]
    usual += [
        (right - case[0], "that is the change: return the new parameters."),
        (case[0] - right, "that is what was taken off: return the new parameters."),
    ]
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in case]
    return hint_for(answer(*copies), right, usual, what="the new parameters")


def losses_case(rng):
    """Three losses each of "mine" and of other rules, each there to tell two verdict rules apart.

    The mean of mine − other's is −`errors` of its standard errors. It is small beside the seeds'
    common ups and downs, of which the lowest does not come first.
    """
    best = int(rng.integers(1, 3))
    shared = np.where(np.arange(3) == best, -0.3, rng.permutation([0.0, 0.05, 0.3]))
    mine = 2.0 + shared + rng.uniform(-0.02, 0.02, 3)

    def others(errors, odd, z_odd=2.0):
        z = np.where(np.arange(3) == odd, z_odd, -z_odd / 2.0) + rng.uniform(-0.03, 0.03, 3)
        z = (z - z.mean()) / (z.std(ddof=1) / math.sqrt(3.0))
        return mine - rng.uniform(0.015, 0.025) * (z - errors)

    broke = mine + 1.0 + rng.uniform(0.0, 0.01, 3)
    broke[rng.integers(3)] = math.nan
    made = {
        "mine": mine,
        "far above": mine + 3.0 + rng.uniform(0.0, 0.1, 3),
        "below": mine - 0.5 - rng.uniform(0.0, 0.01, 3),
        **{f"{k} errors": others(k, rng.integers(3)) for k in (9.0, 3.9, 2.6, 1.8, 1.5, 0.6)},
        "lower with each seed": others(1.3, rng.integers(3), -2.0),
        "lower with two": others(-0.3, 0),
        "lower with the first": others(-0.5, 0, -2.0),
        "lower with the best": others(-0.5, best, -2.0),
        "broke off": broke,
    }
    return {name: made[name].tolist() for name in rng.permutation(list(made))}


def lower_than(losses, rule=""):
    """The rules than which "mine" is lower, by the lesson's rule or by a usual mistake."""
    return {name for name, each in losses.items() if _says(losses["mine"], each, rule)}


def _says(mine, other, rule):
    a, b = np.asarray(mine), np.asarray(other)
    if rule == "drops":
        kept = np.isfinite(a) & np.isfinite(b)
        a, b = a[kept], b[kept]
    d = b - a if rule == "sign" else a - b
    n = d.size
    error = d.std(ddof=0 if rule == "ddof" else 1) / math.sqrt(n)
    if rule == "spread":
        error = d.std(ddof=1)
    if rule == "unpaired":
        error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
    if rule == "at most":
        return d.mean() + 2.0 * error <= 0.0
    said = {
        "first": d[0] < 0.0,
        "best": np.nanmin(a) < np.nanmin(b),
        "mean": d.mean() < 0.0,
        "every": (d < 0.0).all(),
        "most": np.sum(d < 0.0) >= 2,
        "open": d.mean() - 2.0 * error < 0.0,
    }
    times = {"one": 1.0, "t": 4.303}.get(rule, 2.0)
    return bool(said.get(rule, d.mean() + times * error < 0.0))


RULES = {
    "sign": "the sign is the other one: a lower loss makes mine − other negative.",
    "first": "that looks at one seed: two runs of the *same* rule differ too.",
    "best": "that compares the best seeds: the best of three is luck as much as rule.",
    "mean": "that compares means without their error.",
    "every": "that asks for each seed to be lower: the rule is mean + 2 errors < 0.",
    "most": "that counts seeds: the rule is mean + 2 errors < 0.",
    "open": "mean − 2 errors < 0 is true of nearly all: even the upper end has to be below 0.",
    "one": "that is one standard error: the rule takes two.",
    "t": "4.3 errors would be right for 95 %: the rule that was written down takes two.",
    "ddof": "with n seeds the variance divides by n − 1 (`ddof=1`).",
    "spread": "that is the spread of single differences: their mean's error is smaller by √n.",
    "unpaired": "the seeds are paired: take the error of the differences, seed by seed.",
    "drops": "a run that broke off (NaN) is dropped there: a rule that fails with one seed in "
    "three is no evidence for the other. Such a pair gets no verdict.",
    "at most": "a rule is not lower than itself: below 0, not at most 0.",
}


@exercise("10.2")
def verdict_rule(answer, rng):
    """Names of the rules than which "mine" is lower."""
    losses = losses_case(rng)
    labels = {name: f"rule {letter}" for name, letter in zip(losses, "ABCDEFGHIJKLMN", strict=True)}
    given = {labels[name]: list(each) for name, each in losses.items()}
    got = answer(given, labels["mine"])
    right = lower_than(losses)
    if isinstance(got, str):
        return f"expected a list of names, got the text {got!r}: put it in a list."
    if not isinstance(got, list | tuple | set | frozenset):
        return f"expected a list of names, got a {type(got).__name__}."
    if got and all(x is ... for x in got):
        raise Unanswered
    strange = [x for x in got if not isinstance(x, str) or x not in given]
    if strange:
        return f"expected names of the given rules, got {strange[0]!r}."
    names = {label: name for name, label in labels.items()}
    found = {names[label] for label in got}
    if found == right:
        return ""
    for rule, hint in RULES.items():
        if found == lower_than(losses, rule):
            return hint
    if not found:
        return "the list is empty, and one rule is 3 nats above: it belongs there."
    name = sorted(found ^ right)[0]
    d = np.subtract(losses["mine"], losses[name])
    error = d.std(ddof=1) / math.sqrt(3.0)
    be = "is not" if name in right else "is"
    return (
        f"a rule with mine − other = {d.mean():+.4f}, standard error {error:.4f}, {be} in your "
        f"list, and should{'' if name in right else ' not'} be."
    )


@exercise("10.3")
def disagreeing(answer, rng):
    """The two single parts: N − D > 0 and N/D < 1 with each seed, and the first part helps."""
    l0 = rng.uniform(2.0, 3.0, 3)
    N = rng.permutation([rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5), -rng.uniform(0.2, 0.5)])
    l12 = l0 - N
    got = answer(l0.copy(), l12.copy())
    fault = hint_for(got, np.zeros((2, 3)), what="the two rows of losses")
    if np.shape(got) == (3, 2):
        return "transposed: a row for each part, a column for each seed."
    if np.shape(got) == (2,):
        return "expected a loss of each part *for each seed*: two rows of three."
    if np.shape(got) != (2, 3) or "NaN" in fault or "array" in fault:
        return fault
    l1, l2 = np.asarray(got, dtype=float)
    D = (l0 - l1) + (l0 - l2)
    if (l1 >= l0).all() and (l2 < l0).all():
        return "the rows are swapped: the first part is the one that helps alone."
    if not (l1 < l0).all():
        return "with some seed the first part alone does not lower the loss: ℓ₁ < ℓ₀ is asked for."
    if (np.abs(D) < 1e-9).any():
        return "with some seed D = 0: there N/D is no number."
    if (D > 0.0).all():
        return "D > 0 with each seed: there N − D > 0 and N/D > 1 say the same."
    if (D > 0.0).any():
        return "with some seed D > 0: there the two forms agree. D has to be below 0 with each."
    if (D - N >= 0.0).all():
        return "N − D is not above 0 with any seed: make D smaller, down below N."
    if (D[N < 0.0] >= N[N < 0.0]).any():
        return (
            "with one seed both parts together do harm, N < 0: there D < 0 is not enough, it has "
            "to be below N."
        )
    if min(l1.min(), l2.min()) <= 0.0:
        return "a cross-entropy is above 0."
    if max(l1.max(), l2.max()) >= math.log(256.0):
        return "stay below ln 256 = 5.55, the loss of guessing: no rule need be so bad."
    return ""
