"""What is given to other people's tests: assertions, and a suite in one line."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mgt_np import layers
from mgt_np.crosscheck import assert_delta_spectrum, assert_matches, case, suite
from mgt_np.crosscheck.cases import CASES, cases_of


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rows_first(logits, *, n_iters=20):
    return layers.sinkhorn(logits, n_iters=n_iters, order="rows_columns")


class TestAssertMatches:
    def test_passes_what_is_right(self):
        assert assert_matches(softmax, "softmax") is None

    def test_says_what_is_wrong(self):
        with pytest.raises(AssertionError) as caught:
            assert_matches(rows_first, "sinkhorn")
        said = str(caught.value)
        assert "rows are normalised before columns (order=rows_columns)" in said
        assert "Change: divide by the column sums first." in said

    def test_what_is_declared_has_to_hold(self):
        assert_matches(rows_first, "sinkhorn", follows={"order": "rows_columns"})
        with pytest.raises(AssertionError, match="what is declared does not hold"):
            assert_matches(layers.sinkhorn, "sinkhorn", follows={"order": "rows_columns"})

    def test_one_case_alone(self):
        def wrong_far_from_zero(x):
            return softmax(np.clip(x, -700.0, 700.0))

        assert_matches(wrong_far_from_zero, "softmax", only_case="softmax/plain")
        with pytest.raises(AssertionError, match="softmax/extreme"):
            assert_matches(wrong_far_from_zero, "softmax", only_case="softmax/extreme")

    def test_unknown_names_are_refused(self):
        with pytest.raises(ValueError, match="did you mean 'softmax'"):
            assert_matches(softmax, "softmx")
        with pytest.raises(ValueError, match="did you mean 'softmax/plain'"):
            assert_matches(softmax, "softmax", only_case="softmax/plan")


class TestCase:
    def test_runs_one_function_on_itself_alone(self, capsys):
        report = case("softmax/apart").run(softmax)
        assert (report["softmax"].verdict, report["softmax"].cases) == ("right", 1)
        assert "softmax" in capsys.readouterr().out
        assert not case("softmax/apart").run(lambda x: softmax(0.5 * x)).ok

    def test_unknown_ids_are_refused(self):
        with pytest.raises(ValueError, match="such as softmax/plain, got 'softmax/plan'"):
            case("softmax/plan")


TEST_FILE = """
from types import SimpleNamespace
from mgt_np import layers
from mgt_np.crosscheck import suite

module = SimpleNamespace(
    softmax=lambda x: layers.softmax(x) * (1.0 if abs(x).max() < 100.0 else 1.01),
    mhc_update=layers.mhc_update,
    ARRAYS="numpy",
)
TestLayers = suite(module, skip={"softmax/apart": "issue 12", "mhc_update/one-stream": "issue 13"})
"""


class TestSuite:
    def test_is_one_test_a_case(self, tmp_path):
        (tmp_path / "test_layers.py").write_text(TEST_FILE)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        said = done.stdout
        assert done.returncode == 1, said + done.stderr
        n = len(cases_of("softmax")) + len(cases_of("mhc_update"))
        assert f"1 failed, {n - 3} passed, 2 skipped" in said
        assert len(re.findall(r"^SKIPPED .*: issue 1[23]$", said, re.MULTILINE)) == 2
        assert "FAILED test_layers.py::TestLayers::test_case[softmax/extreme]" in said
        assert "shows on softmax/extreme" in said  # the report is the message
        assert "crosscheck/testing.py" not in said  # its frames are hidden
        assert "__tracebackhide__" not in said

    def test_gives_the_arrays_that_the_module_says(self):
        def in_torch_alone(x):
            return layers.softmax(x) if "torch" in type(x).__module__ else 2.0 * x

        pytest.importorskip("torch")
        module = SimpleNamespace(softmax=in_torch_alone, ARRAYS="torch")
        suite(module)().test_case("softmax/plain")
        module.ARRAYS = "numpy"
        with pytest.raises(AssertionError, match="WRONG"):
            suite(module)().test_case("softmax/plain")

    def test_refuses_what_it_does_not_know(self):
        module = SimpleNamespace(softmax=softmax)
        with pytest.raises(ValueError, match="got 'softmax/plan'"):
            suite(module, skip={"softmax/plan": "issue 12"})
        with pytest.raises(ValueError, match="got none"):
            suite(SimpleNamespace(soft=softmax))

    def test_has_every_case_of_what_is_there(self):
        (mark,) = suite(SimpleNamespace(softmax=softmax, sinkhorn=rows_first)).test_case.pytestmark
        assert mark.args[1] == [
            id for id, c in CASES.items() if c.function in ("softmax", "sinkhorn")
        ]


def delta_operator(rng, d=5, batch=(2, 3)):
    k = rng.normal(size=(*batch, d))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    beta = rng.uniform(0.1, 1.9, batch)
    A = np.eye(d) - beta[..., None, None] * k[..., :, None] * k[..., None, :]
    return A, k, beta


class TestDeltaSpectrum:
    @pytest.mark.parametrize("d", [1, 2, 5])
    def test_of_the_delta_operator(self, rng, d):
        assert_delta_spectrum(*delta_operator(rng, d))
        assert_delta_spectrum(*delta_operator(rng, d, batch=()))

    @pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
    def test_at_its_special_points(self, rng, beta):
        _, k, _ = delta_operator(rng)
        A = np.eye(5) - beta * k[..., :, None] * k[..., None, :]
        assert_delta_spectrum(A, k, beta)

    def test_one_matrix_and_one_number_serve_all(self, rng):
        A, k, beta = delta_operator(rng, batch=())
        assert_delta_spectrum(A, np.stack([k, -k]), beta)

    WRONG = (
        ("sign", lambda A, k, b: 2.0 * np.eye(5) - A, "its eigenvalues are off"),
        ("half", lambda A, k, b: 0.5 * (A + np.eye(5)), "A k is not"),
        ("another k", lambda A, k, b: A[..., ::-1, ::-1], "A k is not"),
        ("another sign of a row", lambda A, k, b: A * [1, 1, 1, 1, -1], "A is not symmetric"),
        (
            "right eigenvalues, not symmetric",
            lambda A, k, b: A + 0.1 * k[..., :, None] * across(k)[..., None, :],
            "its singular values are off",
        ),
        ("no erase", lambda A, k, b: np.eye(5) + 0.0 * A, r"det A − \(1 − β\)"),
        (
            "moves what is orthogonal to k",
            lambda A, k, b: A + 1e-6 * across(k)[..., :, None] * across(k)[..., None, :],
            "what is orthogonal to k is not left alone",
        ),
        ("of a longer k", lambda A, k, b: np.eye(5) - 1.01 * (np.eye(5) - A), "eigenvalues"),
    )

    @pytest.mark.parametrize(("make", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
    def test_what_is_no_delta_operator_fails(self, rng, make, words):
        A, k, beta = delta_operator(rng)
        with pytest.raises(AssertionError, match=f"A is not I − β k kᵀ: .*{words}"):
            assert_delta_spectrum(make(A, k, beta), k, beta)

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_nan_fails(self, rng, which):
        given = delta_operator(rng)
        given[which].flat[0] = np.nan
        with pytest.raises(AssertionError, match="expected finite"):
            assert_delta_spectrum(*given)

    def test_a_longer_k_and_another_shape_fail(self, rng):
        A, k, beta = delta_operator(rng)
        with pytest.raises(AssertionError, match="expected k of unit length"):
            assert_delta_spectrum(A, 1.1 * k, beta)
        with pytest.raises(AssertionError, match=r"expected A \(\.\.\., 5, 5\)"):
            assert_delta_spectrum(A[..., :4], k, beta)


def across(k):
    """A unit vector orthogonal to each k."""
    other = np.roll(k, 1, axis=-1) + 1.0
    other = other - np.sum(other * k, axis=-1, keepdims=True) * k
    return other / np.linalg.norm(other, axis=-1, keepdims=True)
