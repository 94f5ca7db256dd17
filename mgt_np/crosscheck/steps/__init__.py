"""The contract's equations once more, in plain NumPy, with a choice at each step.

A choice is how somebody else may have read, or written, that step. The first choice is the
contract's: with all of these a function here equals the layer of its name, which tests hold.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """One choice: how an implementation may differ from the contract at one step.

    axis: the keyword argument of the composed equation that it changes; value: what to. bug: the
    class of the mistake (`BUGS`); says: what the implementation does; change: what to do about it.
    """

    axis: str
    value: object
    bug: str
    says: str
    change: str

    @property
    def name(self):
        return f"{self.axis}={self.value}"


BUGS = {
    "ORIENTATION": "a matrix is transposed, or an axis taken for another",
    "ORDER": "two steps are swapped",
    "COUNT": "a number of iterations, heads or elements is another",
    "EPSILON": "a small constant has another value or place",
    "START": "an iteration starts elsewhere",
    "SCALE": "a scale is missing or another",
    "FACTOR": "a factor is missing or too much",
    "SIGN": "a sign is turned",
    "MASK": "a mask is inverted, ignored or filled otherwise",
    "SHARED": "one element or token stands for all",
    "INPUT": "a step reads another argument",
    "MISSING_STEP": "a step is left out",
    "EXTRA_STEP": "a step is added",
    "PRECISION": "digits are lost",
    "OVERFLOW": "a value leaves the range of its dtype",
    "GRADIENT": "a gradient is cut",
}


@dataclass(frozen=True)
class Fit:
    """A keyword argument that is a positive number, found by search between two bounds."""

    axis: str
    low: float
    high: float
    bug: str
    says: str  # with {value}
    change: str


@dataclass(frozen=True)
class Steps:
    """A composed equation `compute(**arrays, **options, **choices)`, and the readings of it.

    centres: sets of choices, {axis: value} by name, from which a search starts beside the
    contract: the conventions of known implementations. accepted: those that are right as well,
    where the paper and its authors' code disagree.
    """

    compute: object
    readings: tuple[Reading, ...]
    fits: tuple[Fit, ...] = ()
    centres: dict = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
