"""Measured rows, and how they are selected."""

from collections.abc import Sequence
from itertools import product

import numpy as np


class Rows(Sequence):
    """Rows that were measured: dicts with the same names, in the order of the cells."""

    def __init__(self, rows):
        self._rows = list(rows)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, i):
        return self._rows[i]

    def __eq__(self, other):
        return isinstance(other, Rows) and self._rows == other._rows

    __hash__ = None

    def where(self, **wanted):
        """The rows with these values."""
        return Rows(
            row for row in self._rows if all(row[name] == value for name, value in wanted.items())
        )

    def column(self, name):
        """The values of one column, in the order of the rows."""
        return [row[name] for row in self._rows]

    def values(self, name):
        """The different values of one column, in the order in which they come first."""
        return list(dict.fromkeys(self.column(name)))

    def grid(self, column, *axes):
        """The values of a column as an array with an axis for each of the columns `axes`.

        Along an axis its `values` in their order. Raises ValueError where a combination of them is
        missing or there more than once.
        """
        found = {}
        for row in self._rows:
            found.setdefault(tuple(row[name] for name in axes), []).append(row[column])
        wanted = list(product(*(self.values(name) for name in axes)))
        for place in wanted:
            if len(found.get(place, [])) != 1:
                named = ", ".join(f"{n} = {v!r}" for n, v in zip(axes, place, strict=True))
                raise ValueError(
                    f"grid of {column}: expected one row with {named or 'nothing to tell them'}, "
                    f"got {len(found.get(place, []))}"
                )
        if not self._rows:
            raise ValueError(f"grid of {column}: expected rows, got none")
        shape = [len(self.values(name)) for name in axes]
        return np.asarray([found[place][0] for place in wanted]).reshape(shape)

    def by(self, condition, number, reduce):
        """{condition: reduce(numbers)}, in the order in which the conditions come first.

        `condition` is a text like "β₀ = {beta_init:g}" that a row fills, or a function of a row;
        `number` is a column, or a function of a row. `reduce` makes one number of a list.
        """
        found = {}
        for row in self._rows:
            name = condition(row) if callable(condition) else condition.format(**row)
            value = number(row) if callable(number) else row[number]
            found.setdefault(name, []).append(value)
        return {name: float(reduce(values)) for name, values in found.items()}
