"""Claims as data: what somebody says, what is measured of it, and the rule that decides."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that somebody states, with a rule by which rows decide on it.

    `measure(result)` gives a number (or a tuple of them) for each condition under which the claim
    was tried, {condition: number}, and `passes(number)` says whether the claim is true there;
    `criterion` is this rule in words. `form` lays out a number, or a tuple of them. Where some
    conditions pass, the verdict is "holds only if …", `only_if` filled with them. `title` is a
    shorter `says` for figures. `beside(result)` adds what else is worth knowing; it decides
    nothing. `readme` puts the claim among the findings of the README.
    """

    says: str
    source: str
    criterion: str
    measure: Callable[[Any], dict]
    passes: Callable[[Any], bool]
    only_if: str = "{}"
    form: str = "{:.3g}"
    title: str = ""
    beside: Callable[[Any], str] | None = None
    readme: bool = False


@dataclass(frozen=True)
class Judged:
    """A claim with what was measured and the verdict.

    `verdict` is "holds", "does not hold" or "holds only if …".
    """

    claim: str
    source: str
    criterion: str
    measured: str
    verdict: str
    title: str
    readme: bool

    @property
    def headline(self):
        """The claim and its verdict in a figure's words."""
        return f"{self.title}:\n{self.verdict}"


def judge(claim, result):
    """Decide on a claim by the rows of a result. The only place where a verdict is made.

    Raises ValueError where the claim measures nothing: a claim that was not tried has no verdict.
    """
    numbers = claim.measure(result)
    if not numbers:
        raise ValueError(f"{result.name}: expected numbers for {claim.says!r}, got none")
    passed = [condition for condition, number in numbers.items() if claim.passes(number)]
    if len(passed) == len(numbers):
        verdict = "holds"
    elif passed:
        verdict = f"holds only if {claim.only_if.format(' or '.join(passed))}"
    else:
        verdict = "does not hold"
    measured = "; ".join(
        f"{condition}: {_laid_out(claim.form, number)}" for condition, number in numbers.items()
    )
    beside = claim.beside(result) if claim.beside else ""
    return Judged(
        claim=claim.says,
        source=claim.source,
        criterion=claim.criterion,
        measured=f"{measured}. {beside}" if beside else measured,
        verdict=verdict,
        title=claim.title or claim.says,
        readme=claim.readme,
    )


def _laid_out(form, number):
    text = form.format(*number) if isinstance(number, tuple) else form.format(number)
    text = re.sub(r"e[+-]00\b", "", text)
    return re.sub(r"e([+-])0*(\d)", lambda power: f"e{power[1].strip('+')}{power[2]}", text)


def short(x):
    """A number in few characters: 0.12, 22, 1e8 for 1e+08."""
    digits, _, power = f"{x:.0e}".partition("e")
    return f"{digits}e{int(power)}" if power and abs(int(power)) > 2 else f"{x:.2g}"


def extent(values, form="{}"):
    """The least and the largest of some numbers, in words."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} … {high}"
