"""Delta dynamics: rules, verdicts, and the network that the rows are measured in."""

import inspect
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays import held
from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, delta_dynamics, judged
from mgt_np.experiments.delta_dynamics import DELTA, WRITE
from mgt_np.experiments.states import decoder_of_text
from mgt_np.layers import cross_entropy, deep_delta_residual
from mgt_np.models import hidden_states, transformer

NAME = "delta-dynamics"
THERE = There(place(), "float64")
OF_HALF = "holds only if β₀ = 0.5 (of those tried)"
WITHOUT_EPS = "holds only if ε = 0 in k̂ = k/√(‖k‖² + ε²)"


def test_boundaries():
    exact = [0.0, 1e-12], [1.01e-12, math.nan]
    others = ([1.5], [1.501, math.nan]), ([1e3], [1001.0, math.nan]), ([0.501], [0.5, math.nan])
    check_boundaries(NAME, exact, *others, exact)
    rough = [1e-4], [1.01e-4, math.nan]
    check_boundaries(NAME, rough, *others, rough, settings=small(NAME, dtype="float32"))


def test_the_verdict_on_overwriting():
    result = small_run(NAME)
    assert verdicts(result) == [WITHOUT_EPS, *["holds"] * 4]
    assert verdicts(result, deviation=1e-13)[0] == "holds"
    assert verdicts(result, deviation_without_eps=1e-11)[0] == "does not hold"
    one = changed(result, deviation=1e-13, deviation_without_eps=1e-13)
    # One layer of any network that erases is enough; those that write only do not count.
    for update, verdict in (
        (DELTA, "holds only if ε = 1e-5 in k̂ = k/√(‖k‖² + ε²)"),
        (WRITE, "holds"),
    ):
        worse = verdicts(
            one,
            deviation_without_eps=lambda row, update=update: (
                1e-3 * (row["layer"] == 2 and row["update"] == update)
            ),
        )
        assert worse[0] == verdict
    assert (
        EXPERIMENTS[NAME]
        .claims(result.settings)[0]
        .beside(changed(result, shortest_k=lambda row: 0.1 if row["update"] == DELTA else 0.01))
        .endswith("= 2e-08")
    )


@pytest.mark.parametrize(
    ("place", "column", "good", "bad"),
    [(1, "growth", 1.0, 2.0), (2, "gradient", 1.0, 1e4), (3, "effective_rank", 0.9, 0.3)],
)
def test_verdicts_are_over_the_gates_of_the_networks_that_erase(place, column, good, bad):
    result = small_run(NAME)

    def verdict(is_bad):
        def number(row):
            # the gradient is bad by its first layer, the others by their last
            where = row["layer"] == (1 if column == "gradient" else 3)
            return bad if where and is_bad(row) else good

        return verdicts(result, **{column: number})[place]

    assert verdict(lambda row: False) == "holds"
    assert verdict(lambda row: True) == "does not hold"
    assert verdict(lambda row: row["beta_init"] == 1.0) == OF_HALF
    assert verdict(lambda row: row["update"] == WRITE) == "holds"
    assert verdict(lambda row: row["d_model"] == 4) == "holds"


def test_which_layers_decide():
    result = small_run(NAME)

    def middle(x, elsewhere):
        return lambda row: x if row["layer"] == 2 else elsewhere

    assert verdicts(result, growth=middle(3.0, 1.0))[1] == "does not hold"  # the largest
    assert verdicts(result, gradient=middle(1e9, 1.0))[2] == "holds"  # the first over the last
    assert verdicts(result, gradient=middle(1e-9, 1.0))[2] == "holds"
    assert verdicts(result, gradient=lambda row: 1e4 ** row["layer"])[2] == "holds"
    assert verdicts(result, effective_rank=middle(0.1, 0.9))[3] == "holds"  # the last
    assert verdicts(result, growth=middle(math.nan, 1.0))[1] == "does not hold"


def test_the_write_only_control_stands_beside():
    result = small_run(NAME)
    numbers = {DELTA: 1.0, WRITE: 7.0}
    claims = judged(EXPERIMENTS[NAME], changed(result, growth=lambda row: numbers[row["update"]]))
    assert claims[1].measured == "β₀ = 0.5: × 1; β₀ = 1: × 1. Write only: × 7"


def network(update, beta_init=1.0):
    """The decoder of one cell of the small settings, and its row at each layer."""
    settings = small(NAME)
    sizes = {
        name: getattr(settings, name)
        for name in ("data", "n_windows", "n_tokens", "d_model", "n_heads", "depth")
    }
    rule = {"residual": "ddl", "ddl_beta_init": beta_init, "ddl_erase": update == DELTA}
    rows = small_run(NAME).rows.where(update=update, beta_init=beta_init, d_model=8)
    return *decoder_of_text(seed=[0], **sizes, **rule), {row["layer"]: row for row in rows}


def attention_sublayer(x, block, n_heads):
    """Causal attention and the DDL update of one window, in plain NumPy."""
    c = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    weights, n = block["attention"], x.shape[0]
    heads = []
    for Q, K, V in zip(
        *(np.split(c @ weights[W], n_heads, axis=1) for W in ("W_q", "W_k", "W_v")), strict=True
    ):
        scores = np.where(np.tri(n, dtype=bool), Q @ K.T / math.sqrt(Q.shape[1]), -np.inf)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ V)
    k = np.concatenate(heads, axis=1) @ weights["W_o"]
    gate = block["attention_residual"]["update"]
    beta = 2.0 / (1.0 + np.exp(-(c @ gate["W_beta"] + gate["b_beta"])))
    return k, beta, c @ gate["W_v"] + gate["b_v"]


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("update", [DELTA, WRITE])
def test_the_step_is_that_of_the_decoder(update, layer):
    config, params, text, rows = network(update)
    assert all(
        np.all(gain == 1.0) for gain in params["blocks"][0]["attention_residual"]["norm"].values()
    )
    x = hidden_states(params, text, config)[layer - 1, 0]
    k, beta, v = attention_sublayer(x, params["blocks"][layer - 1], config.n_heads)
    lengths = np.linalg.norm(k, axis=1)
    assert rows[layer]["shortest_k"] == pytest.approx(np.min(lengths), rel=1e-9)
    error = np.abs(np.sum(k * x, axis=1) / lengths - v[:, 0])
    eps = inspect.signature(deep_delta_residual).parameters["eps"].default
    assert eps == delta_dynamics.EPS
    left = beta[:, 0] * (eps / lengths) ** 2 * error
    if update == DELTA:
        assert rows[layer]["deviation"] == pytest.approx(np.max(left) / np.max(error), rel=1e-2)
        assert rows[layer]["deviation_without_eps"] < 1e-14
    else:  # what it should have erased is still there
        kept = np.max(beta[:, 0] * np.abs(np.sum(k * x, axis=1)) / lengths) / np.max(error)
        for column in delta_dynamics.DEVIATIONS:
            assert rows[layer][column] == pytest.approx(kept, rel=1e-6)


@pytest.mark.parametrize("update", [DELTA, WRITE])
def test_state_and_rank_are_those_of_the_decoder(update):
    config, params, text, rows = network(update)
    states = hidden_states(params, text, config)[:, 0]
    assert list(rows) == [1, 2, 3]
    for layer, row in rows.items():
        norms = np.linalg.norm(states, axis=(-2, -1))
        assert row["growth"] == pytest.approx(norms[layer] / norms[0], rel=1e-9)
        p = np.linalg.svd(states[layer], compute_uv=False)
        p = p / p.sum()
        rank = np.exp(-np.sum(p * np.log(p))) / min(states.shape[1:])
        assert row["effective_rank"] == pytest.approx(rank, rel=1e-9)


def test_the_gradient_is_that_of_the_next_tokens_loss():
    config, params, text, rows = network(DELTA)
    W = params["blocks"][1]["attention"]["W_o"]

    def loss():
        return float(cross_entropy(transformer(params, text[:, :-1], config), text[:, 1:]))

    def slope(place, step=1e-5):
        kept, values = W[place], []
        for sign in (1.0, -1.0):
            W[place] = kept + sign * step
            values.append(loss())
        W[place] = kept
        return (values[0] - values[1]) / (2.0 * step)

    norm = np.linalg.norm([slope(place) for place in np.ndindex(W.shape)])
    assert rows[2]["gradient"] == pytest.approx(norm, rel=1e-6)


def test_arms_that_are_compared_see_the_same_draws():
    """What the first attention answers depends on neither β₀ nor the update."""
    rows = small_run(NAME).rows.where(layer=1, d_model=8)
    assert len(rows) == 4
    assert len(set(rows.column("shortest_k"))) == 1
    other = small_run(NAME, seed=1).rows.where(layer=1, d_model=8)
    assert other[0]["shortest_k"] != rows[0]["shortest_k"]


def test_other_widths_are_run_at_one_and_never_twice():
    cells = delta_dynamics.tasks(small(NAME, widths=(4, 8, 12)))
    others = [cell for cell in cells if cell["d_model"] != 8]
    assert [(c["d_model"], c["beta_init"], c["update"]) for c in others] == [
        (4, 1.0, DELTA),
        (12, 1.0, DELTA),
    ]
    assert len(cells) == 6


@pytest.mark.parametrize("fault", ["answers", "decay", "gradient"])
def test_a_form_that_is_wrong_is_seen(monkeypatch, fault):
    right = delta_dynamics.layers.delta_rule

    def wrong(q, k, v, beta, log_alpha, *, form, chunk_size):
        if form == "chunked" and fault == "decay":
            log_alpha = 0.5 * log_alpha
        if form == "chunked" and fault == "gradient":
            v = held(v) + 0.0 * v
        answers = right(q, k, v, beta, log_alpha, form=form, chunk_size=chunk_size)
        return answers * (1.0 + 1e-6) if form == "chunked" and fault == "answers" else answers

    def difference():
        return delta_dynamics._difference_of_forms(THERE, [0], 1.0, 20)

    assert difference() < 1e-13
    monkeypatch.setattr(delta_dynamics.layers, "delta_rule", wrong)
    assert difference() > 1e-7


def test_the_forms_are_compared_on_gated_sequences(monkeypatch):
    right, seen = delta_dynamics.layers.delta_rule, []

    def watched(q, k, v, beta, log_alpha, **options):
        seen.append([np.asarray(held(x)) for x in (k, beta, log_alpha)])
        return right(q, k, v, beta, log_alpha, **options)

    monkeypatch.setattr(delta_dynamics.layers, "delta_rule", watched)
    for beta_init, low, high in ((0.02, 0.0, 0.52), (1.0, 0.5, 1.5), (1.98, 1.48, 2.0)):
        seen.clear()
        delta_dynamics._difference_of_forms(THERE, [0], beta_init, 100)
        for k, beta, log_alpha in seen:
            assert np.linalg.norm(k, axis=1) == pytest.approx(1.0, abs=1e-12)
            assert low <= np.min(beta) < low + 0.05
            assert high - 0.05 < np.max(beta) <= high
            assert np.all((log_alpha < 0.0) & (log_alpha > -0.1))
        first, *others = seen
        assert all(
            np.array_equal(a, b) for other in others for a, b in zip(first, other, strict=True)
        )


def test_titles_are_verdicts():
    result = small_run(NAME)
    claims = judged(EXPERIMENTS[NAME], changed(result, growth=2.0))
    titles = [ax.get_title(loc="left") for ax in delta_dynamics.plot(result, claims).axes]
    assert [title.splitlines()[-1] for title in titles[:2]] == ["does not hold", "holds"]
