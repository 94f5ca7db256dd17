"""The benchmark measures what it says: the same model everywhere, every product, every byte."""

import dataclasses
import functools
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mgt_np import cli
from mgt_np.arrays import leaves_with_paths, tree_map
from mgt_np.benchmark import IMPLEMENTATIONS, SHAPES, implementations, measuring, run
from mgt_np.benchmark.implementations import ADAMW, CLIP, Implementation, builder, ready_step
from mgt_np.benchmark.measuring import difference, interleaved, peak_bytes
from mgt_np.benchmark.packing import packed, unpacked
from mgt_np.benchmark.products import rates, step_flops, watched
from mgt_np.benchmark.shapes import Shape, problem
from mgt_np.training import adamw_init, adamw_update, clip_by_global_norm, global_norm

SMALL = Shape(batch=2, n_tokens=6, d_model=8, n_heads=2, n_layers=3, d_ff=12, vocab_size=11)
# Those that every peer has; a rule that a peer has not is left out there, and said so.
RULES = ("none", "post_ln", "pre_ln", "mgt", "mgt_mhc_only", "mgt_ddl_only")
EVERYWHERE = ("composed", "autograd")


def in_float64(rule):
    config, params, tokens = problem(SMALL, rule)
    params = tree_map(lambda x: x.astype("float64"), params)
    return dataclasses.replace(config, dtype="float64"), params, tokens


def built(name, rule, *arguments):
    if IMPLEMENTATIONS[name][0] == "jax":
        importlib.import_module("mgt_np.arrays").place("jax", dtype="float64")
    build, why = builder(name, rule)
    assert build is not None, why
    return build(*arguments)


def first_step(name, rule):
    implementation = built(name, rule, *in_float64(rule))
    return implementation.to_host(*implementation.step()), implementation.forward()


peers = pytest.mark.parametrize("name", [*EVERYWHERE, "torch", "jax", "mgt_np on jax"])


@peers
@pytest.mark.parametrize("rule", RULES)
def test_every_implementation_is_the_same_model(name, rule):
    package = IMPLEMENTATIONS[name][0]
    pytest.importorskip(package)
    expected, logits = first_step("mgt_np", rule)
    got, got_logits = first_step(name, rule)
    assert difference(got, expected) < 1e-10
    detached = got_logits if name != "torch" else got_logits.numpy()
    np.testing.assert_allclose(np.asarray(detached), logits, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # that torch.compile asks for itself
def test_what_torch_compiles_is_the_same_model(monkeypatch):
    torch = pytest.importorskip("torch")
    compiled, blocks = torch.compile, []

    def compile_without_a_compiler(function, **options):
        blocks.append(function)
        return compiled(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile_without_a_compiler)
    got, _ = first_step("torch.compile", "mgt")
    assert difference(got, first_step("mgt_np", "mgt")[0]) < 1e-10
    assert [block.__name__ for block in blocks] == ["_block"]


@pytest.mark.parametrize("rule", RULES)
def test_a_whole_training_step_is_pytorchs(rule):
    pytest.importorskip("torch")
    model = in_float64(rule)
    ours, theirs = (builder(name, rule)[0](*model) for name in ("mgt_np", "torch"))
    after = []
    for implementation in (ours, theirs):
        loss, params, _ = implementation.training()()
        after.append(implementation.to_host(loss, params))
    (loss, params), (their_loss, their_params) = after
    assert tree_map(np.shape, params) == tree_map(np.shape, their_params)
    assert loss == pytest.approx(their_loss, rel=1e-12)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)
    theirs_at = dict(leaves_with_paths(their_params))
    for path, x in leaves_with_paths(params):
        # The gradient of a key's bias is zero but for rounding, which AdamW divides by eps.
        atol = 1e-10 if path.endswith("['b_k']") else 1e-12
        np.testing.assert_allclose(x, theirs_at[path], rtol=0, atol=atol, err_msg=path)
    gradients = ours.step()[1]
    assert float(global_norm(gradients)) > CLIP
    state = adamw_init(model[1])
    clipped, _ = clip_by_global_norm(gradients, CLIP)
    tree_map(close, params, adamw_update(model[1], clipped, state, **ADAMW)[0])


@pytest.mark.parametrize("name", ["mgt_np", "composed", "torch"])
def test_a_training_goes_on_and_leaves_the_weights_of_the_others(name):
    pytest.importorskip(IMPLEMENTATIONS[name][0])
    implementation = builder(name, "mgt")[0](*problem(SMALL, "mgt"))
    before = implementation.to_host(*implementation.step())
    whole_step = implementation.training()
    losses = [float(whole_step()[0]) for _ in range(5)]
    assert losses[0] == pytest.approx(before[0], rel=1e-6)
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]
    assert difference(implementation.to_host(*implementation.step()), before) < 1e-6
    assert float(implementation.training()()[0]) == pytest.approx(losses[0], rel=1e-6)


def test_packing_and_unpacking_are_inverse():
    _, params, _ = problem(SMALL, "mgt")
    assert packed(params)["blocks"][0]["attention"]["W_qkv"].shape == (8, 24)
    tree_map(np.testing.assert_array_equal, unpacked(packed(params)), params)


def test_a_difference_is_that_of_the_worst_array():
    expected = 2.0, {"W": np.array([4.0, -8.0]), "b": np.array([1.0]), "zero": np.array([0.0])}
    assert difference(expected, expected) == 0.0
    off = 2.0, expected[1] | {"b": np.array([1.5])}
    assert difference(off, expected) == 0.5
    noise = 2.0, expected[1] | {"zero": np.array([8e-4])}  # of a hundredth of the largest, 0.08
    assert difference(noise, expected) == pytest.approx(1e-2)
    assert difference((3.0, expected[1]), expected) == 0.5
    assert difference((2.0, expected[1] | {"W": np.array([4.0, np.nan])}), expected) == np.inf
    with pytest.raises(ValueError, match="b"):
        difference((2.0, {"W": expected[1]["W"]}), expected)


def test_rounds_are_interleaved_and_each_timed_call_follows_one_that_is_not(monkeypatch):
    monkeypatch.setattr(measuring, "PAUSE", 0.0)
    calls, ticks, noted = [], [], []

    def called(name):
        calls.append(name)
        return len(calls)

    functions = {name: functools.partial(called, name) for name in "ab"}
    seconds = interleaved(functions, 2, lambda: ticks.append(1), lambda *pair: noted.append(pair))
    assert "".join(calls) == "aabb" * 3
    assert noted == [("a", 6), ("b", 8), ("a", 10), ("b", 12)]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert len(ticks) == 6


@pytest.mark.parametrize("rule", RULES)
def test_the_formula_counts_every_product_of_a_step(rule):
    step = built("composed", rule, *problem(SMALL, rule)).step
    expected = step()
    with watched() as products:
        got = step()
    assert products.flops == step_flops(SMALL, rule)
    assert products.seconds > 0.0
    assert difference(got, expected) == 0.0


def test_a_rule_without_a_formula_has_the_products_that_were_seen():
    assert step_flops(SMALL, "mhc") is None
    step = built("mgt_np", "mhc", *problem(SMALL, "mhc")).step
    found = rates(step, 1.0, SMALL, "mhc", runs=1)
    assert found["flops"] == found["counted_flops"] > step_flops(SMALL, "pre_ln")


@pytest.mark.parametrize("rule", RULES)
def test_the_fused_form_computes_no_more_products(rule):
    step = built("mgt_np", rule, *problem(SMALL, rule)).step
    with watched() as products:
        step()
    assert products.flops == step_flops(SMALL, rule)  # six tokens are one piece of attention


def test_products_are_counted_once_and_only_inside():
    import array_api_compat.numpy as xp

    before = np.matmul, xp.matmul
    x, y = np.ones((2, 3, 4)), np.ones((4, 5))
    with watched() as products:
        xp.matmul(x, y)
        np.matmul(x, y)
        with pytest.raises(ValueError, match="matmul"):
            np.matmul(x, x)
        for vector in (y[:, 0], np.ones((1, 4))):  # sums are written so
            np.matmul(vector, y)
    assert products.flops == 2 * (2 * 2 * 3 * 4 * 5)
    assert (np.matmul, xp.matmul) == before


def test_rates_fit_together(monkeypatch):
    monkeypatch.setattr("mgt_np.benchmark.products.machine_rate", lambda: 1e12)
    step = built("mgt_np", "mgt", *problem(SMALL, "mgt")).step
    found = rates(step, 0.5, SMALL, "mgt", runs=1)
    assert found["flops"] == found["counted_flops"] == step_flops(SMALL, "mgt")
    assert found["product_rate"] == found["flops"] / found["product_seconds"]
    assert found["fraction"] == found["product_rate"] / 1e12
    assert found["step_rate"] == 2 * found["flops"]


def allocating(n_bytes):
    """A step that holds so much for a moment; a spawned process imports this file for it."""
    return lambda: np.ones(n_bytes, dtype=np.int8).sum()


def test_peak_memory_is_what_the_steps_add():
    peak = peak_bytes(allocating, 64 * 2**20)
    if peak is None:
        pytest.skip("this system does not say what a process holds")
    assert 63 * 2**20 <= peak <= 72 * 2**20


def test_peak_memory_is_not_known_without_processes(monkeypatch):
    monkeypatch.setattr(sys, "platform", "emscripten")
    monkeypatch.setattr(measuring, "ProcessPoolExecutor", None)
    assert peak_bytes(allocating, 1) is None


def test_a_fresh_process_can_make_a_step():
    loss, gradients = ready_step("autograd", SMALL, "mgt")()
    assert float(loss) == pytest.approx(np.log(SMALL.vocab_size), rel=0.5)
    assert len(gradients["blocks"]) == SMALL.n_layers


@pytest.fixture
def small(monkeypatch):
    """The command at a size of milliseconds, its memory not measured."""
    monkeypatch.setattr(measuring, "PAUSE", 0.0)
    # All that the tests have loaded would be gone through again and again.
    idle = SimpleNamespace(**dict.fromkeys(("collect", "freeze", "unfreeze"), lambda: None))
    monkeypatch.setattr(measuring, "gc", idle)
    monkeypatch.setitem(SHAPES, "wide", SMALL)
    monkeypatch.setattr(run, "peak_bytes", lambda *arguments: 2**20)
    monkeypatch.setattr("mgt_np.benchmark.products.machine_rate", lambda: 1e12)


@pytest.fixture
def bare(monkeypatch):
    """An environment with neither PyTorch nor JAX."""
    found = implementations.find_spec
    monkeypatch.setattr(
        implementations,
        "find_spec",
        lambda package: None if package in ("torch", "jax") else found(package),
    )


def test_a_second_rule_is_timed_beside_the_first(small, bare, capsys):
    command = ["benchmark", "--rule", "mhc", "--against", "pre_ln", "--rounds", "1", "--json"]
    assert cli.main([*command, "--implementations", "mgt_np"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["implementation"] for row in record["rows"]] == ["mgt_np", "mgt_np pre_ln"]
    assert record["against"] == "pre_ln"
    assert record["differences"] == {}
    assert cli.main(["benchmark", "--against", "mhcc"]) == 2
    assert "did you mean 'mhc'?" in capsys.readouterr().err


def test_json_has_a_row_for_every_implementation_that_is_here(small, bare, capsys):
    assert cli.main(["benchmark", "--json", "--rounds", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["implementation"] for row in record["rows"]] == ["mgt_np", "composed", "autograd"]
    for row in record["rows"]:
        assert row.keys() == {
            *("implementation", "step_seconds", "forward_seconds", "peak_bytes"),
            *("train_seconds", "optimizer_seconds"),
        }
        assert min(row["forward_seconds"], row["step_seconds"]) > 0.0
        if row["implementation"] == "autograd":  # no such loop is written
            assert row["train_seconds"] is row["optimizer_seconds"] is None
        else:
            assert row["train_seconds"] > 0.0
            assert row["optimizer_seconds"] > 0.0
        assert row["peak_bytes"] == 2**20
    assert record["left_out"].keys() == {"torch", "torch.compile", "jax", "mgt_np on jax"}
    assert record["compile_seconds"] == {}
    assert record["differences"].keys() == {"composed", "autograd"}
    assert (record["shape"], record["rule"], record["rounds"]) == ("wide", "mgt", 2)
    assert record["command"] == "mgt-np benchmark --json --rounds 2"
    assert record["versions"]["numpy"] == np.__version__
    assert record["threads"]["processors"] >= 1
    assert record["processor"]
    assert record["gemm"]["fraction"] > 0.0
    assert {len(values) for values in record["seconds"]["step"].values()} == {2}
    for what in ("train", "optimizer"):
        times = record["seconds"][what]
        assert {name: len(values) for name, values in times.items()} == {"mgt_np": 2, "composed": 2}


def test_the_table_names_what_was_measured_and_what_was_not(small, bare, capsys):
    command = ["benchmark", "--rule", "pre_ln", "--rounds", "1"]
    assert cli.main([*command, "--implementations", "autograd, torch"]) == 0
    printed = capsys.readouterr().out
    assert "left out: torch: torch is not installed" in printed
    assert "composed" not in printed
    assert printed.count("1.0 MiB") == 2
    assert "matrix products" in printed
    assert "seen in `matmul`" not in printed
    *_, whole = printed.partition("whole step")
    whole, _, ratios = whole.partition("whole training step, clipping and AdamW in it")
    assert "mgt_np" in whole
    assert "mgt_np" in ratios
    assert "autograd" not in whole + ratios  # no such loop is written


@pytest.mark.parametrize("load", [0.2, 1.5])
def test_a_busy_machine_is_named(load, small, monkeypatch, capsys):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert cli.main(["benchmark", "--implementations", "mgt_np", "--rounds", "1"]) == 0
    assert ("not idle" in capsys.readouterr().out) == (load > 1.0)


def test_a_peer_without_the_rule_is_left_out(small, monkeypatch, capsys):
    monkeypatch.setattr("mgt_np.benchmark.in_autograd.RULES", {})
    command = ["benchmark", "--rounds", "1", "--implementations", "autograd"]
    assert cli.main(command) == 0
    assert "left out: autograd: not written there under the rule mgt" in capsys.readouterr().out


@pytest.mark.parametrize("compiles", [True, False])
def test_what_does_not_compile_is_left_out(compiles, small, monkeypatch):
    def step():
        raise RuntimeError("no compiler\nand more")

    broken = Implementation(step, step, lambda *result: result, compiles=compiles)
    monkeypatch.setattr("mgt_np.benchmark.in_autograd.build", lambda *model: broken)
    if not compiles:  # a bug, then
        with pytest.raises(RuntimeError, match="no compiler"):
            run.benchmark(names=["autograd"], rounds=1)
        return
    record = run.benchmark(names=["autograd"], rounds=1)
    assert record["left_out"] == {"autograd": "does not compile here: RuntimeError: no compiler"}
    assert [row["implementation"] for row in record["rows"]] == ["mgt_np"]


def test_what_compiles_has_its_first_step_timed(small, monkeypatch, capsys):
    from mgt_np.benchmark import in_autograd

    build = in_autograd.build
    compiling = lambda *model: dataclasses.replace(build(*model), compiles=True)  # noqa: E731
    monkeypatch.setattr(in_autograd, "build", compiling)
    command = ["benchmark", "--rounds", "1", "--implementations", "autograd"]
    assert cli.main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["compile_seconds"].keys() == {"autograd"}
    assert record["compile_seconds"]["autograd"] > 0.0
    assert cli.main(command) == 0
    assert "first step of autograd, compiled: " in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_different_gradient_gives_exit_code_1_and_no_times(options, small, monkeypatch, capsys):
    from mgt_np.benchmark import in_autograd

    build = in_autograd.build

    def wrong(*model):
        implementation = build(*model)

        def to_host(loss, gradients):
            return float(loss), gradients | {"W_out": 1.01 * gradients["W_out"]}

        return dataclasses.replace(implementation, to_host=to_host)

    monkeypatch.setattr(in_autograd, "build", wrong)
    command = ["benchmark", "--implementations", "autograd", "--rounds", "1", *options]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("mgt-np: ")
    if options:
        record = json.loads(captured.out)
        assert (record["agree"], record["rows"]) == (False, [])
        assert record["differences"]["autograd"] == pytest.approx(1e-2, rel=1e-2)
    else:
        assert "DIFFERS" in captured.out
        assert "forward" not in captured.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shape", "wid"], "did you mean 'wide'?"),
        (["--rule", "preln"], "did you mean 'pre_ln'?"),
        (["--implementations", "pytorch"], "did you mean 'torch'?"),
        (["--rounds", "0"], "at least 1 round"),
    ],
)
def test_unusable_arguments_give_one_line_and_exit_code_2(options, words, capsys, monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert cli.main(["benchmark", *options]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("mgt-np: ")
    assert words in error


def test_a_setting_that_slows_numpy_is_named(small, monkeypatch, capsys):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert cli.main(["benchmark", "--implementations", "mgt_np", "--rounds", "1"]) == 0
    assert "OPENBLAS_CORETYPE" in capsys.readouterr().err.splitlines()[0]


@pytest.fixture
def depth(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("depth")


def test_the_slope_of_a_power_is_its_exponent(depth):
    assert depth.slope([12, 25, 50], [5 * n**1.25 for n in (12, 25, 50)]) == pytest.approx(1.25)


def test_depth_prints_times_memory_and_slopes(depth, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "PAUSE", 0.0)
    monkeypatch.setattr(depth, "peak_bytes", lambda make, rule, n, every: n * 2**20)
    command = ["depth.py", "--layers", "4", "1", "2", "--runs", "2"]
    monkeypatch.setattr(sys, "argv", command)
    assert depth.main() == 0
    printed = capsys.readouterr().out
    assert "memory 1.000" in printed
    assert "4 over 1 layers" in printed
    monkeypatch.setattr(sys, "argv", [*command, "--json"])
    assert depth.main() == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["n_layers"] for row in record["rows"]] == [1, 2, 4]
    assert record["slopes"][0]["memory"] == pytest.approx(1.0)
