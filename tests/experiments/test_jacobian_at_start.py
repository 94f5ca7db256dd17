"""The Jacobian of untrained stacks: against other ways to it, and verdicts that follow the rows."""

import dataclasses
import itertools

import numpy as np
import pytest
from small_settings import check_boundaries, small, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, Result, Rows, jacobian_at_start, judged, result_of
from mgt_np.experiments.jacobian_at_start import drawn, jacobian
from mgt_np.models import RESIDUAL_RULES, TransformerConfig, hidden_states, init_transformer

NAME = "jacobian-at-start"
NAN = float("nan")


def config_of(rule, depth, **options):
    sizes = {"d_model": 16, "n_heads": 4, "d_ff": 64, "n_layers": depth, "max_tokens": 4}
    form = {"activation": "relu", "causal": False, "rezero_alpha": 0.1}
    return TransformerConfig(vocab_size=4, residual=rule, **sizes, **form, **options)


def test_boundaries():
    vanishes = [(0.0, 0, 0), (0.3, 0, 9)], [(0.301, 0, 0), (NAN, NAN, NAN)]
    grows = [(3.0, 0, 9), (np.inf, 0, 9)], [(2.99, 0, 9), (NAN, NAN, NAN)]
    stays = [(0.3, 0, 9), (3.0, 0, 9)], [(0.299, 1, 1), (3.01, 1, 1), (NAN, NAN, NAN)]
    check_boundaries(NAME, vanishes, grows, stays, stays, ([1.0, 2.0], [2.001, np.inf, NAN]))


def test_verdicts_follow_the_rows():
    result = small_run(NAME)

    def with_means(**of_rules):
        return verdicts(result, mean_square=lambda row: of_rules[row["rule"]][row["depth"] - 1])

    kept = {"rezero": (1.0, 2.9), "mgt": (0.31, 1.0)}
    assert with_means(post_ln=(0.2, 1e-5), pre_ln=(4.0, 1e3), **kept) == ["holds"] * 4
    turned = {"rezero": (0.1, 4.0), "mgt": (4.0, 0.1)}
    assert with_means(post_ln=(1.0, 4.0), pre_ln=(1.0, 0.1), **turned) == ["does not hold"] * 4
    by_depth = {"rezero": (1.0, 4.0), "mgt": (0.1, 1.0)}
    first, second = (f"holds only if the stack has {depth} layers" for depth in (1, 2))
    assert with_means(post_ln=(1.0, 0.1), pre_ln=(4.0, 2.0), **by_depth) == [
        second,
        first,
        first,
        second,
    ]


def of_draws(draws, **settings):
    """A result of these draws of ‖J‖²/n, {(rule, depth): numbers}."""
    rules, depths = (tuple(dict.fromkeys(axis)) for axis in zip(*draws, strict=True))
    rows = Rows(
        {"rule": rule, "depth": depth, "seed": seed, "mean_square": value}
        for (rule, depth), values in draws.items()
        for seed, value in enumerate(values)
    )
    settings = dataclasses.replace(small(NAME), rules=rules, depths=depths, **settings)
    return Result(NAME, settings, rows)


def test_the_median_decides_and_its_quantiles_stand_beside_it():
    draws = [0.0, 0.1, 0.2, 0.3, 0.4, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0]
    (claim,) = judged(EXPERIMENTS[NAME], of_draws({("pre_ln", 3): draws}))
    assert claim.verdict == "holds"
    assert claim.measured == "3 layers: 50 (80 % of draws: 0.1 … 90)"


def test_agreement_with_the_notebook():
    """Up to what three decimals hide: its 0.000 may be any number below 0.0005."""
    printed = {("post_ln", 12): 0.405, ("post_ln", 128): 1e-7}
    printed |= {("pre_ln", 12): 20.0, ("pre_ln", 128): 140.0}
    result = of_draws({stack: [value] * 3 for stack, value in printed.items()})
    assert judged(EXPERIMENTS[NAME], result)[-1].measured == (
        "Post-LN of 12 layers: × 2.00; Pre-LN of 12 layers: × 1.95; "
        "Post-LN of 128 layers: × 1.00; Pre-LN of 128 layers: × 2.11"
    )
    assert judged(EXPERIMENTS[NAME], result)[-1].verdict == (
        "holds only if the stack is Post-LN of 12 layers or Pre-LN of 12 layers or "
        "Post-LN of 128 layers"
    )
    vanished = of_draws({("post_ln", 128): [0.0]}), of_draws({("post_ln", 128): [0.0011]})
    for each in (*vanished, of_draws({("rezero", 12): [NAN]})):
        assert judged(EXPERIMENTS[NAME], each)[-1].verdict == "does not hold"
    assert len(judged(EXPERIMENTS[NAME], of_draws({("mgt", 12): [1.0]}))) == 1


def plain_stack(x, blocks, rule):
    """The stack in plain NumPy, for complex input too, with the notebook's numbers."""

    def norm(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    def attention(x, W_q, W_k, W_v, W_o):
        q, k, v = ((x @ W).reshape(4, 4, 4).transpose(1, 0, 2) for W in (W_q, W_k, W_v))
        E = np.exp(q @ k.transpose(0, 2, 1) / 2.0)
        return (E @ v / E.sum(-1, keepdims=True)).transpose(1, 0, 2).reshape(4, 16) @ W_o

    def hidden(x, W_1, b_1, W_2, b_2):
        h = x @ W_1 + b_1
        return np.where(h.real > 0.0, h, 0.0) @ W_2 + b_2

    for block in blocks:
        for name, sublayer in (("attention", attention), ("feed_forward", hidden)):
            F = lambda x: sublayer(x, **block[name])  # noqa: B023, E731
            if rule == "post_ln":
                x = norm(x + F(x))
            elif rule == "pre_ln":
                x = x + F(norm(x))
            elif rule == "rezero":
                x = x + 0.1 * F(x)
            else:
                gate = 1.0 / (
                    1.0 + np.exp(-norm(x @ block[f"{name}_residual"]["update"]["W_gate"]))
                )
                x = x + np.tanh(0.05) * (F(norm(x)) * gate - 0.1 * x)
    return x


def plain_jacobian(x, blocks, rule):
    """∂y/∂x of the plain stack by complex steps, exact to rounding."""
    steps = 1e-30j * np.eye(64).reshape(64, 4, 16)
    return np.stack([plain_stack(x + s, blocks, rule).imag.ravel() / 1e-30 for s in steps], axis=1)


@pytest.mark.parametrize("rule", ["post_ln", "pre_ln", "rezero", "mgt"])
def test_a_row_is_that_of_a_plain_stack(rule):
    for depth, seed in itertools.product((1, 2), (0, 1)):
        x, blocks, _ = drawn(config_of(rule, depth), [0, seed])
        J = plain_jacobian(x, blocks, rule)
        np.testing.assert_allclose(
            jacobian(x, blocks, {}, config_of(rule, depth)), J, rtol=1e-9, atol=1e-12
        )
        (row,) = small_run(NAME).rows.where(rule=rule, depth=depth, seed=seed)
        square = np.mean(np.linalg.svd(J, compute_uv=False) ** 2)
        assert row["mean_square"] == pytest.approx(square, rel=1e-9)


@pytest.mark.parametrize("rule", RESIDUAL_RULES)
def test_the_jacobian_of_every_rule_is_that_of_its_hidden_states(rule, rng):
    """By central differences, along one direction."""
    config = config_of(rule, 2)
    x, blocks, read_out = drawn(config, [0, 0])
    params = init_transformer(rng, config)
    params |= {"positions": np.zeros((4, 16)), "read_out": read_out}
    params["blocks"] = blocks
    if not blocks[0]["residual"]:  # nothing that the sub-layers of a block share
        params["blocks"] = [{k: block[k] for k in block if k != "residual"} for block in blocks]
    if not read_out:
        del params["read_out"]

    def last(x):
        return hidden_states(params | {"tokens": x}, np.arange(4), config)[-1].ravel()

    v = rng.standard_normal(x.shape)
    numeric = (last(x + 1e-6 * v) - last(x - 1e-6 * v)) / 2e-6
    exact = jacobian(x, blocks, read_out, config) @ v.ravel()
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["post_ln", "pre_ln"])
def test_the_jacobian_is_that_of_pytorchs_encoder(rule):
    torch = pytest.importorskip("torch")
    x, blocks, _ = drawn(config_of(rule, 2), [0, 0])
    layers = []
    for block in blocks:
        layer = torch.nn.TransformerEncoderLayer(
            16, 4, 64, dropout=0.0, batch_first=True, norm_first=rule == "pre_ln"
        ).double()
        attention, hidden = block["attention"], block["feed_forward"]
        W_in = np.concatenate([attention[f"W_{name}"] for name in "qkv"], axis=1)
        weights = {"self_attn.in_proj_weight": W_in, "self_attn.out_proj.weight": attention["W_o"]}
        weights |= {f"linear{n}.weight": hidden[f"W_{n}"] for n in (1, 2)}
        weights |= {f"linear{n}.bias": hidden[f"b_{n}"] for n in (1, 2)}
        layer.load_state_dict({k: torch.tensor(W.T) for k, W in weights.items()}, strict=False)
        layers.append(layer)
    stack = torch.nn.Sequential(*layers)
    theirs = torch.autograd.functional.jacobian(
        stack, torch.tensor(x)[None], vectorize=True
    ).reshape(64, 64)
    ours = jacobian(x, blocks, {}, config_of(rule, 2))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_networks_are_drawn_as_the_notebooks():
    _, blocks, _ = drawn(config_of("pre_ln", 60), [0, 0])
    fans = {"W_q": 64, "W_k": 64, "W_v": 64, "W_o": 32}
    for name, fan in fans.items():
        W = np.stack([block["attention"][name] for block in blocks])
        assert np.max(np.abs(W)) == pytest.approx(np.sqrt(6 / fan), rel=1e-3)
        assert np.std(W) == pytest.approx(np.sqrt(2 / fan), rel=0.02)  # uniform
    for n, fan_in in ((1, 16), (2, 64)):
        W = np.stack([block["feed_forward"][f"W_{n}"] for block in blocks])
        assert np.max(np.abs(W)) == pytest.approx(np.sqrt(6 / 80), rel=1e-3)
        b = [block["feed_forward"][f"b_{n}"] for block in blocks]
        assert all(np.array_equal(b[0], each) for each in b)  # copies of one layer's
        assert 0.8 * fan_in**-0.5 < np.max(np.abs(b[0])) <= fan_in**-0.5
    assert not np.array_equal(*(block["attention"]["W_q"] for block in blocks[:2]))
    many = np.stack([drawn(config_of("pre_ln", 1), [0, seed])[0] for seed in range(50)])
    assert np.std(many) == pytest.approx(1.0, rel=0.05)


def test_all_rules_and_depths_see_the_same_draws():
    x, (first, *_), _ = drawn(config_of("mgt", 2), [0, 1])
    other_x, (other,), _ = drawn(config_of("rezero", 1), [0, 1])
    assert np.array_equal(x, other_x)
    for part in ("attention", "feed_forward"):
        assert all(np.array_equal(W, other[part][name]) for name, W in first[part].items())
    assert other["residual"]["alpha"] == 0.1
    (scaled,) = drawn(config_of("deepnorm", 1), [0, 1])[1]
    ratio = scaled["feed_forward"]["W_2"] / other["feed_forward"]["W_2"]
    np.testing.assert_allclose(ratio, 8**-0.25, rtol=1e-12)


def test_what_a_rule_adds_is_drawn_apart_and_knows_its_place():
    """Every draw has gates of its own; hyper-connections read stream k first at sub-layer k."""
    gates = [
        block[f"{part}_residual"]["update"]["W_gate"]
        for seed in (0, 1)
        for block in drawn(config_of("mgt", 2), [0, seed])[1]
        for part in ("attention", "feed_forward")
    ]
    assert len({gate.tobytes() for gate in gates}) == len(gates) == 8
    config = config_of("hc", 2)
    theirs = init_transformer(np.random.default_rng(0), config)["blocks"]
    for ours, block in zip(drawn(config, [0, 0])[1], theirs, strict=True):
        for part in ("attention_residual", "feed_forward_residual"):
            first, second = (each[part]["connection"]["A_m"] for each in (ours, block))
            np.testing.assert_array_equal(first, second)


def test_another_seed_shares_nothing():
    ours, theirs = (small_run(NAME, seed=seed).rows.column("mean_square") for seed in (0, 1))
    assert len({*ours, *theirs}) == len(ours) + len(theirs) == 32


def test_rows_do_not_depend_on_the_library():
    pytest.importorskip("torch")
    ours, theirs = small_run(NAME).rows, small_run(NAME, array_library="torch").rows
    np.testing.assert_allclose(theirs.column("mean_square"), ours.column("mean_square"), rtol=1e-9)


def test_float32():
    result = result_of(EXPERIMENTS[NAME], small(NAME, dtype="float32"))
    ours = small_run(NAME).rows.column("mean_square")
    np.testing.assert_allclose(result.rows.column("mean_square"), ours, rtol=1e-4)
    assert result.rows.column("mean_square") != ours


def test_figure():
    """Each panel has its claim's own words, the draws and medians, and the notebook's means."""
    draws = {(rule, L): [0.1, 1.0, 7.0] for rule in ("post_ln", "mgt") for L in (12, 128)}
    result = of_draws(draws)
    verdicts = judged(EXPERIMENTS[NAME], result)
    left, right = jacobian_at_start.plot(result, verdicts).axes
    assert left.get_title(loc="left").replace("\n", " ") == f"{verdicts[0].title}: does not hold"
    assert right.get_title(loc="left").replace("\n", " ") == f"{verdicts[1].title}: holds"
    dots, medians, theirs, _ = left.lines
    np.testing.assert_array_equal(dots.get_ydata(), [0.1, 1.0, 7.0] * 2)
    np.testing.assert_array_equal(medians.get_ydata(), [1.0, 1.0])
    np.testing.assert_array_equal(theirs.get_ydata(), [0.81, 5e-4])
    assert np.isnan(right.lines[2].get_ydata()).all()
