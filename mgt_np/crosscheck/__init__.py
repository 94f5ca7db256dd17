"""Is somebody else's layer right, and if not, how is it wrong? Lesson 13."""

from .compare import Report, Row, compare
from .testing import assert_delta_spectrum, assert_matches, case, suite

__all__ = ["Report", "Row", "assert_delta_spectrum", "assert_matches", "case", "compare", "suite"]
