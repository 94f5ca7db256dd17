"""mHC's rule: its starts, norms and read-outs by name, the single pass, and recorded models."""

import dataclasses

import numpy as np
import pytest

from mgt_np import (
    MHC_CONVENTIONS,
    RESIDUAL_RULES,
    MHCConvention,
    TransformerConfig,
    array_namespace,
    cross_entropy,
    feed_forward,
    grad,
    hidden_states,
    init_transformer,
    layer_norm,
    linear,
    mhc_coefficients,
    mhc_read,
    mhc_update,
    multi_head_attention,
    rms_norm,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=2, d_ff=12, max_tokens=6, residual="mhc"
)
RULE = RESIDUAL_RULES["mhc"]


def with_options(**settings):
    return dataclasses.replace(CONFIG, **settings)


def moved_params(rng, config):
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)


def connections_of(params):
    return [
        block[f"{name}_residual"]["connection"]
        for block in params["blocks"]
        for name in ("attention", "feed_forward")
    ]


# ---- starts


@pytest.mark.parametrize("start", ["transformers", "megatron"])
def test_the_large_code_bases_start_at_one_over_n(start, rng):
    """b = 0: H_pre = ½, H_post = 1 and H_res = 1/n, but for φ."""
    params = init_transformer(rng, with_options(mhc_start=start))
    X = rng.standard_normal((5, 4, 8))
    for connection in connections_of(params):
        still = connection | {f"alpha_{part}": np.zeros(()) for part in ("pre", "post", "res")}
        H_pre, H_post, H_res = mhc_coefficients(X, still)
        for got, expected in ((H_pre, 0.5), (H_post, 1.0), (H_res, 0.25)):
            np.testing.assert_allclose(got, np.full(got.shape, expected), rtol=1e-14)


@pytest.mark.parametrize(("start", "alpha"), [("transformers", 1.0), ("megatron", 0.01)])
def test_the_scales_of_the_large_code_bases(start, alpha, rng):
    """φ is N(0, 0.02²), or uniform within √(6/(fan_in + fan_out)) of one matrix of all three."""
    config = with_options(mhc_start=start, d_model=128, weight_scale=3.0)
    for connection in connections_of(init_transformer(rng, config)):
        assert {float(connection[f"alpha_{part}"]) for part in ("pre", "post", "res")} == {alpha}
        phi = np.hstack([connection[f"phi_{part}"] for part in ("pre", "post", "res")])
        assert phi.shape == (512, 24)
        uniform = start == "megatron"
        std = np.sqrt(2.0 / (512 + 24)) if uniform else 0.02
        assert np.std(phi) == pytest.approx(std, rel=0.03)
        assert (np.max(np.abs(phi)) < np.sqrt(3.0) * std) == uniform


@pytest.mark.parametrize("convention", MHC_CONVENTIONS)
@pytest.mark.parametrize("start", ["transformers", "megatron"])
def test_every_convention_has_every_start(start, convention, rng):
    config = with_options(mhc_start=start, mhc_convention=convention, n_streams=3)
    assert np.all(np.isfinite(transformer(init_transformer(rng, config), TOKENS, config)))


# ---- norms


@pytest.mark.parametrize(("name", "norm"), [("rms", rms_norm), ("none", None)])
def test_the_norm_in_front_of_a_sublayer(name, norm, rng):
    """mHC, eq. 3: X' = H_res X + H_postᵀ F(H_pre X), F with a norm in front or alone."""
    config = with_options(mhc_norm=name)
    params = moved_params(rng, config)
    X = np.stack([params["tokens"][TOKENS] + params["positions"][:5]] * 4, axis=-2)
    for block in params["blocks"]:
        for sublayer in ("attention", "feed_forward"):
            residual = block[f"{sublayer}_residual"]
            assert residual.keys() == {"connection"} | ({"norm"} if norm else set())
            H_pre, H_post, H_res = mhc_coefficients(X, residual["connection"])
            x = mhc_read(X, H_pre)
            x = norm(x, **residual["norm"]) if norm else x
            if sublayer == "attention":
                y = multi_head_attention(x, **block["attention"], n_heads=2, causal=True)
            else:
                y = feed_forward(x, **block["feed_forward"])
            X = mhc_update(X, y, H_post, H_res)
    last = np.mean(X, axis=-2)
    np.testing.assert_allclose(hidden_states(params, TOKENS, config)[-1], last, atol=1e-12)
    last = (norm or layer_norm)(last, **params["final_norm"])
    expected = linear(last, params["W_out"])
    np.testing.assert_allclose(transformer(params, TOKENS, config), expected, atol=1e-12)


# ---- read-out


def test_a_head_starts_as_the_mean(rng):
    """σ(−log(n − 1)) = 1/n, where φ moves nothing; of the large code bases' start, n/2 times it."""
    for start, factor in (("identity", 1.0), ("transformers", 2.0)):
        config = with_options(mhc_read_out="head", mhc_start=start)
        params = init_transformer(rng, config)
        assert params["read_out"].keys() == {"phi_pre", "b_pre", "alpha_pre"}
        params["read_out"]["alpha_pre"] = np.zeros(())
        mean = {name: part for name, part in params.items() if name != "read_out"}
        expected = hidden_states(mean, TOKENS, with_options(mhc_start=start))[1:]
        got = hidden_states(params, TOKENS, config)[1:]
        np.testing.assert_allclose(got, factor * expected, rtol=0, atol=1e-12)


def test_a_static_convention_has_a_static_head(rng):
    row = MHCConvention(projection="static")
    config = with_options(mhc_convention=row, mhc_read_out="head")
    params = moved_params(rng, config)
    assert params["read_out"].keys() == {"b_pre"}
    assert connections_of(params)[0].keys() == {"b_pre", "b_post", "b_res"}
    transformer(params, TOKENS, config)


@pytest.mark.parametrize("settings", [{"mhc_read_out": "head"}, {"mhc_single_pass": True}], ids=str)
def test_no_parameter_of_a_read_out_is_idle(settings, rng):
    config = with_options(**settings)
    params = moved_params(rng, config)

    def loss(params):
        return cross_entropy(transformer(params, TOKENS[:, :-1], config), TOKENS[:, 1:])

    _, gradients = value_and_grad(loss)(params)
    idle = {path for path, g in leaves_with_paths(gradients) if np.max(np.abs(g)) < 1e-12}
    first = "['blocks'][0]['attention_residual']['connection']"
    expected = {f"['blocks'][{i}]['attention']['b_k']" for i in range(2)}
    expected |= {f"{first}['{name}']" for name in ("phi_res", "b_res", "alpha_res")}
    assert idle == expected
    for every in (1, 2):
        config_of_segments = dataclasses.replace(config, checkpoint_every=every)
        agree(transformer(params, TOKENS, config_of_segments), transformer(params, TOKENS, config))


# ---- a single pass


def test_in_a_single_pass_a_sublayer_reads_by_the_coefficients_before(rng):
    """DeepSeek-V4.1: u_l = H_pre^{l−1} X_l, the first e₀; the last H_pre is the read-out."""
    config = with_options(mhc_single_pass=True)
    params = moved_params(rng, config)
    x = params["tokens"][TOKENS] + params["positions"][:5]
    X, before, states = np.stack([x] * 4, axis=-2), np.array([1.0, 0, 0, 0]), [x]
    assert np.array_equal(RULE.expand(x, config)[..., -1], np.broadcast_to(before, (2, 5, 4)))
    for block in params["blocks"]:
        for name in ("attention", "feed_forward"):
            residual = block[f"{name}_residual"]
            H_pre, H_post, H_res = mhc_coefficients(X, residual["connection"])
            read = layer_norm(np.einsum("...n,...nd->...d", before, X), **residual["norm"])
            if name == "attention":
                y = multi_head_attention(read, **block["attention"], n_heads=2, causal=True)
            else:
                y = feed_forward(read, **block["feed_forward"])
            X = np.einsum("...ij,...jd->...id", H_res, X) + H_post[..., None] * y[..., None, :]
            before = H_pre
        states.append(np.einsum("...n,...nd->...d", before, X))
    np.testing.assert_allclose(hidden_states(params, TOKENS, config), states, rtol=0, atol=1e-12)


def test_a_single_pass_has_no_other_read_out():
    with pytest.raises(ValueError, match=r"mhc_read_out to be 'mean' with mhc_single_pass.*'head'"):
        with_options(mhc_single_pass=True, mhc_read_out="head")


# ---- recorded


def check(f, function):
    """Hold `function` of the recorded inputs and weights, by name, to outputs and gradients."""
    names = [name for name in f if name.partition(".")[0] in ("in", "w")]
    arrays = [f[name] for name in names]

    def found(arrays):
        return function(dict(zip(names, arrays, strict=True)))

    for name, got in found(arrays).items():
        agree(got, f[f"out.{name}"])
    gradients = grad(lambda arrays: (found(arrays)["y"] * f["R"]).sum())(arrays)
    for name, got in zip(names, gradients, strict=True):
        agree(got, f[f"g{name}"])


def agree(got, expected):
    scale = max(1.0, np.max(np.abs(expected)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * scale)


def connection(W, b, scales, n):
    """Their one matrix (2n + n², n·d), bias and three scales by our names."""
    xp, ends = array_namespace(W), (0, n, 2 * n, 2 * n + n * n)
    params = {}
    for i, part in enumerate(("pre", "post", "res")):
        own = slice(ends[i], ends[i + 1])
        params[f"phi_{part}"] = xp.matrix_transpose(W[own, :])
        params[f"b_{part}"] = b[own]
        params[f"alpha_{part}"] = xp.reshape(scales[i], ())
    return params | {"b_res": xp.reshape(params["b_res"], (n, n))}


def of_width(d, **settings):
    return with_options(
        d_model=d, mhc_convention="deepseek-v4", mhc_norm="rms", mhc_read_out="head", **settings
    )


def head(p, prefix):
    xp = array_namespace(p[f"{prefix}fn"])
    return {
        "phi_pre": xp.matrix_transpose(p[f"{prefix}fn"]),
        "b_pre": p[f"{prefix}base"],
        "alpha_pre": xp.reshape(p[f"{prefix}scale"], ()),
    }


def last(x, config, gain):
    return RULE.last_norm(config)[1](x, gain)


def test_the_read_out_of_deepseek_v4(golden):
    """σ(α RMS(vec X) φ + b) + ε reads the streams out, a sum, and RMS norm follows."""
    f, config = golden("hf_deepseek_v4_n4_hyperhead"), of_width(8)

    def outputs(p):
        x = RULE.read(p["in.x"], head(p, "w.hc_"), config)
        return {"collapsed": x, "y": last(x, config, p["w.norm.weight"])}

    check(f, outputs)


@pytest.mark.parametrize("start", ["", "_start"])
def test_two_sublayers_of_deepseek_v4(start, golden):
    """Copies of the embedding, two sub-layers (each its norm alone), head, last norm."""
    f = golden(f"hf_deepseek_v4_n4_two_sublayers{start}")
    config = of_width(f["in.x"].shape[-1])
    parts = (("attn_hc", "input_layernorm"), ("ffn_hc", "post_attention_layernorm"))

    def outputs(p):
        state, found = RULE.expand(p["in.x"], config), {}
        for i, (name, norm) in enumerate(parts, start=1):
            theirs = [p[f"w.layer.{name}.{key}"] for key in ("fn", "base", "scale")]
            residual = {
                "norm": {"gain": p[f"w.layer.{norm}.weight"]},
                "connection": connection(*theirs, n=4),
            }
            state = RULE.update(state, lambda x: x, residual, config)
            found[f"streams_{i}"] = state
        x = RULE.read(state, head(p, "w.hc_head.hc_"), config)
        return found | {"head": x, "y": last(x, config, p["w.norm.weight"])}

    check(f, outputs)


@pytest.mark.parametrize("kind", ["random", "start"])
def test_a_single_pass_of_megatron(kind, golden):
    """NVIDIA/Megatron-LM, mhc_single_pass: no norm in front of the branch, an affine map."""
    f = golden(f"megatron_single_pass_mhc_{kind}")
    config = with_options(
        d_model=f["in.x"].shape[-1],
        mhc_convention="deepseek-v4",
        mhc_norm="none",
        mhc_single_pass=True,
    )

    def outputs(p):
        X, xp = p["in.x"], array_namespace(p["in.x"])
        if kind == "start":
            state = RULE.expand(X, config)
        else:  # streams that differ, and e₀ to read the first by
            first = xp.broadcast_to(xp.eye(4)[0, :], X.shape[:-1])
            state = xp.concat([X, xp.expand_dims(first, axis=-1)], axis=-1)
        found = {}
        for i in range(2):
            scales = [p[f"w.hc.{i}.alpha_{part}"] for part in ("pre", "post", "res")]
            theirs = (p[f"w.hc.{i}.mapping_proj.weight"], p[f"w.hc.{i}.bias"], scales)
            W = xp.matrix_transpose(p[f"w.branch.{i}.weight"])
            b, seen = p[f"w.branch.{i}.bias"], []

            def branch(x, W=W, b=b, seen=seen):
                seen.append(x)
                return linear(x, W, b)

            state = RULE.update(state, branch, {"connection": connection(*theirs, n=4)}, config)
            found[f"branch_input_{i + 1}"] = seen[0]
            found[f"streams_{i + 1}"] = state[..., :-1]
            found[f"h_pre_{i + 1}"] = state[..., -1]
        return found | {"y": RULE.read(state, {}, config)}

    check(f, outputs)
