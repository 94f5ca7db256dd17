"""Shapes as they stand in a signature, "... n d", and whether arrays have them.

    x: "... n d"            leading axes, then named ones: a name has one length in a call
    phi: "n·d n"            a product of lengths; "2·h" is an even length, "n!" a factorial
    X: "... N≥1 d≥1"        lengths of at least one
    beta: "number | #..."   a number (or an array without axes), or leading axes that broadcast to
                            those of the other arguments
    mask: "bool #n #m"      truth values, "#n" n or 1; "int ..." integers; else floating numbers
    P: "... n m, ≥ 0"       what its values must be as well: ≥ 0, > 0 or finite

`...` stands for the same axes wherever it stands, so that no result is larger than its arguments
say.
"""

import functools
import itertools
import math
import re
from dataclasses import dataclass

KINDS = ("int", "bool")
CONDITIONS = ("finite", "≥ 0", "> 0")


@dataclass(frozen=True)
class Axis:
    """The length of one axis: a product of names and numbers, or a factorial."""

    text: str
    factors: tuple
    factorial: bool
    broadcasts: bool
    least: int

    @property
    def name(self):
        """The name that alone is the length, or None."""
        plain = len(self.factors) == 1 and not self.factorial and isinstance(self.factors[0], str)
        return self.factors[0] if plain else None

    def unknown(self, sizes):
        """The names in it that have no length yet."""
        return [f for f in self.factors if isinstance(f, str) and f not in sizes]

    def length(self, sizes):
        """The length, or None while a name in it has none."""
        if self.unknown(sizes):
            return None
        n = math.prod(sizes.get(factor, factor) for factor in self.factors)
        return math.factorial(n) if self.factorial else n

    def root(self, n, sizes):
        """The length of the one name without one, where the axis has n; None if there is none."""
        if self.factorial:
            return next((k for k in range(1, 20) if math.factorial(k) == n), None)
        known = math.prod(sizes.get(f, f) for f in self.factors if f not in self.unknown(sizes))
        return n // known if known and n % known == 0 else None


@dataclass(frozen=True)
class Shape:
    """One alternative: axes in front, leading axes ("...", "#..." or None), axes behind."""

    text: str
    front: tuple
    leading: str | None
    back: tuple

    def takes(self, ndim):
        """Say whether an array of that many axes can have this shape."""
        named = len(self.front) + len(self.back)
        return ndim == named if self.leading is None else ndim >= named


@dataclass(frozen=True)
class Spec:
    """What an array argument may be."""

    text: str
    kind: str
    shapes: tuple
    number: bool
    none: bool
    conditions: tuple


NUMBER = Shape("number", (), None, ())


@functools.cache
def parse(text):
    """Return the `Spec` of a text such as "... n d | number, ≥ 0"."""
    text = text.removeprefix("none | ") if (none := text.startswith("none | ")) else text
    shapes, *conditions = (part.strip() for part in text.split(","))
    kind, words = "float", shapes.split()
    if words[:1] and words[0] in KINDS:
        kind, shapes = words[0], shapes.removeprefix(words[0])
    alternatives = tuple(_shape(alternative.split()) for alternative in shapes.split("|"))
    if set(conditions) - set(CONDITIONS):
        raise ValueError(f"expected conditions among {CONDITIONS}, got {conditions}")
    return Spec(text, kind, alternatives, NUMBER in alternatives, none, tuple(conditions))


def _shape(words):
    if words == ["number"]:
        return NUMBER
    text = " ".join(words)
    for i, word in enumerate(words):
        if word in ("...", "#..."):
            return Shape(text, _axes(words[:i]), word, _axes(words[i + 1 :]))
    return Shape(text, (), None, _axes(words))


def _axes(words):
    return tuple(map(_axis, words))


def _axis(word):
    found = re.fullmatch(r"(#?)([^#!≥]+)(!?)(?:≥(\d+))?", word)
    if found is None:
        raise ValueError(f"expected the length of an axis, got {word!r}")
    broadcasts, product, factorial, least = found.groups()
    factors = tuple(int(factor) if factor.isdigit() else factor for factor in product.split("·"))
    return Axis(word, factors, bool(factorial), bool(broadcasts), int(least or 0))


class Mismatch(Exception):
    """The argument `name` does not fit: where it should differ (`wanted`), and beside what."""

    def __init__(self, name, wanted="", detail=""):
        super().__init__(name, wanted, detail)
        self.name, self.wanted, self.detail = name, wanted, detail


def match(arguments, sizes, words):
    """Raise `Mismatch` unless there is one length for each name in the shapes of a call.

    `arguments` are pairs (name, spec, shape), `sizes` the lengths known from options, and `words`
    what a name counts: {"n": "streams"}.
    """
    choices = []
    for name, spec, shape in arguments:
        fitting = [alternative for alternative in spec.shapes if alternative.takes(len(shape))]
        if not fitting:
            raise Mismatch(name)
        choices.append(fitting)
    best, furthest = None, -1
    for alternatives in itertools.product(*choices):
        attempt = _Attempt(dict(sizes), words)
        try:
            attempt.solve([(a[0], s, a[2]) for a, s in zip(arguments, alternatives, strict=True)])
        except Mismatch as mismatch:
            if attempt.n_settled > furthest:
                best, furthest = mismatch, attempt.n_settled
        else:
            return
    if best is not None:
        raise best


class _Attempt:
    """One choice among the alternatives of each argument: lengths of names, and who gave them."""

    def __init__(self, sizes, words):
        self.sizes, self.words, self.sources = sizes, words, {}
        self.leading, self.leading_source, self.n_settled = None, None, 0

    def solve(self, arguments):
        axes, leading = [], []
        for name, shape, lengths in arguments:
            first, last = len(shape.front), len(lengths) - len(shape.back)
            axes += [(name, *each) for each in zip(shape.front, lengths, itertools.count())]
            back = zip(shape.back, lengths[last:], range(-len(shape.back), 0), strict=True)
            axes += [(name, *each) for each in back]
            if shape.leading is not None:
                leading.append((name, shape.leading, tuple(lengths[first:last])))
        names = [each for each in axes if each[1].name and not each[1].broadcasts]
        others = [each for each in axes if each not in names and not each[1].broadcasts]
        for each in names:
            self.settle(*each)
        for each in [*others, *others]:  # a product may wait for another one's name
            self.settle(*each)
        for each in axes:
            if each[1].broadcasts and each[2] != 1:
                self.settle(*each)
        for name, _, lengths in sorted(leading, key=lambda each: each[1] == "#..."):
            self.settle_leading(name, _, lengths)

    def settle(self, argument, axis, n, place):
        """Hold one axis to what is known, or learn from it."""
        if n < axis.least:
            raise Mismatch(argument, f" with {axis.text}")
        unknown, length = axis.unknown(self.sizes), axis.length(self.sizes)
        if len(unknown) > 1:
            return
        if unknown:
            root = axis.root(n, self.sizes)
            if root is None:
                known = [f"{f} = {self.sizes[f]}" for f in axis.factors if f in self.sizes]
                raise Mismatch(argument, f" with {', '.join(known)}" if known else "")
            self.sizes[unknown[0]], self.sources[unknown[0]] = root, (argument, place)
        elif length != n:
            raise Mismatch(
                argument,
                "" if axis.text.isdigit() else f" with {axis.text} = {length}",
                self.beside(argument, axis, n),
            )
        self.n_settled += 1

    def beside(self, argument, axis, n):
        """Who says otherwise: "X has 5 streams on axis −2, b_pre has 3"."""
        if axis.name is None:
            return self.known_of(axis)
        if axis.name not in self.sources:
            return ""
        other, place = self.sources[axis.name]
        if other == argument:
            return ""
        what = self.words.get(axis.name)
        length = self.sizes[axis.name]
        has = f"{axis.name} = {length}" if what is None else f"{length} {what}"
        return f"{other} has {has} on axis {place}, {argument} has {n}".replace("-", "−")

    def known_of(self, axis):
        """The lengths in a product, and who gave them: "n = 5 is axis −2 of X"."""
        said = []
        for name in dict.fromkeys(f for f in axis.factors if isinstance(f, str)):
            argument, place = self.sources.get(name, (None, None))
            whose = "" if argument is None else f" is axis {place} of {argument}"
            said.append(f"{name} = {self.sizes[name]}{whose}".replace("-", "−"))
        return ", ".join(said)

    def settle_leading(self, argument, kind, lengths):
        """Hold leading axes to those of the others."""
        if self.leading is None:
            self.leading, self.leading_source = lengths, argument
        elif kind == "...":
            if lengths != self.leading:
                raise self.other_leading(argument)
        elif len(lengths) > len(self.leading) or any(
            n not in (1, m) for n, m in zip(reversed(lengths), reversed(self.leading), strict=False)
        ):
            raise self.other_leading(argument)
        self.n_settled += 1

    def other_leading(self, argument):
        return Mismatch(argument, f" with ... = {self.leading} as in {self.leading_source}")
