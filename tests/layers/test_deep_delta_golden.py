"""Other people's recorded Deep Delta layers: values and every gradient to 1e-12."""

from pathlib import Path

import pytest
from recorded import SHARED, agree, check

from mgt_np import (
    array_namespace,
    compress_tokens,
    convolve_and_compress_channels,
    deep_delta_expanded,
    deep_delta_residual,
    delta_apply,
    delta_gate,
    feed_forward,
    gelu,
    linear,
    rms_norm,
    rotary_embedding,
    scaled_dot_product_attention,
    sigmoid,
    silu,
    unit_direction,
)


def T(W):
    """The peers keep weights as (out, in)."""
    return array_namespace(W).matrix_transpose(W)


@pytest.fixture
def holds(golden, library):
    """Hold `function(p, f)` to a file f, with p its inputs and weights by their names there."""

    def check_file(name, function):
        f = golden(name)
        keys = [key for key in f if key.partition(".")[0] in ("in", "w")]

        def of_arrays(*arrays):
            return function(dict(zip(keys, arrays, strict=True)), f)

        arrays, gradients = ([f[prefix + key] for key in keys] for prefix in ("", "g"))
        check(library, of_arrays, arrays, f["out.y"], f["R"], gradients)

    return check_file


def v_form(f):
    if f.get("cfg.v_constant", False):
        return "constant"
    return "sigmoid4" if f["cfg.v_sigmoid"] else "linear"


@pytest.mark.parametrize("name", ["vdim1", "vdim1_v_linear", "vdim1_v_constant"])
def test_official_residual(name, holds):
    def layer(p, f):
        weights = T(p["w.v_proj.weight"]), T(p["w.beta.weight"])
        biases = p["w.v_proj.bias"], p["w.beta.bias"]
        options = {
            "context": p["in.context"],
            "v_form": v_form(f),
            "eps": float(f["cfg.ddl_k_eps"]),
        }
        return deep_delta_residual(p["in.x"], p["in.k_in"], *weights, *biases, **options)

    holds(f"ddl_official_{name}", layer)


def test_official_residual_with_a_gate_of_two_layers(holds):
    def layer(p, f):
        return deep_delta_residual(
            p["in.x"],
            p["in.k_in"],
            T(p["w.v_proj.weight"]),
            T(p["w.beta_out.weight"]),
            p["w.v_proj.bias"],
            p["w.beta_out.bias"],
            T(p["w.beta_in.weight"]),
            context=p["in.context"],
            v_form=v_form(f),
        )

    holds("ddl_official_vdim1_beta_mlp", layer)


@pytest.mark.parametrize("name", ["expanded_dv3", "expanded_dv3_v_linear"])
def test_official_expanded_state(name, holds):
    def layer(p, f):
        weights = T(p["w.v_proj.weight"]), T(p["w.beta.weight"])
        biases = p["w.v_proj.bias"], p["w.beta.bias"]
        options = {"context": p["in.context"], "v_input": p["in.v_in"], "v_form": v_form(f)}
        return deep_delta_expanded(p["in.x"], p["in.k_in"], *weights, *biases, **options)

    holds(f"ddl_official_{name}", layer)


@pytest.mark.parametrize("name", ["norope_noqknorm", "rope_qknorm"])
def test_official_block(name, holds):
    """Causal attention, then SwiGLU; the output of each is the direction of an update."""

    def split(x, f):
        xp = array_namespace(x)
        heads = xp.reshape(x, (*x.shape[:-1], int(f["cfg.num_heads"]), -1))
        return xp.permute_dims(heads, (0, 2, 1, 3))

    def attention(c, p, f):
        q, k, v = (split(linear(c, T(p[f"w.attn.c_{n}.weight"])), f) for n in "qkv")
        if f["cfg.rope_ratio"] > 0:
            q, k = (rotary_embedding(x, base=float(f["cfg.rope_base"])) for x in (q, k))
        if f["cfg.use_qk_rmsnorm"]:
            q = rms_norm(q, p["w.attn.q_rms.weight"], eps=1e-5)
            k = rms_norm(k, p["w.attn.k_rms.weight"], eps=1e-5)
        heads = scaled_dot_product_attention(q, k, v, causal=True)
        xp = array_namespace(heads)
        joined = xp.reshape(xp.permute_dims(heads, (0, 2, 1, 3)), c.shape)
        return linear(joined, T(p["w.attn.c_proj.weight"]))

    def swiglu(c, p, f):
        gate, value = (linear(c, T(p[f"w.mlp.c_fc{i}.weight"])) for i in (1, 2))
        return linear(silu(gate) * value, T(p["w.mlp.c_proj.weight"]))

    def block(p, f):
        x = p["in.x"]
        for norm, sublayer, ddl in (("ln_1", attention, "ddl_attn"), ("ln_2", swiglu, "ddl_mlp")):
            c = rms_norm(x, p[f"w.{norm}.weight"], eps=float(f["cfg.rms_eps"]))
            x = deep_delta_residual(
                x,
                sublayer(c, p, f),
                T(p[f"w.{ddl}.v_proj.weight"]),
                T(p[f"w.{ddl}.beta.weight"]),
                p[f"w.{ddl}.v_proj.bias"],
                p[f"w.{ddl}.beta.bias"],
                context=c,
                v_form="sigmoid4",
            )
        return x

    holds(f"ddl_official_block_{name}", block)


def test_shrijeeth_reads_the_direction_from_the_state_and_the_value_from_the_sublayer(holds):
    def layer(p, f):
        x = p["in.x"]
        weights = T(p["w.k_proj.0.weight"]), T(p["w.k_proj.2.weight"])
        k = feed_forward(x, *weights, activation="silu")
        return deep_delta_residual(
            x,
            k,
            T(p["w.v_proj.weight"]),
            T(p["w.beta_proj.weight"]),
            b_beta=p["w.beta_proj.bias"],
            context=x,
            v_input=p["in.residual_signal"],
            eps=float(f["cfg.normalize_eps"]),
        )

    holds("ddl_shrijeeth_v1", layer)


def test_edelta_applies_one_operator_to_a_whole_sequence(holds):
    """k and β read the mean of all tokens, later ones too: the operator is not causal."""

    def net(pooled, p, name):
        layers = ((p[f"w.{name}.{i}.weight"], p[f"w.{name}.{i}.bias"]) for i in (0, 2))
        (W_1, b_1), (W_2, b_2) = layers
        return linear(gelu(linear(pooled, T(W_1), b_1)), T(W_2), b_2)

    def operator(p, f):
        x = p["in.x"]
        xp = array_namespace(x)
        pooled = xp.mean(x, axis=-2)
        k = unit_direction(net(pooled, p, "k_net"), eps=1e-12)
        beta = 2.0 * sigmoid(xp.squeeze(net(pooled, p, "beta_net"), axis=-1))
        return T(delta_apply(T(x), k, beta))

    holds("ddl_edelta_pooled_operator", operator)


def test_edelta_gate_is_one_of_two_layers_with_another_nonlinearity(golden, library):
    f = golden("ddl_edelta_pooled_operator")
    pooled = f["in.x"].mean(axis=-2)
    weights = {key: f[f"w.beta_net.{key}"] for key in ("0.weight", "0.bias", "2.weight", "2.bias")}
    hidden = gelu(pooled @ weights["0.weight"].T + weights["0.bias"])
    arrays = library.asarray((hidden, weights["2.weight"].T, weights["2.bias"]))
    agree(delta_gate(*arrays), f["out.beta"][:, 0, 0])


@pytest.mark.parametrize("kind", ["readout_cc", "readout_tc"])
def test_official_compressors(kind, holds):
    """At the read-out, where RMS norm and the tied head follow."""

    def readout(p, f):
        X, w = p["in.x"], p["w.readout.read"]
        xp = array_namespace(X)
        if kind == "readout_cc":
            x = convolve_and_compress_channels(X, p["w.readout.weight"], w)
        else:  # their last tap is this token, our first
            kernel = xp.reshape(p["w.readout.shortconv.weight"], (*X.shape[-2:], -1))
            x = compress_tokens(X, xp.flip(kernel, axis=-1), w)
        normed = rms_norm(x, p["w.ln_f.weight"], eps=float(f["cfg.rms_eps"]))
        return linear(normed, T(p["w.lm_head.weight"]))

    holds(f"ddl_official_expanded_{kind}", readout)


# Blocks and models of an expanded state: held in tests/models/rules/test_ddl_golden.py.
IN_MODELS = (
    "expanded_block_cc_norope_noqknorm",
    "expanded_block_cc_rope_qknorm",
    "expanded_block_tc_norope_noqknorm",
    "expanded_model_cc_ec_identity",
    "expanded_model_cc_ec_random",
)


def test_no_recorded_file_is_left_out(golden):
    source = Path(__file__).read_text(encoding="utf-8")
    stems = [path.stem.removeprefix("ddl_") for path in (SHARED / "golden").glob("ddl_*.npz")]
    names = [stem.removeprefix("official_").removeprefix("block_") for stem in stems]
    names = [name.replace("expanded_readout", "readout") for name in names]
    assert len(names) >= 17
    assert set(IN_MODELS) <= set(names)
    assert [name for name in names if name not in source] == []
