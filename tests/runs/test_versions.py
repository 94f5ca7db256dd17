"""Versions: what a measurement depends on, this package's own code among it."""

import numpy as np

from mgt_np.runs import versions as of
from mgt_np.runs.versions import _code


def test_versions_are_those_that_are_installed():
    found = of()
    assert found["numpy"] == np.__version__
    assert {"python", "mgt-np", "autograd", "array-api-compat", "code"} <= found.keys()
    assert all(type(version) is str for version in found.values())


def test_a_change_of_the_code_is_another_version(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("x = 1\n")
    found = {_code(tmp_path)}
    for name, text in (("a.py", "x = 2\n"), ("b.py", ""), ("notes.txt", "")):
        (tmp_path / "room" / name).write_text(text)
        _code.cache_clear()
        found.add(_code(tmp_path))
    assert len(found) == 3  # a text beside it is no code
    _code.cache_clear()
    assert _code() == of()["code"]
