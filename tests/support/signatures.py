"""Right and wrong arguments of public functions, made of their signatures alone.

The grammar is read by `mgt_np.arrays.shapes`; what is right and what is wrong is decided here, from
the text of each annotation, so that the two can disagree.
"""

import inspect
import math
import re
from dataclasses import dataclass, replace

import numpy as np

from mgt_np import analysis, layers
from mgt_np.arrays import Choice, Parameters, shapes

FUNCTIONS = {
    name: function
    for room in (layers, analysis)
    for name, function in vars(room).items()
    if name in room.__all__ and inspect.isfunction(function) and hasattr(function, "signature")
}

# What the signature of a function cannot say, its `requires` among it: arguments to put in.
BY_HAND = {
    "init_short_convolution": lambda rng, arguments: {"channels": 3},
}

# Lengths that are the same, or small, for no reason that the signature gives.
SIZES = {
    "path_terms": {"L": 2},  # there are H^L paths
    "multi_head_attention": {"d": 3, "d_c": 3},
    "delta_gate": {"d": 3, "h": 3},
    "deep_delta_coefficients": {"d": 3, "h": 3},
    "deep_delta_expanded": {"d": 3, "h": 3},
    "deep_delta_residual": {"d": 3, "h": 3},
}


@dataclass(frozen=True)
class Place:
    """One array of a call: an argument, or an entry of a dict of arrays."""

    argument: str
    key: str | None
    spec: shapes.Spec

    @property
    def name(self):
        return self.argument if self.key is None else self.key

    def __str__(self):
        return self.name


@dataclass(frozen=True)
class Call:
    """A function and arguments that are right for it, all of them given by name."""

    function: object
    arguments: dict

    def run(self):
        return self.function(**self.arguments)

    def value(self, place):
        value = self.arguments[place.argument]
        return value if place.key is None else value[place.key]

    def but(self, place, value):
        """The same call with another value in that place."""
        if place.key is not None:
            value = self.arguments[place.argument] | {place.key: value}
        return replace(self, arguments=self.arguments | {place.argument: value})

    def places(self):
        """The places of arrays, numbers that stand for arrays among them."""
        for name, annotation in annotations(self.function).items():
            given = self.arguments.get(name)
            if isinstance(annotation, Parameters):
                for key, text in annotation.entries(self.arguments).items():
                    if given.get(key) is not None:
                        yield Place(name, key, shapes.parse(text))
            elif given is not None and is_shape(annotation):
                yield Place(name, None, shapes.parse(annotation))

    def mapped(self, convert):
        """The same call with every array converted."""
        call = self
        for place in self.places():
            if isinstance(self.value(place), np.ndarray):
                call = call.but(place, convert(self.value(place)))
        return call


def annotations(function):
    return {name: p.annotation for name, p in inspect.signature(function).parameters.items()}


def default(function, name):
    """The default of an argument; `inspect.Parameter.empty` where there is none."""
    return inspect.signature(function).parameters[name].default


NUMBER = re.compile(r"(float|int)(?: (≥|>) (\S+)| in ([\[(])(\S+), (\S+)([\])]))?")
NAMED = ("bool", "function", "generator", "dtype", "'lecun' | float ≥ 0")


def is_own(annotation):
    """Say whether that is an option which a module of layers has made for itself."""
    return not isinstance(annotation, str | Choice | Parameters)


def is_shape(annotation):
    """Say whether that is the text of a shape, not of an option."""
    if not isinstance(annotation, str) or annotation in NAMED or annotation.startswith("'"):
        return False
    return NUMBER.fullmatch(annotation) is None


def all_names(function):
    """The names of lengths in the shapes of a function that stand in its signature."""
    specs = [shapes.parse(a) for a in annotations(function).values() if is_shape(a)]
    axes = [x for spec in specs for shape in spec.shapes for x in (*shape.front, *shape.back)]
    return list(dict.fromkeys(f for x in axes for f in x.factors if isinstance(f, str)))


def right_call(function, rng, *, sizes=None, leading=(2, 3), pick=0, left_out=(), options=None):
    """Arguments as the signature has them.

    Lengths are 3, 4, 5, … in the order of their names, or as in `sizes`; where there are
    alternatives, the one of index `pick` or the last is taken; arguments `left_out` are not given.
    """
    names = all_names(function)
    sizes = dict(zip(names, range(3, 3 + len(names)), strict=True)) | (sizes or {})
    sizes |= SIZES.get(function.__name__, {})
    arguments = {}
    for name, annotation in annotations(function).items():
        if name in left_out or isinstance(annotation, Parameters):
            continue
        if name in sizes and not is_shape(annotation):
            arguments[name] = sizes[name]
        elif is_shape(annotation):
            arguments[name] = right_array(shapes.parse(annotation), rng, sizes, leading, pick)
        elif default(function, name) is inspect.Parameter.empty and not is_own(annotation):
            arguments[name] = right_option(annotation)
    arguments |= options or {}
    arguments |= BY_HAND.get(function.__name__, lambda rng, arguments: {})(rng, arguments)
    for name, annotation in annotations(function).items():
        if isinstance(annotation, Parameters) and name not in arguments:
            arguments[name] = {
                key: right_array(shapes.parse(text), rng, sizes, leading, pick)
                for key, text in annotation.entries(arguments).items()
            }
    return Call(function, arguments)


def right_array(spec, rng, sizes, leading, pick):
    shape = spec.shapes[min(pick, len(spec.shapes) - 1)]
    if shape is shapes.NUMBER:
        return 0.5
    axes = [length_of(axis, sizes) for axis in (*shape.front, *shape.back)]
    n_front = len(shape.front)
    lead = () if shape.leading is None else tuple(leading)
    lengths = (*axes[:n_front], *lead, *axes[n_front:])
    if spec.kind == "int":
        return rng.integers(0, 2, lengths)
    if spec.kind == "bool":
        return rng.random(lengths) < 0.7
    x = np.asarray(rng.standard_normal(lengths))
    return np.abs(x) + 0.1 if {"≥ 0", "> 0"} & set(spec.conditions) else x


def length_of(axis, sizes):
    n = math.prod(sizes.setdefault(f, 3) if isinstance(f, str) else f for f in axis.factors)
    return math.factorial(n) if axis.factorial else n


def right_option(annotation):
    """A value of an option that is right, by its annotation."""
    if isinstance(annotation, Choice):
        return next(iter(annotation.names))
    if annotation == "generator":
        return np.random.default_rng(0)
    if annotation == "function":
        return lambda x: x
    if annotation == "bool":
        return True
    if annotation == "dtype":
        return "float64"
    if annotation.startswith("'"):
        return annotation.split("'")[1]
    kind, low, high = interval(annotation)
    if high < math.inf:
        return 0.5 * (low + high)
    return int(max(low, 0) + 1) if kind == "int" else max(low, 0.0) + 0.5


def interval(annotation):
    """(kind, low, high) of the annotation of a number."""
    kind, _, bound, _, low, high, _ = NUMBER.fullmatch(annotation).groups()
    return kind, float(bound or low or -math.inf), float(high or math.inf)


def wrong_options(annotation, may_be_none):
    """Values that an option with this annotation must refuse."""
    wrong = [] if may_be_none else [None]
    wrong += [object(), [1], np.ones(2), 1j]
    if is_own(annotation):
        return [*wrong, "nonsense", math.nan]
    if not isinstance(annotation, str):
        return [*wrong, "nonsense", math.nan, True, 3]
    if annotation == "'lecun' | float ≥ 0":
        return [*wrong, "nonsense", math.nan, math.inf, -1.0, True]
    if annotation == "dtype":
        return [*wrong, "nonsense", "int64", bool, "complex128"]
    if annotation in ("function", "generator"):
        return [*wrong, "nonsense", math.nan, True, 3]
    if annotation == "bool":
        return [*wrong, "yes", math.nan, 1, 0.0]
    if annotation.startswith("'"):
        return [*wrong, "nonsense", "", math.nan, True, 3]
    kind, low, high = interval(annotation)
    wrong += ["nonsense", math.nan, math.inf, -math.inf, True, np.bool_(True)]
    if kind == "int":
        wrong += [1.5, 2.0, np.float64(2.0)]
    if low > -math.inf:
        opens = "> " in annotation or "(" in annotation
        wrong += [type_of(kind)(low - 1), np.float32(low - 1), *([low] if opens else [])]
    if high < math.inf:
        wrong += [type_of(kind)(high + 1), *([high] if annotation.endswith(")") else [])]
    return wrong


def type_of(kind):
    return int if kind == "int" else float


def wrong_ranks(place, value):
    """Arrays whose number of axes no alternative of the shape has."""
    named = [(len(s.front) + len(s.back), s.leading is not None) for s in place.spec.shapes]

    def fits(ndim):
        return any(ndim >= n if more else ndim == n for n, more in named)

    return [np.ones((2,) * n, dtype=value.dtype) for n in range(8) if not fits(n)]


def wrong_lengths(call, place):
    """The array with one axis longer, for each axis whose length is known from elsewhere."""
    x = call.value(place)
    ((shape, *more),) = [fitting(place.spec, x)]
    if more:  # which alternative is meant is open
        return
    n_named = len(shape.front) + len(shape.back)
    first_back = x.ndim - len(shape.back)
    axes = [*enumerate(shape.front), *enumerate(shape.back, first_back)]
    for i, axis in axes:
        if x.shape[i] and (determined(call, place, i, axis) or axis.factorial):
            yield longer(x, i)
        if axis.least:
            yield x[tuple(slice(0, 0) if j == i else slice(None) for j in range(x.ndim))]
    others = [p for p in call.places() if p != place and has_dots(call, p)]
    if shape.leading == "..." and others and x.ndim > n_named:
        yield longer(x, len(shape.front))
        yield np.stack([x, x], axis=len(shape.front))


def fitting(spec, x):
    return [
        s
        for s in spec.shapes
        if (x.ndim >= len(s.front) + len(s.back) if s.leading else x.ndim == len(s.back))
    ]


def has_dots(call, place):
    x = call.value(place)
    return isinstance(x, np.ndarray) and all(s.leading == "..." for s in fitting(place.spec, x))


def longer(x, axis):
    return np.concatenate([x, np.take(x, [0], axis=axis)], axis=axis)


def determined(call, place, i, axis):
    """Say whether the length of that axis follows from the other arguments."""
    names = {f for f in axis.factors if isinstance(f, str)}
    if not names:
        return True
    known = {n for n, a in annotations(call.function).items() if not is_shape(a)}
    for other in call.places():
        x = call.value(other)
        if isinstance(x, np.ndarray) and len(other.spec.shapes) == 1:
            (shape,) = other.spec.shapes
            first_back = x.ndim - len(shape.back)
            for j, a in [*enumerate(shape.front), *enumerate(shape.back, first_back)]:
                if (other, j) != (place, i) and a.name and not a.broadcasts:
                    known.add(a.name)
    return names <= known
