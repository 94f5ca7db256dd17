"""Through a stack of alike steps, one by one or by JAX's scan."""

import numpy as np
import pytest

from mgt_np.arrays import through_stack, value_and_grad

rng = np.random.default_rng(0)
ENTRIES = [{"W": rng.standard_normal((3, 3)), "b": [rng.standard_normal(3)]} for _ in range(4)]
X = rng.standard_normal((2, 3))


def step(x, entry):
    for bias in entry["b"]:
        x = x + bias
    return x @ entry["W"]


def by_hand(x, entries):
    for entry in entries:
        x = (x + sum(entry["b"])) @ entry["W"]
    return x


def test_each_step_takes_what_the_one_before_gave():
    np.testing.assert_allclose(through_stack(step, X, ENTRIES), by_hand(X, ENTRIES), rtol=1e-14)


def test_no_step_gives_the_state():
    assert through_stack(step, X, []) is X


def test_gradients_go_through_it():
    def loss(entries):
        return (through_stack(step, X, entries) ** 2).sum()

    _, gradients = value_and_grad(loss)(ENTRIES)
    moved = [{"W": entry["W"].copy(), "b": entry["b"]} for entry in ENTRIES]
    moved[1]["W"][0, 2] += 1e-6
    slope = (loss(moved) - loss(ENTRIES)) / 1e-6
    assert gradients[1]["W"][0, 2] == pytest.approx(slope, rel=1e-4)


def traced(jax, entries):
    """The result under jit, and how many matrix products the program holds."""
    entries = jax.tree.map(jax.numpy.asarray, entries)
    run = jax.jit(lambda x, entries: through_stack(step, x, entries))
    program = run.lower(jax.numpy.asarray(X), entries).as_text()
    return np.asarray(run(X, entries)), program.count("dot_general")


def test_jax_compiles_one_step_for_all_that_are_alike(jax):
    result, n_products = traced(jax, ENTRIES)
    np.testing.assert_allclose(result, by_hand(X, ENTRIES), rtol=1e-13)
    assert n_products == 1


@pytest.mark.parametrize(
    "other",
    [
        {"W": ENTRIES[0]["W"], "b": []},
        {"W": ENTRIES[0]["W"], "b": [ENTRIES[0]["b"][0][:1]]},
        {"W": ENTRIES[0]["W"], "b": [ENTRIES[0]["b"][0].astype(np.float32)]},
    ],
    ids=["tree", "shape", "dtype"],
)
def test_jax_compiles_each_step_where_they_differ(jax, other):
    entries = [*ENTRIES, other]
    result, n_products = traced(jax, entries)
    np.testing.assert_allclose(result, by_hand(X, entries), rtol=1e-13)
    assert n_products == len(entries)


def test_jax_differentiates_and_maps_it(jax):
    def loss(x, entries):
        return (through_stack(step, x, entries) ** 2).sum()

    entries = jax.tree.map(jax.numpy.asarray, ENTRIES)
    _, expected = value_and_grad(lambda entries: loss(X, entries))(ENTRIES)
    gradients = jax.jit(jax.grad(loss, argnums=1))(X, entries)
    for got, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    rows = jax.vmap(lambda x: through_stack(step, x, entries))(X)
    np.testing.assert_allclose(rows, by_hand(X, ENTRIES), rtol=1e-13)
