"""mHC as others compute it, recorded: values and every gradient to 1e-12."""

import dataclasses

import numpy as np
import pytest
from recorded import agree, check

from mgt_np import (
    MHC_CONVENTIONS,
    layer_norm,
    linear,
    mhc_coefficients,
    mhc_read,
    mhc_update,
    sinkhorn,
)
from mgt_np.analysis import composite_mixing
from mgt_np.arrays import array_namespace

PARTS = ("pre", "post", "res")


def step(X, params, W, b, convention, n_iters=None):
    """One layer with a linear branch: the streams after it."""
    H_pre, H_post, H_res = mhc_coefficients(X, params, convention=convention, n_iters=n_iters)
    return mhc_update(X, linear(mhc_read(X, H_pre), W, b), H_post, H_res)


def check_step(f, library, params_of, names, convention, n_iters=None):
    """Hold a recorded layer to `step`; `params_of` makes our parameters of theirs, by name."""

    def layer(X, *weights):
        *theirs, W, b = weights
        params = params_of(array_namespace(X), dict(zip(names, theirs, strict=True)))
        return step(X, params, array_namespace(W).matrix_transpose(W), b, convention, n_iters)

    keys = (*names, "branch.weight", "branch.bias")
    arrays = [f["in.x"], *(f[f"w.{key}"] for key in keys)]
    gradients = [f["gin.x"], *(f[f"gw.{key}"] for key in keys)]
    check(library, layer, arrays, f["out.y"], f["R"], gradients)
    X, *theirs = library.asarray(arrays[: len(names) + 1])
    params = params_of(array_namespace(X), dict(zip(names, theirs, strict=True)))
    return X, mhc_coefficients(X, params, convention=convention, n_iters=n_iters)


@pytest.mark.parametrize("name", ["dynamic", "dynamic_iters3", "gpt2_equivalence"])
def test_marco(name, golden, library):
    f = golden(f"marco_mhc_{name}")
    names = [f"proj.{kind}_{part}" for kind in ("phi", "b", "alpha") for part in PARTS]
    names.append("proj.rmsnorm.weight")

    def params_of(xp, w):
        params = {key.removeprefix("proj."): x for key, x in w.items()}
        return params | {"gain": params.pop("rmsnorm.weight")}

    X, found = check_step(f, library, params_of, names, "marco", int(f["cfg.tmax"]))
    for H, key in zip(found, ("h_pre", "h_post", "h_res"), strict=True):
        agree(H, f[f"out.{key}"])
    agree(mhc_read(X, found[0]), f["out.branch_input"])


@pytest.mark.parametrize(("name", "temperature"), [("static", 0.05), ("init", 0.05), ("tau1", 1.0)])
def test_tokenbender(name, temperature, golden, library):
    f = golden(f"tokenbender_mhc_{name}")
    row = dataclasses.replace(MHC_CONVENTIONS["tokenbender"], temperature=temperature)
    assert (row.n_iters, row.temperature) == (f["cfg.mhc_num_iters"], f["cfg.mhc_tau"])

    def params_of(xp, w):
        return {
            "b_pre": w["H_pre_logits"][0, :],
            "b_post": w["H_post_logits"][0, :],
            "b_res": w["H_res_logits"],
        }

    names = ["H_pre_logits", "H_post_logits", "H_res_logits"]
    X, (H_pre, H_post, H_res) = check_step(f, library, params_of, names, row)
    agree(H_post[0, 0, :], f["out.h_post"][0])
    agree(H_res[0, 0, ...], f["out.h_res"].T)
    agree(mhc_read(X, H_pre), f["out.branch_input"])


@pytest.mark.parametrize("name", ["", "_defaults"])
def test_deepseek_tilekernels(name, golden, library):
    f = golden(f"deepseek_tilekernels_mhc{name}")
    row = dataclasses.replace(
        MHC_CONVENTIONS["deepseek-v4"],
        post_scale=float(f["cfg.post_mult_value"]),
        n_iters=int(f["cfg.sinkhorn_repeat"]),
    )
    if not name:
        assert row == MHC_CONVENTIONS["deepseek-v4"]

    def params_of(xp, w):
        phi, b = xp.matrix_transpose(w["fn"]), w["base"]
        parts = slice(3), slice(3, 6), slice(6, None)
        params = {f"phi_{part}": phi[:, s] for part, s in zip(PARTS, parts, strict=True)}
        params |= {f"b_{part}": b[s] for part, s in zip(PARTS, parts, strict=True)}
        params |= {f"alpha_{part}": w["scale"][i] for i, part in enumerate(PARTS)}
        return params | {"b_res": xp.reshape(params["b_res"], (3, 3)), "gain": w["norm_weight"]}

    names = ["fn", "base", "scale", "norm_weight"]
    X, (H_pre, H_post, H_res) = check_step(f, library, params_of, names, row)
    agree(H_pre, f["out.pre"][..., 0])
    agree(H_post, f["out.post"][..., 0])
    agree(H_res, np.swapaxes(f["out.comb"], -1, -2))
    agree(mhc_read(X, H_pre), f["out.layer_input"])


@pytest.mark.parametrize("name", ["dynamic", "init"])
def test_mhc_lite(name, golden, library):
    f = golden(f"mhc_lite_{name}")

    def params_of(xp, w):
        phi, b = w["dynamic_alpha_fn"], w["static_alpha"]
        return {
            "phi_pre": phi[:, :3],
            "phi_post": w["dynamic_beta_fn"],
            "phi_res": phi[:, 3:],
            "b_pre": b[:3],
            "b_post": w["static_beta"],
            "b_res": b[3:],
            "alpha_pre": w["pre_branch_scale"][0],
            "alpha_post": w["h_post_scale"],
            "alpha_res": w["residual_scale"][0],
            "gain": w["norm.gamma"] + 1.0,
        }

    names = [
        "static_alpha",
        "dynamic_alpha_fn",
        "pre_branch_scale",
        "residual_scale",
        "static_beta",
        "dynamic_beta_fn",
        "h_post_scale",
        "norm.gamma",
    ]
    X, (H_pre, H_post, H_res) = check_step(f, library, params_of, names, "mhc-lite")
    agree(mhc_read(X, H_pre), f["out.branch_input"])
    agree(H_post, f["out.beta"][..., 0, :, 0])
    mixed = mhc_update(X, X[..., 0, :] * 0.0, H_post, H_res)
    agree(mixed, f["out.mixed_residual"])


def test_edelta(golden, library):
    """Its streams are a split of the width: the branch reads copies, and its output is split."""
    f = golden("edelta_mhc_split_streams")
    names = [f"mhc.{kind}_{part}" for kind in ("b", "alpha") for part in PARTS]
    names += [f"mhc.phi_{part}.weight" for part in PARTS]
    names += ["mhc.rms_norm.weight", "ln.weight", "ln.bias", "branch.weight", "branch.bias"]

    def coefficients(X, w):
        xp = array_namespace(X)
        params = {key: w[f"mhc.{key}"] for key in ("b_pre", "b_post", "b_res")}
        for part in PARTS:
            params[f"alpha_{part}"] = w[f"mhc.alpha_{part}"]
            params[f"phi_{part}"] = xp.matrix_transpose(w[f"mhc.phi_{part}.weight"])
        params["gain"] = w["mhc.rms_norm.weight"]
        return mhc_coefficients(X, params, convention="edelta")

    def layer(X, *weights):
        xp, w = array_namespace(X), dict(zip(names, weights, strict=True))
        H_pre, H_post, H_res = coefficients(X, w)
        u = mhc_read(X, H_pre)
        normed = layer_norm(xp.concat([u, u], axis=-1), w["ln.weight"], w["ln.bias"])
        y = linear(normed, xp.matrix_transpose(w["branch.weight"]), w["branch.bias"])
        written = xp.reshape(y, X.shape) * xp.expand_dims(H_post, axis=-1)
        return xp.add(xp.matmul(H_res, X), written)

    arrays = [f["in.x"], *(f[f"w.{name}"] for name in names)]
    gradients = [f["gin.x"], *(f[f"gw.{name}"] for name in names)]
    check(library, layer, arrays, f["out.y"], f["R"], gradients)
    X, *weights = library.asarray(arrays)
    found = coefficients(X, dict(zip(names, weights, strict=True)))
    for H, key in zip(found, ("h_pre", "h_post", "h_res"), strict=True):
        agree(H, f[f"out.{key}"])


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("megatron_mhc_random", "megatron"),
        ("hf_deepseek_v4_n4_random", "huggingface"),
        ("hf_deepseek_v4_n4_start", "deepseek-v4"),
    ],
)
def test_megatron_and_hugging_face(name, convention, golden, library):
    """mHC, eqs 7–9: one matrix for all three parts, stored the other way round."""
    f = golden(name)
    n = f["in.x"].shape[-2]
    megatron = convention == "megatron"
    alphas = [f"hc.alpha_{part}" for part in PARTS]
    keys = ["hc.mapping_proj.weight", "hc.bias"] if megatron else ["hc.fn", "hc.base"]
    names = keys + (alphas if megatron else ["hc.scale"])
    ends = {"pre": slice(n), "post": slice(n, 2 * n), "res": slice(2 * n, None)}

    def params_of(xp, w):
        W, b, *alpha = (w[name] for name in names)
        if not megatron:
            alpha = [alpha[0][i : i + 1] for i in range(3)]
        phi = xp.matrix_transpose(W)
        params = {f"phi_{part}": phi[:, place] for part, place in ends.items()}
        params |= {f"b_{part}": b[place] for part, place in ends.items()}
        params["b_res"] = xp.reshape(params["b_res"], (n, n))
        return params | {f"alpha_{part}": a for part, a in zip(PARTS, alpha, strict=True)}

    X, (H_pre, H_post, H_res) = check_step(f, library, params_of, names, convention)
    key = "out.branch_input" if megatron else "out.collapsed"
    agree(mhc_read(X, H_pre), f[key])
    agree(H_post, f["out.h_post" if megatron else "out.post"])
    if megatron:
        agree(H_res, f["out.h_res"])
    else:
        agree(array_namespace(H_res).matrix_transpose(H_res), f["out.comb"])


CIRCULANT = {
    "cmhc": lambda f: dataclasses.replace(
        MHC_CONVENTIONS["circulant"], gamma=float(f["cfg.gamma"])
    ),
    "mhc": lambda f: dataclasses.replace(
        MHC_CONVENTIONS["paper"], norm_eps=1e-8, norm_form="outside"
    ),
}


@pytest.mark.parametrize("mode", CIRCULANT)
def test_circulant_hyper_connections(mode, golden, library):
    """One matrix and one α for all three parts, and a branch that multiplies by z."""
    f = golden(f"circulant_hc_map_{mode}")
    row, n = CIRCULANT[mode](f), f["in.x"].shape[-2]

    def coefficients(X, alpha, b, W):
        xp = array_namespace(X)
        phi = xp.matrix_transpose(W)
        parts = zip(PARTS, (slice(n), slice(n, 2 * n), slice(2 * n, None)), strict=True)
        params = {}
        for part, place in parts:
            params |= {f"phi_{part}": phi[:, place], f"b_{part}": b[place], f"alpha_{part}": alpha}
        if mode == "mhc":
            params["b_res"] = xp.reshape(params["b_res"], (n, n))
        return mhc_coefficients(X, params, convention=row)

    def layer(X, z, *weights):
        H_pre, H_post, H_res = coefficients(X, *weights)
        return mhc_update(X, mhc_read(X, H_pre) * z, H_post, H_res)

    names = ("alpha", "b", "phi.weight")
    arrays = [f["in.x"], f["in.z"], *(f[f"w.{name}"] for name in names)]
    gradients = [f["gin.x"], f["gin.z"], *(f[f"gw.{name}"] for name in names)]
    check(library, layer, arrays, f["out.y"], f["R"], gradients)
    X, _, *weights = library.asarray(arrays)
    found = coefficients(X, *weights)
    for H, key in zip(found, ("h_pre", "h_post", "h_res"), strict=True):
        agree(H, f[f"out.{key}"])
    agree(mhc_read(X, found[0]), f["out.branch_input"])


@pytest.mark.parametrize("kind", ["generic", "diagonal", "circulant"])
def test_products_of_circulant_and_other_mixings(kind, golden, library):
    """Circulant ones keep every direction, Sinkhorn's lose all but the mean of the streams."""
    f = golden("circulant_hc_products")
    logits, n = library.asarray(f[f"in.logits_{kind}"]), int(f["cfg.n"])
    if kind == "circulant":
        gamma = float(f["cfg.gamma"])
        H = dataclasses.replace(MHC_CONVENTIONS["circulant"], gamma=gamma).mix(logits, n)
    else:
        H = sinkhorn(logits, n_iters=int(f["cfg.iters"]))
    products = composite_mixing(H)
    agree(H, f[f"out.{kind}.H"])
    agree(products, f[f"out.{kind}.product"])
    xp = array_namespace(products)
    agree(xp.linalg.svdvals(products - 1.0 / n)[:, 0], f[f"out.{kind}.sigma2"])
    agree(xp.linalg.svdvals(products)[:, -1], f[f"out.{kind}.sigma_min"])
    error = xp.max(xp.abs(xp.sum(products, axis=-2) - 1.0), axis=-1)
    agree(1.0 + error, 1.0 + f[f"out.{kind}.column_error"])  # which is all but rounding
    if kind == "generic":
        factors = xp.cumulative_prod(1.0 - n * xp.min(H, axis=(-2, -1)))
        agree(factors * n**0.5, f["out.generic.bound"])
