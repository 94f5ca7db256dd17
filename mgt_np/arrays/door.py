"""The door of a public function: its signature says what may enter, and is held to that.

    @layer
    def tangent_gate(x: "... d", W_gate: "d d", gain: "d" = None, *, eps: "float ≥ 0" = 1e-5): ...

`shapes` and `options` say what an annotation may be. Behind the door the body is the equation and
nothing else: arrays are of one library, on one device and of the dtypes and shapes in the
signature, options are in range, NumPy's scalars are Python's numbers, half precision is float32.
"""

import contextlib
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from autograd.extend import Box
from autograd.tracer import getval, isbox

from . import options, shapes
from .boxes import device, has_values
from .fused import as_constants, in_composed_form, run_fused
from .namespace import as_float_array, concrete, library_of
from .trees import leaves_of, rebuild

_MOST_KEPT = 4096


def layer(body=None, *, requires=None, requires_values=None, **words):
    """Hold a function to its signature, and let it have a fused form (`fused.run_fused`).

    `words` say what a name in the shapes counts, `@layer(n="streams")`, for the errors.
    `requires(**arguments)` is for what no signature can say of shapes and options: it returns None,
    or what was expected and what came; `requires_values` is the same for what arrays hold. A call
    that looks like one before it, in types, shapes, dtypes, devices and options, is held to
    `requires_values` alone.

    The function raises TypeError or ValueError, naming itself and the argument, what was expected
    and what it got.
    """
    if body is None:
        return functools.partial(layer, requires=requires, requires_values=requires_values, **words)
    signature, forms, plans, readers = Signature(body, words, requires), {}, {}, {}
    n_positional, keywords, bind = signature.n_positional, signature.keywords, signature.bind

    @functools.wraps(body)
    def function(*args, **kwargs):
        try:
            values = bind(*args, **kwargs)
        except TypeError:
            raise signature.misfit(args, kwargs) from None
        kinds = tuple(map(type, values))
        try:
            outline = kinds, readers[kinds](*values)
        except KeyError:
            readers[kinds] = _reader(kinds, signature.roles)
            outline = kinds, readers[kinds](*values)
        try:
            plan = plans[outline]
        except (KeyError, TypeError):  # not seen before, or something in it has no hash
            plan = _keep(plans, outline, make_plan(signature, values))
        if plan.prepare is not None:
            values = plan.prepare(values)
        if requires_values is not None:
            signature.hold(requires_values, values)
        if plan.half:
            return _in_float32(function, signature, values)
        args, given = values[:n_positional], {}
        if keywords:
            given = dict(zip(keywords, values[n_positional:], strict=True))
        if plan.lean_xp is not None and forms and not in_composed_form():
            made = run_fused(body, forms, plan, args, given)
            if made is not None:
                return made[0]
        if plan.wraps:
            *args, given = as_constants([*args, given])
        return body(*args, **given)

    def fuse(forward, backward):
        forms.update(forward=forward, backward=backward)

    function.fuse, function.forms, function.composed = fuse, forms, body
    function.signature, function.plans = signature, plans
    return function


# What of an argument is in the outline of a call: what an array is like, an option's value, or
# nothing but its type.
_ARRAY, _OPTION, _ANY = "array", "option", "any"
_PLAIN = frozenset([float, int, bool, str, type(None)])


def _reader(kinds, roles):
    """Return a function of arguments of these types: their outline, but for the types.

    Arguments with the same outline as others fit as well as those do. The function is compiled for
    the types, as `collections.namedtuple` compiles its own: in loops the door took twice as long.
    """
    terms = []
    for i, (kind, role) in enumerate(zip(kinds, roles, strict=True)):
        if role is _OPTION:
            terms.append(f"a{i}" if kind in _PLAIN else f"said_by_numpy(a{i})")
        elif kind is np.ndarray:
            terms.append(f"a{i}.shape, a{i}.dtype")
        elif kind in Box.types:
            value = f"a{i}._value"
            like = f"{value}.shape, {value}.dtype"
            terms.append(f"({like}) if type({value}) is ndarray else outline_of(a{i})")
        elif role is _ARRAY and kind not in _PLAIN:
            terms.append(f"outline_of(a{i})")
    parameters = ", ".join(f"a{i}" for i in range(len(kinds)))
    known = {"ndarray": np.ndarray, "outline_of": _outline_of, "said_by_numpy": _said_by_numpy}
    return eval(f"lambda {parameters}: ({''.join(f'{term}, ' for term in terms)})", known)


def _keep(plans, outline, plan):
    if len(plans) >= _MOST_KEPT:
        plans.clear()
    with contextlib.suppress(TypeError):  # no hash
        plans[outline] = plan
    return plan


def _said_by_numpy(x):
    """An option as an outline has it: Python's number for one of NumPy's, else the thing itself."""
    number = options.as_number(x)
    return x if number is None else number


def _outline_of(x):
    outline = []
    while type(x) in Box.types:
        x = x._value
        outline.append(type(x))
    if type(x) is np.ndarray:
        outline += (x.shape, x.dtype)
    elif isinstance(x, Mapping):
        for name, value in x.items():
            outline += (name, type(value), _outline_of(value))
    elif library_of(x) is not None:
        outline += (tuple(x.shape), x.dtype, device(x), getattr(x, "requires_grad", False))
    return tuple(outline)


class Parameters:
    """Annotates a dict of arrays: the shape of each entry by its name, "none | …" if optional.

    `shapes` is that dict, or a function that makes it of the other arguments.
    """

    def __init__(self, shapes):
        self.shapes = shapes

    def __repr__(self):
        return "dict of arrays" if callable(self.shapes) else repr(self.shapes)

    def entries(self, arguments):
        """The shapes that go with these arguments."""
        return self.shapes(arguments) if callable(self.shapes) else self.shapes


class Signature:
    """The parameters of a function, and what each may be."""

    def __init__(self, body, words, requires=None):
        self.name, self.words, self.requires = body.__name__.lstrip("_"), words, requires
        parameters = list(inspect.signature(body).parameters.values())
        self.names = [p.name for p in parameters]
        self.keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.n_positional = len(self.names) - len(self.keywords)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.options, self.specs, self.dicts = {}, {}, {}
        for p in parameters:
            kind, what = _annotated(p.annotation)
            getattr(self, kind)[p.name] = what
        self.roles = [self.role(name) for name in self.names]
        self.bind = self.binder()

    def role(self, name):
        """What of that argument decides how a call is treated."""
        if name not in self.options:
            return _ARRAY
        return _ANY if self.options[name] in options.BY_TYPE else _OPTION

    def binder(self):
        """Return a function with these parameters: the value of each, in their order."""
        written = [
            f"{name}=defaults[{name!r}]" if name in self.defaults else name for name in self.names
        ]
        if self.keywords:
            written.insert(self.n_positional, "*")
        values = "".join(f"{name}, " for name in self.names)
        return eval(f"lambda {', '.join(written)}: ({values})", {"defaults": self.defaults})

    def misfit(self, args, kwargs):
        """The TypeError for a call that does not go with the parameters."""
        rest = self.names[len(args) :]
        for name in rest:
            if name not in kwargs and name not in self.defaults:
                return TypeError(f"{self.name}: expected an argument {name}, got none")
        return self.superfluous(args, {name: x for name, x in kwargs.items() if name not in rest})

    def superfluous(self, args, kwargs):
        """The error for arguments that there are not."""
        if len(args) > self.n_positional:
            most, got = self.n_positional, len(args)
            return TypeError(
                f"{self.name}: expected at most {most} positional arguments, got {got}"
            )
        name = min(kwargs)
        if name in self.names:
            return TypeError(f"{self.name}: expected one value of {name}, got two")
        return TypeError(f"{self.name}: expected arguments {', '.join(self.names)}, got {name}")

    def named(self, values):
        return dict(zip(self.names, values, strict=True))

    def optional(self, name):
        """Say whether None may be given: where that is the default."""
        return name in self.defaults and self.defaults[name] is None

    def hold(self, requires, values):
        """Raise ValueError unless `requires` returns None."""
        said = requires(**self.named(values))
        if said is not None:
            raise ValueError(f"{self.name}: {said}")


def _annotated(annotation):
    """In which table of a `Signature` a parameter stands, and with what."""
    if isinstance(annotation, Parameters):
        return "dicts", annotation
    if annotation is inspect.Parameter.empty or not isinstance(annotation, str):
        return "options", None if annotation is inspect.Parameter.empty else annotation
    option = options.parse(annotation)
    return ("specs", shapes.parse(annotation)) if option is None else ("options", option)


# ---- the first call of its kind: hold it to the signature


@dataclass(frozen=True)
class Plan:
    """What to do with all calls of one outline.

    prepare: what makes the arguments ready, or None. half: compute in float32. lean_xp: the
    namespace of a fused form, None where none may run. traced: whether autograd traces an argument.
    wraps: put untraced arrays into boxes, beside traced ones.
    """

    prepare: object
    half: bool
    lean_xp: object
    traced: bool
    wraps: bool


class _Array(NamedTuple):
    """An array argument, or an entry of a dict of them."""

    argument: str
    key: str | None
    spec: shapes.Spec
    value: object

    @property
    def name(self):
        return self.argument if self.key is None else self.key


def make_plan(signature, values):
    """Hold the arguments to the signature, and return what to do with such ones."""
    try:
        arguments = signature.named(values)
        conversions = _hold_options(signature, arguments)
        arrays = _arrays(signature, arguments, conversions)
        library = _hold_to_one_place(arrays)
        _hold_to_shapes(signature, arguments, arrays)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{signature.name}: {error}") from None
    place = signature.names.index
    conditions = [(place(x.argument), x.key, each) for x in arrays for each in x.spec.conditions]
    fused, prepare = _may_be_fused(signature, arrays), None
    if fused:
        conversions += _to_arrays(signature, library, arrays)
    if conversions or conditions:
        prepare = functools.partial(_prepare, signature, conversions, conditions)
    if signature.requires is not None:
        signature.hold(signature.requires, prepare(values) if prepare else values)
    traced = any(isbox(x.value) for x in arrays)
    dtypes = [x.value.dtype for x in arrays if not _is_number(x.value)]
    return Plan(
        prepare,
        half=any(map(library.is_half, dtypes)) if library else False,
        lean_xp=library.lean_xp if fused else None,
        traced=traced,
        wraps=traced and library is not None and not library.yields_to_boxes,
    )


def _hold_options(signature, arguments):
    """Hold options to their ranges, put them in as Python has them; return what had to be done."""
    conversions = []
    for name, option in signature.options.items():
        value = arguments[name]
        if option is None or (value is None and signature.optional(name)):
            continue
        admitted = arguments[name] = _admitted(option, name, value)
        if admitted is not value:
            convert = functools.partial(option, name)
            conversions.append((signature.names.index(name), None, convert))
    return conversions


def _admitted(option, name, value):
    if not isinstance(option, type):
        return option(name, value)
    if not isinstance(value, option):
        raise TypeError(f"expected {name} to be a {option.__name__}, got {options.said(value)}")
    return value


def _arrays(signature, arguments, conversions):
    """Every array there is, after what NumPy's scalars have to become."""
    found = []
    for name, spec in signature.specs.items():
        if arguments[name] is not None or not signature.optional(name):
            found.append(_Array(name, None, spec, arguments[name]))
    for name, parameters in signature.dicts.items():
        for key, spec in _entries(name, arguments[name], parameters.entries(arguments)).items():
            value = arguments[name].get(key)
            if value is not None or not spec.none:
                found.append(_Array(name, key, spec, value))
    for i, x in enumerate(found):
        if isinstance(x.value, np.generic):
            number = options.as_number(x.value) if x.spec.number else None
            convert = np.asarray if number is None else options.as_number
            conversions.append((signature.names.index(x.argument), x.key, convert))
            found[i] = x._replace(value=convert(x.value))
    return found


def _entries(name, given, texts):
    """What each entry of a dict must be, or ValueError for keys that are missing or unknown."""
    if not isinstance(given, Mapping):
        raise TypeError(f"expected {name} to be a dict of arrays, got {options.said(given)}")
    specs = {key: shapes.parse(text) for key, text in texts.items()}
    wrong = [f"{key} is missing" for key in specs if key not in given and not specs[key].none]
    wrong += [f"{key} is unknown" for key in given if key not in specs]
    if wrong:
        got = ", ".join(map(str, given)) or "none"
        raise ValueError(
            f"expected {name} with the keys {', '.join(specs)}, got {got}: {', '.join(wrong)}"
        )
    return specs


def _is_number(x):
    """Say whether that is a number of Python's; autograd traces floats too."""
    return type(getval(x)) in (int, float)


def _hold_to_one_place(arrays):
    """Raise unless all are arrays of one library, on one device; return the library."""
    first, library = None, None
    for x in arrays:
        if x.spec.number and type(x.value) in (int, float):
            continue
        found = library_of(x.value)
        if found is None:
            what = "a number or an array" if x.spec.number else "an array"
            raise TypeError(
                f"expected {x.name} to be {what} ({x.spec.text}), got {options.said(x.value)}"
            )
        if library is None:
            first, library = x, found
        elif found is not library:
            raise TypeError(
                f"expected arrays of one library, got {first.name} from {library.name} "
                f"and {x.name} from {found.name}"
            )
        elif not (_is_number(first.value) or _is_number(x.value)):
            here, there = device(first.value), device(x.value)
            if here != there and None not in (here, there):
                raise ValueError(
                    f"expected arrays on one device, got {first.name} on {here} "
                    f"and {x.name} on {there}"
                )
        _hold_to_kind(found, x)
    return library


_KINDS = {"int": ("integral", "integers"), "bool": ("bool", "truth values")}


def _hold_to_kind(library, x):
    dtype = getattr(x.value, "dtype", np.float64)  # autograd traces Python floats too
    if x.spec.kind == "float":
        right, wanted = library.is_floating(dtype), "floating"
    else:
        kind, wanted = _KINDS[x.spec.kind]
        right = library.xp.isdtype(dtype, kind)
    if not right:
        raise TypeError(f"expected {x.name} to be {wanted}, got {dtype}")


def _hold_to_shapes(signature, arguments, arrays):
    sizes = {name: arguments[name] for name in signature.options if type(arguments[name]) is int}
    shaped = [(x.name, x.spec, () if _is_number(x.value) else tuple(x.value.shape)) for x in arrays]
    try:
        shapes.match(shaped, sizes, signature.words)
    except shapes.Mismatch as mismatch:
        ((spec, shape),) = [(s, shape) for name, s, shape in shaped if name == mismatch.name]
        detail = f": {mismatch.detail}" if mismatch.detail else ""
        raise ValueError(
            f"expected {mismatch.name} ({spec.text}){mismatch.wanted}, got shape {shape}{detail}"
        ) from None


def _may_be_fused(signature, arrays):
    """Say whether the equation's arguments are plain floating arrays of one dtype, and numbers."""
    for x in arrays:
        if isbox(x.value):
            if x.argument in signature.keywords or x.key is not None or _is_number(x.value):
                return False
        elif getattr(x.value, "requires_grad", False):
            return False
    floating = [x.value.dtype for x in arrays if x.spec.kind == "float" and not _is_number(x.value)]
    return len(set(floating)) == 1


def _to_arrays(signature, library, arrays):
    """What makes 0-d arrays, beside the others, of the numbers among an equation's arguments."""
    like = next(x.value for x in arrays if x.spec.kind == "float" and not _is_number(x.value))
    convert = functools.partial(library.xp.asarray, dtype=like.dtype, device=device(like))
    equation = [x for x in arrays if x.key is None and x.argument not in signature.keywords]
    numbers = [x.argument for x in equation if type(x.value) in (int, float)]
    return [(signature.names.index(name), None, convert) for name in numbers]


def _prepare(signature, conversions, conditions, values):
    """The arguments as the body takes them; raise ValueError where values are not as they must."""
    values = list(values)
    for i, key, convert in conversions:
        if key is None:
            values[i] = convert(values[i])
        else:
            values[i] = values[i] | {key: convert(values[i][key])}
    for i, key, condition in conditions:
        x = values[i] if key is None else values[i][key]
        what = f"{signature.name}: expected {key or signature.names[i]}"
        _hold_to_condition(what, condition, as_float_array(getval(x)))
    return values


def _hold_to_condition(what, condition, x):
    if not has_values(x):
        return
    x = concrete(x)
    xp = library_of(x).xp
    if condition == "finite":
        if not bool(xp.all(xp.isfinite(x))):
            raise ValueError(f"{what} to be finite, got NaN or infinity")
        return
    right = x >= 0.0 if condition == "≥ 0" else x > 0.0
    if not bool(xp.all(right)):
        raise ValueError(f"{what} {condition}, got {float(xp.min(x)):g}")


def _in_float32(function, signature, values):
    """The result in the dtype of the arguments, computed in float32."""
    arrays = [x for x in leaves_of(values) if library_of(x) is not None]
    library = library_of(arrays[0])
    dtypes = [x.dtype for x in arrays if library.is_floating(x.dtype)]
    dtype, xp = library.xp.result_type(*dtypes), library.traced_xp

    def raised(x):
        half = library_of(x) is not None and library.is_half(x.dtype)
        return xp.astype(x, library.xp.float32) if half else x

    def lowered(x):
        floats = library_of(x) is not None and library.is_floating(x.dtype)
        return xp.astype(x, dtype) if floats else x

    named = signature.named(rebuild(values, map(raised, leaves_of(values))))
    positional = [named.pop(name) for name in signature.names[: signature.n_positional]]
    result = function(*positional, **named)
    return rebuild(result, map(lowered, leaves_of(result)))
