"""Every verdict on somebody else's function, reached by a small one."""

import importlib
import json
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from mgt_np import layers
from mgt_np.crosscheck import compare, noise
from mgt_np.crosscheck.cases import Case, cases_of
from mgt_np.crosscheck.other_side import rounded
from mgt_np.crosscheck.search import RIGHT, WRONG

torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
COMPARE = sys.modules["mgt_np.crosscheck.compare"]  # the name itself is the function's


def row_of(name, function, arrays="numpy", **how):
    return compare({name: function, "ARRAYS": arrays}, **how)[name]


def names(row):
    """The names of the readings of each explanation."""
    return [[reading.name for reading in readings] for readings in row.explanations]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def update(X, y, H_post, H_res):
    return H_res @ X + H_post[..., None] * y[..., None, :]


def rows_first(logits, *, n_iters=20):
    P = np.exp(logits)
    for _ in range(n_iters):
        P = P / P.sum(axis=-1, keepdims=True)
        P = P / P.sum(axis=-2, keepdims=True)
    return P


def torch_softmax(x):
    return torch.softmax(x, -1)


def on_jax(jax, function, **options):
    """The verdict on a softmax of JAX's, on two cases."""
    others = {case.id: "" for case in cases_of("softmax")[2:]}
    module = {"softmax": function, "ARRAYS": "jax"}
    return compare(module, skip=others, **options)["softmax"]


BOTH = ("float64", "float32")
NOT_PLAIN = ("mhc_update/n-is-d", "mhc_update/one-stream")


class TestRight:
    @pytest.mark.parametrize(
        ("library", "functions", "skip", "dtypes"),
        [
            ("numpy", {"mhc_update": update, "softmax": softmax}, (), BOTH),
            ("torch", {"mhc_update": update, "softmax": torch_softmax}, (), BOTH),
            ("jax", {"mhc_update": update}, NOT_PLAIN, BOTH),
        ],
    )
    def test_in_the_arrays_of_each_library(self, library, functions, skip, dtypes):
        pytest.importorskip(library)
        kinds = set()

        def kept(X, **given):
            kinds.add(type(X).__module__.partition(".")[0].removesuffix("lib"))
            return update(X, **given)

        module = SimpleNamespace(**functions | {"mhc_update": kept, "ARRAYS": library})
        report = compare(module, skip=dict.fromkeys(skip, "slow"), dtypes=dtypes)
        assert report.ok
        assert set(report.rows) == set(functions)
        for row in report.rows.values():
            cases = len(cases_of(row.function)) - len(skip)
            assert (row.verdict, row.cases) == ("right", cases)
            assert set(row.worst) == set(dtypes)
            assert 0.0 < row.worst["float32"] <= RIGHT
            assert row.gradients == (library != "numpy")  # which cannot be traced
            assert not row.shows
        assert library in kinds
        assert kinds <= {library, "autograd", "mgt_np"}

    def test_jax_keeps_the_precision_that_it_had(self):
        jax = pytest.importorskip("jax")
        had = jax.config.jax_enable_x64
        try:
            for x64 in (False, True):
                jax.config.update("jax_enable_x64", x64)
                assert on_jax(jax, lambda x: jax.nn.softmax(x, -1)).verdict == "right"
                assert jax.config.jax_enable_x64 == x64
        finally:
            jax.config.update("jax_enable_x64", had)

    def test_functions_that_jax_cannot_compile(self):
        jax = pytest.importorskip("jax")

        def looks_at_values(x):
            shift = x.max(-1, keepdims=True) if bool((abs(x) < 1e9).all()) else 0.0
            e = jax.numpy.exp(x - shift)
            return e / e.sum(-1, keepdims=True)

        row = on_jax(jax, looks_at_values)
        assert (row.verdict, row.gradients) == ("right", True)
        row = on_jax(jax, lambda x: np.asarray(jax.nn.softmax(x, -1)), gradients=False)
        assert row.verdict == "wrong-dtype"

    def test_a_program_that_differs_from_call_to_call(self):
        jax = pytest.importorskip("jax")
        rng = np.random.default_rng(0)
        row = on_jax(jax, lambda x: jax.nn.softmax(x, -1) * (1.0 + 1e-9 * rng.normal()))
        assert row.verdict == "not-deterministic"

    def test_our_own_layers_in_numpy_have_gradients(self):
        row = row_of("softmax", layers.softmax)
        assert (row.verdict, row.gradients) == ("right", True)

    @needs_torch
    def test_the_library_is_found_by_trying(self):
        assert compare({"softmax": torch_softmax})["softmax"].gradients

    @needs_torch
    def test_in_half_precision(self):
        halves = ("bfloat16", "float16")
        row = row_of("softmax", torch_softmax, "torch", dtypes=halves)
        assert row.verdict == "right"
        assert set(row.worst) == set(halves)

    @needs_torch
    @pytest.mark.parametrize("dtype", noise.UNIT)
    def test_inputs_are_rounded_as_pytorch_rounds_them(self, dtype):
        x = cases_of("softmax")[0].arrays["x"]
        ties = 1.0 + 2.0**-9 * np.arange(8)  # between two of bfloat16, and two of them
        for given in (x, 1e-3 * x, ties, -ties, np.zeros(0), np.array(2.5)):
            found = rounded(Case("softmax/any", "softmax", {"x": given}), dtype)["x"]
            theirs = torch.tensor(given, dtype=getattr(torch, dtype)).double().numpy()
            assert np.array_equal(found, theirs)

    def test_without_the_dtype_nothing_is_called_right(self):
        row = row_of("softmax", softmax, dtypes=("bfloat16",))
        assert (row.verdict, row.why) == ("skipped", "numpy has no bfloat16")


def fails(x):
    raise RuntimeError("no kernel\nfor this")


def changes_its_input(x):
    x -= x.max(axis=-1, keepdims=True)
    return softmax(x)


def nan_in_one_case(x):
    return np.where(x < -700.0, np.nan, softmax(x))


def drifts(x, calls=[]):  # noqa: B006
    calls.append(x)
    return softmax(x) + 1e-3 * len(calls)


NO_NUMBERS = {  # function, what it says: the same on each of these, and no number is compared
    "raises": (fails, "RuntimeError: no kernel"),
    "wrong-shape": (lambda x: softmax(x)[..., :-1], "expected y of shape (2, 3, 5), got (2, 3, 4)"),
    "wrong-dtype": (lambda x: softmax(x).astype(np.float16), "in float64, got float16"),
    "mutates-inputs": (changes_its_input, "x is not what it was"),
    "not-deterministic": (drifts, "y differs from call to call"),
}


class TestWrong:
    @pytest.mark.parametrize("verdict", NO_NUMBERS)
    def test_no_numbers(self, verdict):
        function, words = NO_NUMBERS[verdict]
        row = row_of("softmax", function)
        assert row.verdict == verdict
        assert "softmax/plain" in row.why
        assert words in row.why
        assert not row.ok
        assert not row.worst

    def test_two_results_in_place_of_one(self):
        row = row_of("softmax", lambda x: (softmax(x), x))
        assert (row.verdict, "got 2 results" in row.why) == ("wrong-shape", True)

    def test_a_list_in_place_of_an_array(self):
        row = row_of("softmax", lambda x: softmax(x)[0, 0, 0].item())
        assert (row.verdict, "got float" in row.why) == ("wrong-dtype", True)

    @needs_torch
    def test_another_device(self):
        row = row_of("softmax", lambda x: torch.softmax(x, -1).to("meta"), "torch")
        assert (row.verdict, "on cpu, got meta" in row.why) == ("wrong-device", True)

    def test_no_answer(self):
        done = threading.Event()
        try:
            row = row_of("softmax", lambda x: done.wait(60.0), seconds=0.5)
        finally:
            done.set()
        assert (row.verdict, "no answer within 0.5 s" in row.why) == ("raises", True)

    def test_without_threads_it_is_asked_all_the_same(self, monkeypatch):
        def start(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        assert row_of("softmax", layers.softmax).verdict == "right"
        assert row_of("softmax", lambda x: 2.0 * x).verdict == "wrong"

    def test_not_finite(self):
        row = row_of("softmax", nan_in_one_case)
        assert (row.verdict, row.shows, names(row)) == ("not-finite", ["softmax/apart"], [])
        assert "softmax/apart in float64" in row.why

    def test_not_finite_has_a_name_where_a_reading_overflows_too(self):
        with np.errstate(all="ignore"):
            row = row_of("softmax", lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True))
        assert (row.verdict, names(row)) == ("not-finite", [["shift=nothing"]])

    def test_not_finite_is_not_right_in_float32(self):
        def computed_in_float32(x):
            x = x.astype(np.float32)
            return nan_in_one_case(x).astype(np.float64)

        assert row_of("softmax", computed_in_float32, dtypes=("float64",)).verdict == "not-finite"

    def test_wrong_has_a_name(self):
        row = row_of("softmax", lambda x: softmax(x.T).T if x.ndim == 2 else softmax(0.5 * x))
        assert (row.verdict, names(row)) == ("wrong", [["argument x=halved"]])
        assert row.worst["float64"] > 1e9 * WRONG
        assert set(row.shows) == {c.id for c in cases_of("softmax")} - {"softmax/one"}
        assert row.hidden == ["softmax/one"]

    @pytest.mark.parametrize(
        ("ratio", "verdict"),
        [
            (RIGHT - 0.01, "right"),
            (RIGHT + 0.01, "doubtful"),
            (WRONG - 0.01, "doubtful"),
            (WRONG + 0.01, "wrong"),
        ],
    )
    def test_the_bands(self, monkeypatch, ratio, verdict):
        monkeypatch.setattr(COMPARE, "scales_of", lambda *_: {"y": 2.0**-10})
        others = {c.id: "" for c in cases_of("softmax")[1:]}

        def off_in_one_element(x):
            y = softmax(x)
            y[1, 2, 3] += ratio * 2.0**-10
            return y

        how = {"dtypes": ("float64",), "gradients": False, "skip": others}
        row = row_of("softmax", off_in_one_element, **how)
        assert row.verdict == verdict
        assert row.shows == (["softmax/plain"] if verdict == "wrong" else [])
        assert row.worst["float64"] == pytest.approx(ratio, abs=1e-9)

    def test_wrong_in_float32_alone(self):
        def in_half_precision(x):
            low = np.float16 if x.dtype == np.float32 else np.float64
            return softmax(x.astype(low)).astype(x.dtype)

        others = {c.id: "" for c in cases_of("softmax")[1:]}
        row = row_of("softmax", in_half_precision, skip=others)
        assert row.verdict == "wrong"
        assert row.worst["float64"] <= RIGHT


class TestRightInFloat32Only:
    @needs_torch
    def test_values_and_gradients(self):
        row = row_of("softmax", lambda x: torch_softmax(x.float()).to(x.dtype), "torch")
        assert row.verdict == "right-in-float32-only"
        assert row.ok
        assert row.worst["float64"] > 1e6
        assert row.worst["float32"] <= RIGHT
        assert row.gradients

    @needs_torch
    def test_a_wrong_gradient_shows_all_the_same(self):
        def cut(x):
            e = (x - x.amax(-1, keepdim=True).detach()).float().exp()
            return (e / e.sum(-1, keepdim=True).detach()).to(x.dtype)

        row = row_of("softmax", cut, "torch")
        assert (row.verdict, "the sum as a constant" in row.why) == ("gradient-wrong", True)

    def test_float32_of_a_declared_reading_is_held_to_that_reading(self, monkeypatch):
        monkeypatch.setattr(COMPARE, "_SCALES", {})
        others = {c.id: "" for c in cases_of("sinkhorn") if c.id != "sinkhorn/1-iteration"}
        declared = {"follows": {"order": "rows_columns"}, "dtypes": ("float64",), "skip": others}
        assert row_of("sinkhorn", in_float32(rows_first), **declared).verdict == (
            "right-in-float32-only"
        )
        row = row_of("sinkhorn", in_float32(layers.sinkhorn), **declared)
        assert row.verdict == "wrong"


def in_float32(function):
    return lambda logits, **options: function(logits.astype("f4"), **options).astype(logits.dtype)


def sum_detached(x):
    e = (x - x.amax(-1, keepdim=True).detach()).exp()
    return e / e.sum(-1, keepdim=True).detach()


def twice_the_gradient(x):
    y = torch.softmax(x, -1)
    return 2.0 * y - y.detach()


@needs_torch
class TestGradients:
    @pytest.mark.parametrize(
        ("name", "function", "words"),
        [
            ("softmax", sum_detached, "takes the sum as a constant: is it detached?"),
            ("softmax", twice_the_gradient, "the gradient of x is twice what it should be"),
            (
                "mhc_update",
                lambda X, y, H_post, H_res: update(X, y, H_post, H_res.detach()),
                "H_res gets no gradient: is it detached?",
            ),
            (
                "deep_delta_residual",
                lambda x, k, *w, **o: layers.deep_delta_residual(x, k.detach(), *w, **o),
                "takes the direction k̂ as a constant: is it detached?",
            ),
        ],
    )
    def test_what_is_cut_is_named(self, name, function, words):
        row = row_of(name, function, "torch")
        assert row.verdict == "gradient-wrong"
        assert words in row.why
        assert not row.ok
        assert row.worst["float64"] <= RIGHT
        assert not set(row.shows) & set(row.hidden)

    def test_are_left_out_when_asked(self):
        row = row_of("softmax", sum_detached, "torch", gradients=False)
        assert (row.verdict, row.gradients) == ("right", False)


def as_deepseek(X, params, **options):
    return layers.mhc_coefficients(X, params, convention="deepseek-v4", **options)


class TestFollowing:
    @pytest.mark.parametrize("follows", ["marco", {"order": "rows_columns"}])
    def test_what_is_declared_and_holds(self, follows):
        row = row_of("sinkhorn", rows_first, follows=follows)
        assert row.verdict == "right-following"
        assert row.convention == (follows if isinstance(follows, str) else "order=rows_columns")
        assert max(row.worst.values()) <= RIGHT

    def test_a_number_that_no_reading_has(self):
        follows = {"temperature": 3.0}
        row = row_of("softmax", lambda x: softmax(x / 3.0), follows=follows)
        assert (row.verdict, row.convention) == ("right-following", "temperature=3.0")

    @pytest.mark.parametrize("follows", ["deepseek-v4", {"order": "rows_columns"}])
    def test_what_is_declared_and_does_not_hold(self, follows):
        row = row_of("sinkhorn", layers.sinkhorn, follows=follows)
        assert (row.verdict, names(row)) == ("wrong", [])
        assert row.why == "this is the contract's own: what is declared does not hold"

    def test_undeclared_it_is_wrong(self):
        row = row_of("sinkhorn", rows_first)
        assert (row.verdict, names(row)) == ("wrong", [["order=rows_columns"]])

    def test_a_further_mistake_is_named_beside_it(self):
        def transposed(logits, **options):
            return np.swapaxes(rows_first(logits, **options), -1, -2)

        row = row_of("sinkhorn", transposed, follows={"order": "rows_columns"})
        assert row.verdict == "wrong"
        assert names(row) == [["output y=transposed"]]

    def test_a_known_convention_need_not_be_declared(self):
        row = row_of("mhc_coefficients", as_deepseek)
        assert (row.verdict, row.convention) == ("right-following", "deepseek-v4")

    def test_what_concerns_another_function_is_no_matter(self):
        row = row_of("softmax", softmax, follows={"order": "rows_columns"})
        assert row.verdict == "right"


class TestWhatIsCompared:
    def test_a_function_can_be_skipped(self):
        row = row_of("softmax", fails, skip={"softmax": "issue 12"})
        assert (row.verdict, row.why, row.ok) == ("skipped", "issue 12", True)

    def test_a_case_can_be_skipped(self):
        row = row_of("softmax", nan_in_one_case, skip={"softmax/apart": "issue 12"})
        assert (row.verdict, row.cases) == ("right", len(cases_of("softmax")) - 1)

    def test_all_cases_can_be_skipped(self):
        row = row_of("softmax", fails, skip={c.id: "issue 12" for c in cases_of("softmax")})
        assert row.verdict == "skipped"

    def test_what_is_not_there_is_not_offered(self):
        report = compare({"softmax": softmax}, only=("softmax", "sinkhorn"))
        assert [row.verdict for row in report.rows.values()] == ["right", "not-offered"]
        assert report.ok

    def test_progress_is_told(self):
        told = []
        compare(
            {"softmax": softmax, "mhc_update": update},
            gradients=False,
            dtypes=("float32",),
            progress=lambda *said: told.append(said),
        )
        assert told == [("softmax", 2), ("mhc_update", 2)]

    @pytest.mark.parametrize(
        ("target", "how", "words"),
        [
            ({"softmx": softmax}, {}, "did you mean 'softmax'?"),
            ({}, {}, "expected functions of the contract"),
            (SimpleNamespace(soft=softmax), {}, "expected functions of the contract"),
            ({"softmax": softmax}, {"only": "sinkhorn"}, "expected functions of the contract"),
            ({"softmax": softmax}, {"only": "softmx"}, "did you mean 'softmax'?"),
            ({"softmax": softmax}, {"dtypes": ("float46",)}, "did you mean 'float64'?"),
            ({"softmax": softmax}, {"skip": {"softmax/plan": ""}}, "softmax"),
            ({"softmax": softmax}, {"follows": "deepsek-v4"}, "did you mean 'deepseek-v4'?"),
            ({"softmax": softmax}, {"follows": {"ordr": 1}}, "did you mean 'order'?"),
            (
                {"sinkhorn": softmax},
                {"follows": {"order": "rows_colums"}},
                "did you mean 'rows_columns'?",
            ),
            ({"softmax": softmax}, {"follows": {"below": "norms"}}, "did you mean 'norm'?"),
            ({"softmax": softmax}, {"adapter": "no_such"}, "expected adapter to be one of"),
            ({"softmax": softmax, "ARRAYS": "math"}, {}, "expected ARRAYS to be one of numpy"),
        ],
    )
    def test_unknown_names_are_refused(self, target, how, words):
        with pytest.raises(ValueError, match="expected") as caught:
            compare(target, **how)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_inputs_are_for_adapters(self):
        with pytest.raises(TypeError, match="beside an adapter alone, got x"):
            compare({"softmax": softmax}, x=1)


class TestReport:
    def report(self):
        def first_of_the_batch(X, y, H_post, H_res):
            return update(X, y, H_post[:1], H_res[:1])

        halved = {"softmax": lambda x: softmax(0.5 * x), "mhc_update": first_of_the_batch}
        return compare(halved | {"ARRAYS": "numpy"}, only=("softmax", "mhc_update", "sinkhorn"))

    def test_the_json_has_the_fixed_keys(self):
        found = json.loads(self.report().to_json())
        assert list(found) == ["format", "version", "rows"]
        assert (found["format"], found["version"]) == ("mgt-np-compare", 1)
        keys = ["function", "cases", "worst", "verdict", "readings", "symptoms"]
        for row in found["rows"]:
            assert list(row) == keys
            assert row["verdict"] in COMPARE.VERDICTS
        softmax_row, update_row, sinkhorn_row = found["rows"]
        assert set(softmax_row["worst"]) == {"float64", "float32"}
        (reading,) = softmax_row["readings"]
        assert list(reading) == ["name", "class", "says", "change"]
        assert (reading["name"], reading["class"]) == ("argument x=halved", "FACTOR")
        assert update_row["verdict"] == "wrong"
        assert all(isinstance(said, str) for said in update_row["symptoms"])
        assert (sinkhorn_row["verdict"], sinkhorn_row["cases"]) == ("not-offered", 0)

    def test_alternatives_stand_in_or(self):
        rows = COMPARE.Report({"softmax": COMPARE.Row("softmax", "wrong", 7)})
        readings = COMPARE.steps_of("softmax").readings
        rows["softmax"].explanations = [readings[:2], readings[2:3], readings[3:4]]
        (row,) = json.loads(rows.to_json())["rows"]
        first, second = row["readings"]
        assert "or" not in first
        others = [[r["name"] for r in other] for other in second["or"]]
        assert others == [[readings[2].name], [readings[3].name]]

    def test_an_infinite_error_is_a_number(self):
        report = COMPARE.Report({"softmax": COMPARE.Row("softmax", "wrong", 7)})
        report["softmax"].worst = {"float64": np.inf}
        assert json.loads(report.to_json())["rows"][0]["worst"] == {"float64": 1e300}

    def test_the_text_says_what_and_how_to_go_on(self):
        said = str(self.report())
        assert "softmax" in said
        assert "x is halved (argument x=halved)" in said
        assert "Change: leave out the factor ½." in said
        assert 'again: mgt_np.crosscheck.case("softmax/plain").run(yours.softmax)' in said
        assert said.endswith("3 functions compared, 2 wrong")
