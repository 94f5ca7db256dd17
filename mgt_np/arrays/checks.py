"""One of several names: what was expected, what came, and what was probably meant."""

import difflib


def one_of(options, **choices):
    """Return the value of `options` that was chosen by name, or raise ValueError."""
    for name, choice in choices.items():
        if choice not in options:
            near = difflib.get_close_matches(str(choice), [str(option) for option in options], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(repr(option) for option in options)
            raise ValueError(f"expected {name} to be one of {listed}, got {choice!r}{hint}")
