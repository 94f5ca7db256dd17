"""Names of tests that are alike in every process."""


def said(x):
    """What a parameter is called in the name of a test; of a function pytest takes the name."""
    return None if callable(x) else str(x)
