"""Both DDL rules with their authors' sub-layers in place of ours: blocks, read-out, whole models.

Recorded from yifanzhang-pro/deep-delta-learning, whose v is 4σ(·) of the state, and whose norms
have ε = 1e-5: options here.
"""

import numpy as np
import pytest

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    array_namespace,
    cross_entropy,
    grad,
    linear,
    rms_norm,
    rotary_embedding,
    scaled_dot_product_attention,
    short_convolution,
    silu,
)

SIZES = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 21, "max_tokens": 5}
AS_IN_THE_CODE = {"ddl_v_form": "sigmoid4", "ddl_v_from": "state", "ddl_norm_eps": 1e-5}
BLOCKS = ["norope_noqknorm", "rope_qknorm"]


def config_of(residual, **settings):
    return TransformerConfig(**SIZES, **AS_IN_THE_CODE, **settings, residual=residual)


def check(f, function):
    """Hold `function` of the recorded inputs and weights, by name, to outputs and gradients."""
    names = [name for name in f if name.partition(".")[0] in ("in", "w") and f[name].dtype == float]
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


def T(W):
    return array_namespace(W).matrix_transpose(W)


def split(x):
    xp = array_namespace(x)
    return xp.permute_dims(xp.reshape(x, (*x.shape[:-1], 2, -1)), (0, 2, 1, 3))


def attention(p, prefix, f):
    def F(c):
        xp = array_namespace(c)
        q, k, v = (split(linear(c, T(p[f"{prefix}attn.c_{name}.weight"]))) for name in "qkv")
        if f["cfg.rope_ratio"] > 0:
            q, k = (rotary_embedding(x, base=float(f["cfg.rope_base"])) for x in (q, k))
        if f["cfg.use_qk_rmsnorm"]:
            q = rms_norm(q, p[f"{prefix}attn.q_rms.weight"], eps=1e-5)
            k = rms_norm(k, p[f"{prefix}attn.k_rms.weight"], eps=1e-5)
        heads = scaled_dot_product_attention(q, k, v, causal=True)
        joined = xp.reshape(xp.permute_dims(heads, (0, 2, 1, 3)), c.shape)
        return linear(joined, T(p[f"{prefix}attn.c_proj.weight"]))

    return F


def swiglu(p, prefix, f):
    def F(c):
        gate, value = (linear(c, T(p[f"{prefix}mlp.c_fc{i}.weight"])) for i in (1, 2))
        return linear(silu(gate) * value, T(p[f"{prefix}mlp.c_proj.weight"]))

    return F


def block(state, p, f, config, prefix="w.", shared=None):
    """The states behind both sub-layers, by the rule's own `update`."""
    states, update = [], RESIDUAL_RULES[config.residual].update
    for norm, sublayer, ddl in (("ln_1", attention, "ddl_attn"), ("ln_2", swiglu, "ddl_mlp")):
        residual = {
            "norm": {"gain": p[f"{prefix}{norm}.weight"]},
            "update": {
                "W_v": T(p[f"{prefix}{ddl}.v_proj.weight"]),
                "b_v": p[f"{prefix}{ddl}.v_proj.bias"],
                "W_beta": T(p[f"{prefix}{ddl}.beta.weight"]),
                "b_beta": p[f"{prefix}{ddl}.beta.bias"],
            },
        }
        residual |= shared or {}
        state = update(state, sublayer(p, prefix, f), residual, config)
        states.append(state)
    return states


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_one_value_channel(name, golden):
    """DDL, eq. 3.7: k is the sub-layer's output, and nothing else is added."""
    f = golden(f"ddl_official_block_{name}")
    config = config_of("ddl")
    check(f, lambda p: {"y": block(p["in.x"], p, f, config)[-1]})


def compressor(p, prefix, config):
    """The code's compressors by our names: CC convolves over channels, TC over tokens."""
    read = p[f"{prefix}.read"]
    if config.ddl_compressor == "convolution":
        return {"compressor": {"kernel": p[f"{prefix}.weight"], "w": read}}
    xp = array_namespace(read)  # their last tap is this token, our first
    kernel = xp.reshape(p[f"{prefix}.shortconv.weight"], (8, config.ddl_value_channels, -1))
    return {"compressor": {"kernel": xp.flip(kernel, axis=-1), "w": read}}


@pytest.mark.parametrize("name", ["cc_norope_noqknorm", "cc_rope_qknorm", "tc_norope_noqknorm"])
def test_a_block_of_several_value_channels(name, golden):
    """One compressor reads the state before attention and before the feed-forward layer."""
    f = golden(f"ddl_official_expanded_block_{name}")
    config = expanded(f)

    def outputs(p):
        shared = compressor(p, "w.compress", config)
        x_mid, y = block(p["in.x"], p, f, config, shared=shared)
        read = RESIDUAL_RULES["ddl_expanded"].read
        return {
            "y": y,
            "x_mid": x_mid,
            "x_in_attn": read(p["in.x"], shared, config),
            "x_in_mlp": read(x_mid, shared, config),
        }

    check(f, outputs)


def expanded(f):
    kind = {"cc": "convolution", "tc": "tokens"}[str(f["cfg.compressor"])]
    options = {"ddl_compressor": kind, "ddl_kernel_size": 3, "ddl_value_channels": 3}
    return config_of("ddl_expanded", **options)


def read_out(state, p, config):
    """The end of the model, by the rule's own `read` and `last_norm`."""
    rule = RESIDUAL_RULES["ddl_expanded"]
    x = rule.read(state, compressor(p, "w.readout", config), config)
    _, norm = rule.last_norm(config)
    return x, norm(x, p["w.ln_f.weight"])


@pytest.mark.parametrize("kind", ["cc", "tc"])
def test_the_read_out(kind, golden):
    """A compressor with weights of its own, then RMS norm: no mean over the channels."""
    f = golden(f"ddl_official_expanded_readout_{kind}")
    config = expanded(f)

    def outputs(p):
        x, normed = read_out(p["in.x"], p, config)
        return {"readout": x, "normed": normed, "y": linear(normed, T(p["w.lm_head.weight"]))}

    check(f, outputs)


@pytest.mark.parametrize("start", ["identity", "random"])
def test_a_whole_model(start, golden):
    """Embeddings, the convolution EC over them, two blocks, read-out, the tied head, the loss.

    EC at its start, the identity, is the rule's own `expand`.
    """
    f = golden(f"ddl_official_expanded_model_cc_ec_{start}")
    config = expanded(f)
    if start == "identity":
        x = f["w.transformer.wte.weight"][f["in.idx"]]
        agree(RESIDUAL_RULES["ddl_expanded"].expand(x, config), f["out.state_0"])

    def outputs(p):
        E = p["w.transformer.wte.weight"]
        xp = array_namespace(E)
        x = E[f["in.idx"]]
        kernel = xp.reshape(p["w.input_embed.conv.weight"], (8, 3, -1))
        state = short_convolution(xp.expand_dims(x, axis=-1), xp.flip(kernel, axis=-1))
        found = {"state_0": state}
        for i in range(2):
            prefix = f"w.transformer.h.{i}."
            shared = compressor(p, f"{prefix}compress", config)
            _, state = block(state, p, f, config, prefix, shared)
            found[f"state_{i + 1}"] = state
        _, normed = read_out(state, p, config)
        y = linear(normed, T(E))
        return found | {"y": y, "loss": cross_entropy(y, f["in.targets"])}

    check(f, outputs)
