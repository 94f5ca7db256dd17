"""Layers of other libraries through their adapters: values, gradients, and what is refused."""

import dataclasses
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from recorded import load

import mgt_np
from mgt_np import MHC_CONVENTIONS, expand_streams, grad, mhc_read, mhc_read_coefficients, rms_norm
from mgt_np.crosscheck import noise
from mgt_np.crosscheck.adapters import (
    ADAPTERS,
    ddl,
    deepseek_v4,
    fla,
    hyper_connections,
    torch_attention,
    torch_encoder_layer,
)

S, D, HEADS = 3, 8, 2
OUTPUTS = ("y", "weights", "branch_input", "post", "comb", "collapsed", "final_state")


def errors(adapted):
    """The error of each output and gradient, relative to its largest value, or to 1 if larger."""
    found = {}
    assert adapted.ours.keys() == adapted.theirs.keys()
    for name, theirs in adapted.theirs.items():
        ours = np.asarray(adapted.ours[name])
        assert ours.shape == theirs.shape, name
        found[name] = np.max(np.abs(ours - theirs)) / max(np.max(np.abs(theirs)), 1.0)
    return found


def agree(adapted, tolerance=1e-12):
    found = errors(adapted)
    assert {name: e for name, e in found.items() if not e <= tolerance} == {}
    return found


def all_gradients(adapted, *more):
    """Hold that nothing that the module has or reads goes without a gradient."""
    names = {name.removeprefix("grad.") for name in adapted.ours if name.startswith("grad.")}
    assert names == adapted.arrays.keys() | set(more)


def golden(f):
    """The weights, and what was recorded, of a file: outputs, and gradients as "grad.…"."""
    state = {name.removeprefix("w."): x for name, x in f.items() if name.startswith("w.")}
    kept = {f"grad.{name[4:]}": x for name, x in f.items() if name.startswith("gin.")}
    kept |= {f"grad.{name[3:]}": x for name, x in f.items() if name.startswith("gw.")}
    return state, kept | {"y": f["out.y"]}


def renamed(tree, **names):
    """A dict with other names, "grad.…" too."""
    return {_new_name(name, names): x for name, x in tree.items()}


def _new_name(name, names):
    prefix = "grad." if name.startswith("grad.") else ""
    name = name.removeprefix(prefix)
    return prefix + names.get(name, name)


# --- The set of adapters


def test_adapters_are_imported_by_name_and_nothing_imports_torch():
    code = "import sys\nfrom mgt_np.crosscheck.adapters import ADAPTERS\n"
    code += "first = 'mgt_np.crosscheck.adapters.ddl' in sys.modules\n"
    code += "print(first, all(ADAPTERS.values()), len(ADAPTERS), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(mgt_np.__file__).parents[1],
    )
    assert done.stdout.split() == ["False", "True", "6", "False"]


def test_each_adapter_has_the_three_functions():
    for name, adapter in ADAPTERS.items():
        assert name == adapter.NAME
        assert all(callable(getattr(adapter, f)) for f in ("parameters", "reference", "check"))


def test_an_unknown_adapter_is_refused():
    with pytest.raises(KeyError, match=r"expected an adapter of torch_attention, .*, got 'jax'"):
        ADAPTERS["jax"]


# --- torch.nn.MultiheadAttention


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def attention(torch, **options):
    return torch.nn.MultiheadAttention(D, HEADS, **({"batch_first": True} | options))


BLOCKED = np.triu(np.ones((5, 5), dtype=bool), 1)
PADDING = np.array([[False] * 5, [False, False, False, True, True]])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_of_tokens_to_themselves(bias, batch_first, torch, rng):
    module = attention(torch, bias=bias, batch_first=batch_first)
    adapted = torch_attention.check(module, rng)
    agree(adapted)
    all_gradients(adapted)
    assert adapted.without_gradient == ()
    kind, options, params = torch_attention.parameters(module)
    assert (kind, options) == ("multi_head_attention", {"n_heads": HEADS})
    W = module.in_proj_weight.detach().numpy()
    assert np.array_equal(params["W_k"], W[D : 2 * D].T.astype(float))
    assert ("b_o" in params) is bias


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_with_other_numbers_of_heads(heads, torch, rng):
    agree(torch_attention.check(torch.nn.MultiheadAttention(D, heads), rng))


def as_float(mask):
    return np.where(mask, -np.inf, 0.0)


@pytest.mark.parametrize("form", [np.asarray, as_float], ids=["boolean", "float"])
@pytest.mark.parametrize("names", [("attn_mask",), ("key_padding_mask",), None], ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
def test_masks_of_attention(form, names, batch_first, torch, rng):
    masks = {"attn_mask": form(BLOCKED), "key_padding_mask": form(PADDING)}
    masks = {name: masks[name] for name in names or masks}
    module = attention(torch, batch_first=batch_first)
    adapted = torch_attention.check(module, rng, **masks)
    agree(adapted)
    seen = adapted.theirs["weights"] > 0.0
    hidden = np.zeros((2, HEADS, 5, 5), dtype=bool)
    hidden |= BLOCKED if "attn_mask" in masks else False
    hidden |= PADDING[:, None, None, :] if "key_padding_mask" in masks else False
    assert np.array_equal(seen, ~hidden)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_mask_for_each_sequence_and_head(batch_first, torch, rng):
    mask = rng.random((2 * HEADS, 5, 5)) < 0.4
    mask[:, :, 0] = False  # some key is left
    module = attention(torch, batch_first=batch_first)
    agree(torch_attention.check(module, rng, attn_mask=mask))
    agree(torch_attention.check(module, rng, attn_mask=mask, key_padding_mask=PADDING))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("own_values", [True, False])
def test_attention_to_other_tokens(batch_first, own_values, torch, rng):
    shapes = {"query": (2, 5, D), "key": (2, 4, D)} | ({"value": (2, 4, D)} if own_values else {})
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    if not batch_first:
        inputs = {name: np.swapaxes(x, 0, 1) for name, x in inputs.items()}
    adapted = torch_attention.check(attention(torch, batch_first=batch_first), rng, **inputs)
    agree(adapted)
    all_gradients(adapted)


def test_keys_and_values_of_other_widths(torch, rng):
    module = attention(torch, kdim=6, vdim=5)
    adapted = torch_attention.check(module, rng)
    agree(adapted)
    all_gradients(adapted)
    assert {"q_proj_weight", "k_proj_weight", "key", "value"} <= adapted.arrays.keys()
    _, _, params = torch_attention.parameters(module)
    assert params["W_k"].shape == (6, D)
    assert params["W_v"].shape == (5, D)


def test_a_query_that_may_attend_to_nothing_has_no_weights_here_and_nan_there(torch, rng):
    adapted = torch_attention.check(attention(torch), rng, attn_mask=~BLOCKED)
    assert np.all(np.isnan(adapted.theirs["y"][:, -1]))
    assert np.all(adapted.ours["weights"][:, :, -1] == 0.0)


def test_attention_without_a_batch(torch, rng):
    query, mask = rng.standard_normal((5, D)), np.stack([BLOCKED, np.roll(BLOCKED, 1, axis=0)])
    agree(torch_attention.check(attention(torch), rng, query=query, attn_mask=mask))
    masks = {"attn_mask": mask, "key_padding_mask": PADDING[1]}
    agree(torch_attention.check(attention(torch), rng, query=query, **masks))
    agree(torch_attention.check(attention(torch), rng, query=query, key_padding_mask=PADDING[1]))


def test_the_reference_of_attention_is_the_module_at_its_own_weights(torch, rng):
    module = attention(torch).double()
    query = rng.standard_normal((2, 5, D))
    x = torch.tensor(query)
    theirs, _ = module(x, x, x, attn_mask=torch.tensor(BLOCKED))
    ours = torch_attention.reference(module, query, attn_mask=BLOCKED)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-14)
    options = {"num_heads": HEADS, "batch_first": True}
    of_state = torch_attention.reference(module.state_dict(), query, attn_mask=BLOCKED, **options)
    assert np.array_equal(ours, of_state)


@pytest.mark.parametrize("name", ["full", "causal"])
def test_recorded_attention(name):
    f = load(f"torch_mha_{name}")
    state, recorded = golden(f)
    recorded = renamed(recorded, x="query") | {"weights": f["out.attn"]}
    mask = f.get("in.attn_mask_true_means_blocked")
    options = {"num_heads": int(f["cfg.num_heads"]), "batch_first": True, "attn_mask": mask}
    adapted = torch_attention.check(state, query=f["in.x"], recorded=recorded, R=f["R"], **options)
    agree(adapted)
    all_gradients(adapted)


# --- torch.nn.TransformerEncoderLayer


def encoder(torch, **options):
    options = {"dropout": 0.0, "batch_first": True} | options
    return torch.nn.TransformerEncoderLayer(D, HEADS, 12, **options)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_layer(activation, norm_first, batch_first, torch, rng):
    options = {"activation": activation, "norm_first": norm_first, "batch_first": batch_first}
    module = encoder(torch, layer_norm_eps=1e-3, **options)
    masks = {"src_mask": as_float(BLOCKED), "src_key_padding_mask": as_float(PADDING)}
    for given in ({}, masks, {"src_mask": BLOCKED}, {"src_key_padding_mask": PADDING}):
        adapted = torch_encoder_layer.check(module, rng, **given)
        agree(adapted)
        all_gradients(adapted)
    kind, ours, params = torch_encoder_layer.parameters(module)
    assert (kind, ours["eps"], ours["norm_first"]) == ("encoder_layer", 1e-3, norm_first)
    W = module.linear1.weight.detach().numpy()
    assert np.array_equal(params["feed_forward"]["W_1"], W.T.astype(float))


@pytest.mark.parametrize("kind", ["SiLU", "GELU", "Sigmoid"])
def test_an_encoder_layer_with_an_activation_of_its_own(kind, torch, rng):
    module = encoder(torch, activation=getattr(torch.nn, kind)())
    agree(torch_encoder_layer.check(module, rng))


def test_an_encoder_layer_without_biases_in_evaluation_mode_and_without_a_batch(torch, rng):
    module = encoder(torch, bias=False, dropout=0.1).eval()
    adapted = torch_encoder_layer.check(module, rng, src=rng.standard_normal((5, D)))
    agree(adapted)
    assert not any(name.endswith("bias") for name in adapted.arrays)


def test_the_reference_of_an_encoder_layer_is_the_module_at_its_own_weights(torch, rng):
    module = encoder(torch, dropout=0.1).double().eval()
    src = rng.standard_normal((2, 5, D))
    with torch.no_grad():  # by its fused form, which has no gradient
        theirs = module(torch.tensor(src), src_key_padding_mask=torch.tensor(PADDING))
    options = {"nhead": HEADS, "batch_first": True, "src_key_padding_mask": PADDING}
    ours = torch_encoder_layer.reference(module.state_dict(), src, **options)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-13)


def test_recorded_outputs_stand_for_a_module(torch, rng):
    """A state_dict and what its layer gave are held as the layer itself is."""
    module = encoder(torch).double()
    src, R = rng.standard_normal((2, 2, 5, D))
    x = torch.tensor(src, requires_grad=True)
    y = module(x)
    (y * torch.tensor(R)).sum().backward()
    recorded = {f"grad.{name}": w.grad for name, w in module.named_parameters()}
    recorded |= {"y": y, "grad.src": x.grad}
    options = {"nhead": HEADS, "batch_first": True, "src": src, "R": R}
    adapted = torch_encoder_layer.check(module.state_dict(), recorded=recorded, **options)
    agree(adapted)
    all_gradients(adapted)


# --- What a check does to a module, and what it sees


def test_the_callers_module_is_left_as_it_is(torch, rng):
    module = encoder(torch)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    torch_encoder_layer.check(module, rng)
    for name, x in module.state_dict().items():
        assert x.dtype == torch.float32
        assert torch.equal(x, before[name])
    assert all(p.grad is None for p in module.parameters())


def test_the_copys_weights_are_random_and_drawn_from_the_generator(torch):
    def check(seed):
        return torch_encoder_layer.check(encoder(torch), np.random.default_rng(seed)).arrays

    first, again, other = check(1), check(1), check(2)
    for name, x in first.items():
        assert np.array_equal(x, again[name])
        assert np.min(np.abs(x - other[name])) > 0.0
        assert np.min(np.abs(x)) > 0.0
    W = first["self_attn.out_proj.weight"]
    assert np.max(np.abs(W - W.T)) > 0.1


def test_frozen_weights_are_compared_too(torch, rng):
    module = attention(torch).requires_grad_(False)
    all_gradients(torch_attention.check(module, rng))


def test_another_forward_of_a_subclass_is_seen(torch, rng):
    class Transposed(torch.nn.MultiheadAttention):
        def forward(self, *args, **options):
            y, weights = super().forward(*args, **options)
            return y @ self.out_proj.weight.T @ self.out_proj.weight, weights

    found = errors(torch_attention.check(Transposed(D, HEADS, batch_first=True), rng))
    assert found["y"] > 1e-2
    assert found["weights"] < 1e-12


def test_a_detached_gradient_is_seen_and_named(torch, rng):
    class Detached(torch.nn.MultiheadAttention):
        def forward(self, query, key, value, **options):
            y, weights = super().forward(query, key, value, **options)
            return y.detach() + 0.0 * self.in_proj_weight.sum(), weights.detach()

    adapted = torch_attention.check(Detached(D, HEADS, batch_first=True), rng)
    found = errors(adapted)
    assert max(found["y"], found["weights"]) < 1e-12
    assert found["grad.query"] > 1e-2
    assert "query" in adapted.without_gradient
    assert "in_proj_weight" not in adapted.without_gradient


def test_an_output_of_another_shape_has_no_gradients(torch, rng):
    class Short(torch.nn.TransformerEncoderLayer):
        def forward(self, src, **masks):
            return super().forward(src, **masks)[:, 1:]

    adapted = torch_encoder_layer.check(Short(D, HEADS, 12, 0.0, batch_first=True), rng)
    assert adapted.theirs.keys() == {"y"}
    assert adapted.theirs["y"].shape == (2, 4, D)
    assert adapted.ours["y"].shape == (2, 5, D)


def test_ours_can_be_computed_again_on_arrays_that_round(torch, rng):
    adapted = torch_encoder_layer.check(encoder(torch), rng, src_mask=BLOCKED)
    for name, y in adapted.compute(adapted.arrays).items():
        assert np.array_equal(y, adapted.ours[name])
    scales = noise.scale(adapted.compute, adapted.arrays, adapted.ours, "float64")
    assert scales.keys() == adapted.ours.keys()
    for name, scale in scales.items():
        assert 0.0 < scale < 1e-12, name
        assert np.max(np.abs(adapted.ours[name] - adapted.theirs[name])) < 16.0 * scale, name


# --- The package hyper-connections


@pytest.fixture(scope="module")
def peer(torch):
    pytest.importorskip("hyper_connections", reason="the package hyper-connections")
    import hyper_connections.mHCv2 as second
    from hyper_connections import HyperConnections, mHC

    return {"HC": HyperConnections, "mHC": mHC, "mHCv2": second.ManifoldConstrainedHyperConnections}


@pytest.fixture
def in_float64(torch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def connection(peer, which, branch=None, **options):
    return peer[which](S, dim=D, branch=branch, layer_index=1, **options)


@pytest.mark.parametrize("tanh", [True, False])
def test_hyper_connections(tanh, peer, torch, rng):
    module = connection(peer, "HC", torch.nn.Linear(D, D), tanh=tanh)
    adapted = hyper_connections.check(module, rng)
    agree(adapted)
    all_gradients(adapted)
    assert adapted.arrays["residuals"].shape == (2 * S, 5, D)
    kind, options, params = hyper_connections.parameters(module)
    assert (kind, options) == ("hyper_connection", {"norm": "rms", "tanh": tanh})
    assert np.array_equal(params["gain"], np.ones(D))  # stored as 0
    assert np.array_equal(params["A_m"], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("log_domain", [False, True])
@pytest.mark.parametrize("iters", [1, 2, 20])
@pytest.mark.parametrize("which", ["mHC", "mHCv2"])
def test_manifold_constrained_hyper_connections(
    which, iters, log_domain, peer, torch, rng, in_float64
):
    options = {"sinkhorn_iters": iters, "log_domain_sinkhorn": log_domain}
    module = connection(peer, which, torch.nn.Linear(D, D), **options)
    adapted = hyper_connections.check(module, rng)
    agree(adapted)
    all_gradients(adapted)
    kind, ours, _ = hyper_connections.parameters(module)
    row = MHC_CONVENTIONS["lucidrains-log" if log_domain else "lucidrains"]
    assert kind == "mhc_connection"
    assert ours == {"convention": dataclasses.replace(row, n_iters=iters)}


@pytest.mark.parametrize("which", ["HC", "mHC", "mHCv2"])
def test_connections_without_a_branch_and_with_other_axes(which, peer, rng, in_float64):
    shapes = [(2 * S, D), (2 * S, 3, 2, D)] if which != "mHCv2" else [(2, S, D), (2, 3, 2, S, D)]
    for shape in shapes:
        residuals = rng.standard_normal(shape)
        agree(hyper_connections.check(connection(peer, which), rng, residuals=residuals))


@pytest.mark.parametrize("which", ["mHC", "mHCv2"])
def test_as_they_are_they_compute_in_float32(which, peer, rng):
    found = errors(hyper_connections.check(connection(peer, which), rng))
    assert 1e-9 < max(found.values()) < 1e-4


@pytest.mark.parametrize("which", ["HC", "mHC", "mHCv2"])
def test_the_reference_of_a_connection_is_the_module_with_its_branch(
    which, peer, torch, rng, in_float64
):
    module = connection(peer, which, torch.nn.Linear(D, D)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(tuple(parameter.shape))))
    W, b = (x.detach().numpy() for x in (module.branch.weight, module.branch.bias))
    residuals = rng.standard_normal((2, 5, S, D) if which == "mHCv2" else (2 * S, 5, D))
    theirs = module(torch.tensor(residuals)).detach().numpy()
    for source in (module, module.state_dict()):
        ours = hyper_connections.reference(source, residuals, lambda x: x @ W.T + b)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_the_branch_of_the_callers_module_stays(peer, torch, rng):
    branch = torch.nn.Linear(D, D)
    module = connection(peer, "HC", branch)
    hyper_connections.check(module, rng)
    assert module.branch is branch
    assert torch.equal(module.static_beta, torch.ones(S))


def test_a_transposed_mix_is_seen(peer, rng, in_float64):
    """Patched in an object, or written in a subclass; at the package's start neither shows."""
    module = connection(peer, "mHC")
    plain = module.residual_mix_constraint_fn
    module.residual_mix_constraint_fn = lambda z: plain(z).transpose(-1, -2)
    found = errors(hyper_connections.check(module, rng))
    assert found["y"] > 1e-2
    assert found["branch_input"] < 1e-12

    class Transposed(peer["mHC"]):
        def width_connection(self, residuals):
            branch_input, mixed, rest = super().width_connection(residuals)
            return branch_input, mixed.flip(0), rest

    found = errors(hyper_connections.check(Transposed(S, dim=D, layer_index=1), rng))
    assert found["y"] > 1e-2
    assert found["branch_input"] < 1e-12


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"num_fracs": 2}, "num_fracs=1, got 2"),
        ({"num_input_views": 2}, "num_input_views=1, got 2"),
        ({"channel_first": True}, "channel_first=False, got True"),
        ({"add_branch_out_to_residual": False}, "add_branch_out_to_residual=True, got False"),
    ],
)
def test_what_our_layers_have_not_is_refused(options, got, peer, rng):
    with pytest.raises(ValueError, match=f"^hyper_connections: expected a module with {got}"):
        hyper_connections.check(connection(peer, "HC", **options), rng)


def test_more_that_our_layers_have_not(peer, torch, rng):
    with pytest.raises(ValueError, match="expected a module with num_dynamic_alpha_proposals=1"):
        hyper_connections.check(connection(peer, "mHC", num_dynamic_alpha_proposals=2), rng)
    with pytest.raises(ValueError, match="expected a module with maybe_mix_streams=None"):
        hyper_connections.check(connection(peer, "mHCv2", mix_streams_before_norm=True), rng)
    module = connection(peer, "mHC", residual_transform=torch.nn.Linear(D, D))
    with pytest.raises(ValueError, match="expected no residual_transform, got Linear"):
        hyper_connections.check(module, rng)


# --- DeepSeek-V4's hyper-connection


def hf_options(f):
    names = ("hc_sinkhorn_iters", "hc_eps", "rms_norm_eps")
    return {name: f[f"cfg.{name}"].item() for name in names if f"cfg.{name}" in f}


def without(prefix, tree):
    return {name.replace(prefix, ""): x for name, x in tree.items()}


@pytest.mark.parametrize("name", ["random", "start"])
def test_recorded_hugging_face(name):
    f = load(f"hf_deepseek_v4_n4_{name}")
    state, recorded = (without("hc.", tree) for tree in golden(f))
    recorded = renamed(recorded, x="hidden_streams")
    recorded |= {part: f[f"out.{part}"] for part in ("collapsed", "post", "comb")}
    adapted = deepseek_v4.check(
        state, hidden_streams=f["in.x"], recorded=recorded, R=f["R"], **hf_options(f)
    )
    agree(adapted)
    all_gradients(adapted)
    weights = {name: x for name, x in state.items() if not name.startswith("branch.")}
    post, comb, collapsed = deepseek_v4.reference(weights, f["in.x"], **hf_options(f))
    np.testing.assert_allclose(comb, f["out.comb"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(post, f["out.post"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(collapsed, f["out.collapsed"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["", "_defaults"])
def test_recorded_tilekernels(name):
    f = load(f"deepseek_tilekernels_mhc{name}")
    state, recorded = golden(f)
    recorded = renamed(recorded, x="hidden_streams") | {
        "collapsed": f["out.layer_input"],
        "post": f["out.post"][..., 0],
        "comb": f["out.comb"],
    }
    options = {
        "hc_sinkhorn_iters": int(f["cfg.sinkhorn_repeat"]),
        "hc_eps": float(f["cfg.sinkhorn_eps"]),
        "rms_norm_eps": float(f["cfg.norm_eps"]),
        "post_mult_value": float(f["cfg.post_mult_value"]),
    }
    adapted = deepseek_v4.check(
        state, hidden_streams=f["in.x"], recorded=recorded, R=f["R"], **options
    )
    agree(adapted)
    all_gradients(adapted)


def test_recorded_hyper_head():
    f = load("hf_deepseek_v4_n4_hyperhead")
    state, _ = golden(f)
    gain = state.pop("norm.weight")
    collapsed = deepseek_v4.reference(state, f["in.x"])
    np.testing.assert_allclose(collapsed, f["out.collapsed"], rtol=0, atol=1e-12)
    X, R = f["in.x"], f["R"]

    def y(arrays):
        params = deepseek_v4.params_of({name: arrays[name] for name in state})
        H_pre = mhc_read_coefficients(arrays["x"], params, convention="deepseek-v4")
        return rms_norm(mhc_read(arrays["x"], H_pre), arrays["norm.weight"])

    hold(y, state | {"x": X, "norm.weight": gain}, f, R)
    kind, _, params = deepseek_v4.parameters(state)
    assert (kind, params["phi_pre"].shape) == ("mhc_read_coefficients", (4 * D, 4))


def hold(function, arrays, f, R):
    """Hold a function of a dict of arrays to a file's y and to all of its gradients."""
    np.testing.assert_allclose(function(arrays), f["out.y"], rtol=0, atol=1e-12)
    found = grad(lambda arrays: (function(arrays) * R).sum())(arrays)
    _, recorded = golden(f)
    assert {f"grad.{name}" for name in found} == recorded.keys() - {"y"}
    for name, gradient in found.items():
        expected = recorded[f"grad.{name}"]
        size = max(np.max(np.abs(expected)), 1.0)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * size, err_msg=name)


@pytest.mark.parametrize("name", ["two_sublayers", "two_sublayers_start"])
def test_recorded_layer_of_two_connections_and_a_head(name):
    """Both connections and the head in a row, by the adapter's map of their weights."""
    f = load(f"hf_deepseek_v4_n4_{name}")
    state, _ = golden(f)
    convention = deepseek_v4.convention_of(deepseek_v4.DEFAULTS | hf_options(f))

    def params(w, prefix):
        part = {k.removeprefix(prefix): x for k, x in w.items() if k.startswith(prefix)}
        return deepseek_v4.params_of(part)

    def y(w):
        X = expand_streams(w["x"], n=4)
        for connection, norm in (
            ("layer.attn_hc.", "layer.input_layernorm.weight"),
            ("layer.ffn_hc.", "layer.post_attention_layernorm.weight"),
        ):
            X = mgt_np.mhc_connection(
                X,
                partial(rms_norm, gain=w[norm]),
                params(w, connection),
                convention=convention,
            )
        H_pre = mhc_read_coefficients(X, params(w, "hc_head."), convention=convention)
        return rms_norm(mhc_read(X, H_pre), w["norm.weight"])

    hold(y, state | {"x": f["in.x"]}, f, f["R"])


@pytest.fixture(scope="module")
def hugging_face(torch):
    """The two modules with 4 streams of 8 features."""
    pytest.importorskip("transformers", reason="Hugging Face's transformers are not installed")
    name = "transformers.models.deepseek_v4"
    modeling = pytest.importorskip(f"{name}.modeling_deepseek_v4", reason="no DeepSeek-V4")
    from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config

    config = DeepseekV4Config(hidden_size=D, hc_mult=4, hc_sinkhorn_iters=7, hc_eps=1e-5)
    return modeling.DeepseekV4HyperConnection(config), modeling.DeepseekV4HyperHead(config)


def test_live_hugging_face(hugging_face, rng, in_float64):
    for module in hugging_face:
        adapted = deepseek_v4.check(module, rng)
        agree(adapted)
        all_gradients(adapted)


def stand_in(torch):
    """The module's contract in a few lines: packed weights, comb as (from, to)."""

    class HyperConnection(torch.nn.Module):
        def __init__(self, n, d):
            super().__init__()
            self.hc_sinkhorn_iters, self.hc_eps = 3, 1e-5
            self.input_norm = torch.nn.Identity()
            self.input_norm.eps = 1e-4
            self.fn = torch.nn.Parameter(torch.zeros((2 + n) * n, n * d))
            self.base = torch.nn.Parameter(torch.zeros((2 + n) * n))
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, X):
            n = X.shape[-2]
            v = X.flatten(-2)
            v = v / torch.sqrt(v.square().mean(-1, keepdim=True) + self.input_norm.eps)
            z = (v @ self.fn.T).split([n, n, n * n], dim=-1)
            b = self.base.split([n, n, n * n])
            pre, post, comb = (z[i] * self.scale[i] + b[i] for i in range(3))
            pre = torch.sigmoid(pre) + self.hc_eps
            comb = torch.softmax(comb.unflatten(-1, (n, n)), dim=-1) + self.hc_eps
            for i in range(2 * self.hc_sinkhorn_iters - 1):
                comb = comb / (comb.sum(dim=-2 + i % 2, keepdim=True) + self.hc_eps)
            collapsed = (pre.unsqueeze(-1) * X).sum(dim=-2)
            return 2.0 * torch.sigmoid(post), self.orient(comb), collapsed

        def orient(self, comb):
            return comb

    return HyperConnection


def test_a_live_module_of_deepseek_and_one_with_comb_transposed(torch, rng):
    module = stand_in(torch)(4, D)
    adapted = deepseek_v4.check(module, rng)
    agree(adapted)
    all_gradients(adapted)
    module.orient = lambda comb: comb.transpose(-1, -2)
    found = errors(deepseek_v4.check(module, rng))
    assert found["comb"] > 1e-2
    assert max(found["post"], found["collapsed"]) < 1e-12


# --- The official Deep Delta layers


@pytest.mark.parametrize(
    "name",
    [
        "vdim1",
        "vdim1_v_linear",
        "vdim1_v_constant",
        "vdim1_beta_mlp",
        "expanded_dv3",
        "expanded_dv3_v_linear",
    ],
)
def test_recorded_deep_delta(name):
    f = load(f"ddl_official_{name}")
    state, recorded = golden(f)
    options = {
        "ddl_k_eps": float(f["cfg.ddl_k_eps"]),
        "ddl_v_sigmoid": bool(f["cfg.v_sigmoid"]),
        "ddl_v_constant": bool(f.get("cfg.v_constant", False)),
    }
    inputs = {key.removeprefix("in."): x for key, x in f.items() if key.startswith("in.")}
    adapted = ddl.check(state, recorded=recorded, R=f["R"], **inputs, **options)
    agree(adapted)
    all_gradients(adapted)
    kind, ours, params = ddl.parameters(state, **options)
    assert kind == f"deep_delta_{'residual' if 'vdim1' in name else 'expanded'}"
    assert ours["eps"] == 1e-5
    assert ("W_hidden" in params) is ("mlp" in name)
    y = ddl.reference(state, **inputs, **options)
    np.testing.assert_allclose(y, f["out.y"], rtol=0, atol=1e-12)


def deep_delta(torch, d_v=1, hidden=0, **attributes):
    """The authors' layer by its description: names, arguments, and the rms norm of k."""

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k_eps, self.v_sigmoid, self.v_sigmoid_scale = 1e-2, True, 4.0
            self.v_constant, self.v_constant_value = False, 2.0
            for name, value in attributes.items():
                setattr(self, name, value)
            self.v_proj = torch.nn.Linear(D, d_v)
            if hidden:
                self.beta_in = torch.nn.Linear(D, hidden, bias=False)
                self.beta_out = torch.nn.Linear(hidden, 1)
            else:
                self.beta = torch.nn.Linear(D, 1)

        def forward(self, x, *, k_in, context, v_in=None):
            k = torch.nn.functional.rms_norm(k_in, [D], eps=self.k_eps**2 / D) / D**0.5
            if hidden:
                beta = self.beta_out(torch.tanh(self.beta_in(context)))
            else:
                beta = self.beta(context)
            beta = 2.0 * torch.sigmoid(beta)
            X = x if d_v > 1 else x.unsqueeze(-1)
            held = (k.unsqueeze(-1) * X).sum(-2)
            v = self.v_proj(x if v_in is None else v_in)
            if self.v_sigmoid:
                v = 4.0 * torch.sigmoid(v)
            if self.v_constant:
                v = torch.full_like(held, self.v_constant_value)
            X = X + k.unsqueeze(-1) * (beta * (v - held)).unsqueeze(-2)
            return X if d_v > 1 else X.squeeze(-1)

    return Layer()


@pytest.mark.parametrize("d_v", [1, 3])
@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("value", [{}, {"v_sigmoid": False}, {"v_constant": True}], ids=str)
def test_a_live_module_of_deep_delta(d_v, hidden, value, torch, rng):
    adapted = ddl.check(deep_delta(torch, d_v, hidden, **value), rng)
    agree(adapted)
    all_gradients(adapted)
    unread = {"v_proj.weight", "v_proj.bias"} | ({"v_in"} if d_v > 1 else set())
    assert set(adapted.without_gradient) == (unread if value.get("v_constant") else set())


@pytest.mark.parametrize("name", ["v_sigmoid_scale", "v_constant_value", "residual_branch_mult"])
def test_another_constant_of_deep_delta_is_refused(name, torch):
    with pytest.raises(ValueError, match=f"^ddl: expected a module with {name}=.*, got 3.0"):
        ddl.check(deep_delta(torch, **{name: 3.0}))


# --- flash-linear-attention's delta rules


def recurrent(torch, *, transposed=False):
    """Its layout and arguments, token by token."""

    def function(
        q,
        k,
        v,
        beta,
        g=None,
        scale=None,
        initial_state=None,
        output_final_state=False,
        num_householder=1,
        use_qk_l2norm_in_kernel=False,
    ):
        if use_qk_l2norm_in_kernel:
            q, k = (x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (q, k))
        B, T, H, K = q.shape
        S = torch.zeros(B, H, K, v.shape[-1], dtype=q.dtype)
        S = S if initial_state is None else initial_state
        outputs = []
        for t in range(T):
            if g is not None:
                S = S * g[:, t].exp()[..., None, None]
            for j in range(t * num_householder, (t + 1) * num_householder):
                k_j, v_j = k[:, j], v[:, j]
                step = beta[:, j, :, None] * (v_j - (S * k_j.unsqueeze(-1)).sum(-2))
                S = S + k_j.unsqueeze(-1) * step.unsqueeze(-2)
            outputs.append((S * q[:, t].unsqueeze(-1)).sum(-2))
        o = torch.stack(outputs, dim=1) * (K**-0.5 if scale is None else scale)
        o = o.flip(2) if transposed else o
        return o, (S if output_final_state else None)

    return function


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_live_delta_rule(n, normalized, scale, torch, rng):
    options = {"num_householder": n, "scale": scale, "use_qk_l2norm_in_kernel": normalized}
    adapted = fla.check(recurrent(torch), rng, **options)
    agree(adapted)
    all_gradients(adapted)
    assert {"g", "initial_state"} <= adapted.arrays.keys()
    assert "final_state" in adapted.ours


def test_a_delta_rule_with_fewer_arguments_and_no_state(torch, rng):
    def function(q, k, v, beta):
        return recurrent(torch)(q, k, v, beta)[0]

    adapted = fla.check(function, rng)
    agree(adapted)
    assert adapted.arrays.keys() == {"q", "k", "v", "beta"}
    assert "final_state" not in adapted.ours
    with pytest.raises(ValueError, match="expected a function with the argument num_householder"):
        fla.check(function, rng, num_householder=2)


def test_heads_in_another_order_are_seen(torch, rng):
    found = errors(fla.check(recurrent(torch, transposed=True), rng))
    assert found["y"] > 1e-2
    assert found["final_state"] < 1e-12


def test_recorded_outputs_of_a_delta_rule_and_its_reference(torch, rng):
    drawn = fla.check(recurrent(torch), rng).arrays
    q, k = rng.standard_normal((2, 2, 7, 3, 4))
    source = drawn | {"q": q, "k": 0.3 * k}
    tensors = {name: torch.tensor(x) for name, x in source.items()}
    o, S = recurrent(torch)(**tensors, output_final_state=True)
    for ours, theirs in zip(fla.reference(source), (o, S), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)
    agree(fla.check(source, recorded={"y": o, "final_state": S}))
    kind, options, params = fla.parameters(source)
    assert (kind, options) == ("delta_rule", {"scale": 0.5})
    assert np.array_equal(params["q"], np.swapaxes(source["q"], 1, 2))
    assert np.array_equal(params["log_alpha"], np.swapaxes(source["g"], 1, 2))


# --- What is refused, each in one line


def refused(call, *parts):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"\bgot\b", message), message
    for part in parts:
        assert part in message, message


def test_train_mode_with_dropout_is_refused(torch, rng):
    refused(
        lambda: torch_encoder_layer.check(encoder(torch, dropout=0.1), rng),
        "torch_encoder_layer: expected a module in evaluation mode, got train mode",
        "dropout 0.1",
        "call .eval()",
    )
    refused(lambda: torch_attention.check(attention(torch, dropout=0.2), rng), "call .eval()")
    agree(torch_attention.check(attention(torch, dropout=0.2).eval(), rng))


def test_train_mode_with_dropout_is_refused_in_a_connection(peer, rng):
    module = connection(peer, "mHC", dropout=0.1)
    refused(lambda: hyper_connections.check(module, rng), "call .eval()")


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
def test_a_finite_additive_mask_is_refused(name, torch, rng):
    mask = -np.abs(rng.standard_normal((5, 5) if name == "attn_mask" else (2, 5)))
    masks = {name: mask}
    expected = f"expected {name} to be a boolean mask or one of 0 and −∞, got other values"
    refused(lambda: torch_attention.check(attention(torch), rng, **masks), expected)
    src_name = f"src_{name}".replace("attn_", "")
    src_masks = {src_name: torch.tensor(mask)}
    refused(
        lambda: torch_encoder_layer.check(encoder(torch), rng, **src_masks),
        expected.replace(name, src_name),
    )
    refused(
        lambda: torch_attention.check(attention(torch), rng, **{name: (mask < -1).astype(int)}),
        "got dtype int64",
    )


def test_inputs_are_drawn_to_fit_the_masks(torch, rng):
    for batch_first in (True, False):
        module = attention(torch, batch_first=batch_first)
        adapted = torch_attention.check(module, rng, attn_mask=np.tri(3, 7) == 0.0)
        agree(adapted)
        assert adapted.ours["weights"].shape == (2, HEADS, 3, 7)
        padding = np.arange(6) > np.array([[5], [3], [4]])
        adapted = torch_attention.check(module, rng, key_padding_mask=padding)
        agree(adapted)
        assert adapted.ours["weights"].shape == (3, HEADS, 6, 6)
        module = encoder(torch, batch_first=batch_first)
        agree(torch_encoder_layer.check(module, rng, src_key_padding_mask=padding))


@pytest.mark.parametrize(
    ("masks", "expected", "got"),
    [
        ({"attn_mask": (3, 5, 5)}, "attn_mask (5, 5), or (4, 5, 5)", "(3, 5, 5)"),
        ({"attn_mask": (2, 2, 5, 5)}, "attn_mask (5, 5), or (4, 5, 5)", "(2, 2, 5, 5)"),
        ({"attn_mask": (5, 4)}, "attn_mask (5, 5)", "(5, 4)"),
        ({"key_padding_mask": (5,)}, "key_padding_mask (2, 5)", "(5,)"),
        ({"key_padding_mask": (5, 2)}, "key_padding_mask (2, 5)", "(5, 2)"),
    ],
)
def test_a_mask_of_another_shape_is_refused(masks, expected, got, torch, rng):
    masks = {name: np.zeros(shape, dtype=bool) for name, shape in masks.items()}
    query = rng.standard_normal((2, 5, D))
    refused(
        lambda: torch_attention.check(attention(torch), rng, query=query, **masks), expected, got
    )


def test_more_keys_than_given_are_refused(torch, rng):
    for name in ("add_bias_kv", "add_zero_attn"):
        module = attention(torch, **{name: True})
        refused(lambda module=module: torch_attention.check(module, rng), f"got {name}=True")


def test_an_unknown_activation_and_unequal_norms_are_refused(torch, rng):
    module = encoder(torch, activation=torch.nn.GELU(approximate="tanh"))
    refused(lambda: torch_encoder_layer.check(module, rng), "relu, gelu", "tanh")
    module = encoder(torch)
    module.norm2.eps = 1e-3
    refused(lambda: torch_encoder_layer.check(module, rng), "one eps", "0.001")


def states():
    """A right state_dict for each adapter, with the options that it needs."""

    def zeros(**shapes):
        return {name.replace("__", "."): np.zeros(shape) for name, shape in shapes.items()}

    mha = {
        "in_proj_weight": (3 * D, D),
        "in_proj_bias": (3 * D,),
        "out_proj__weight": (D, D),
        "out_proj__bias": (D,),
    }
    layer = {f"self_attn__{name}": shape for name, shape in mha.items()}
    layer |= {"linear1__weight": (12, D), "linear1__bias": (12,)}
    layer |= {"linear2__weight": (D, 12), "linear2__bias": (D,)}
    layer |= {f"norm{i}__{name}": (D,) for i in (1, 2) for name in ("weight", "bias")}
    hc = {
        "static_alpha": (S, S + 1),
        "static_beta": (S,),
        "norm__gamma": (D,),
        "dynamic_alpha_fn": (D, S + 1),
        "dynamic_beta_fn": (D,),
        "dynamic_alpha_scale": (),
        "dynamic_beta_scale": (),
    }
    v4 = {"fn": (15, 3 * D), "base": (15,), "scale": (3,)}
    delta = {
        "v_proj__weight": (1, D),
        "v_proj__bias": (1,),
        "beta__weight": (1, D),
        "beta__bias": (1,),
    }
    rule = {"q": (2, 7, 3, 4), "k": (2, 7, 3, 4), "v": (2, 7, 3, 5), "beta": (2, 7, 3)}
    return {
        "torch_attention": (zeros(**mha), {"num_heads": HEADS}),
        "torch_encoder_layer": (zeros(**layer), {"nhead": HEADS}),
        "hyper_connections": (zeros(**hc), {}),
        "deepseek_v4": (zeros(**v4), {}),
        "ddl": (zeros(**delta), {}),
        "fla": (zeros(**rule), {}),
    }


@pytest.mark.parametrize("name", ADAPTERS)
def test_wrong_entries_of_a_state_dict_are_refused(name):
    state, options = states()[name]
    adapter = ADAPTERS[name]
    adapter.parameters(state, **options)
    for entry, x in state.items():
        rest = {key: y for key, y in state.items() if key != entry}
        refused(lambda rest=rest: adapter.parameters(rest, **options), f"{name}: expected", entry)
        for wrong in (np.zeros((*x.shape, 2)), np.zeros(tuple(n + 1 for n in x.shape) or (2,))):
            given = state | {entry: wrong}
            refused(lambda given=given: adapter.parameters(given, **options), f"{name}: expected")
        words = state | {entry: np.full(x.shape, "a")}
        refused(lambda words=words: adapter.parameters(words, **options), entry, "dtype <U1")
        complex_numbers = state | {entry: x.astype(complex)}
        refused(
            lambda given=complex_numbers: adapter.parameters(given, **options),
            entry,
            "complex128",
        )
    more = state | {"colour": np.zeros(3)}
    refused(lambda: adapter.parameters(more, **options), f"{name}: expected entries", "got colour")
    refused(lambda: adapter.parameters({}, **options), f"{name}: expected", "got nothing")
    refused(lambda: adapter.parameters(3, **options), f"{name}: expected", "got int")


@pytest.mark.parametrize("name", ADAPTERS)
def test_wrong_options_are_refused(name):
    state, options = states()[name]
    adapter = ADAPTERS[name]
    refused(lambda: adapter.parameters(state, **options, colour=1), f"{name}: expected", "colour")
    for option in options:
        refused(lambda: adapter.parameters(state), f"{name}: expected {option}=, got")
        wrong = partial(adapter.parameters, state, **{option: 3})
        refused(wrong, "divide the 8 features, got 3")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_state_dict_without_what_its_layer_gave_is_refused(name):
    state, options = states()[name]
    check = ADAPTERS[name].check
    refused(lambda: check(state, **options), f"{name}: expected recorded=", "a state_dict alone")
    recorded = {"y": np.zeros(3), "grad.x": np.zeros(3)}
    refused(lambda: check(state, recorded=recorded, **options), "expected R=")
    refused(lambda: check(state, recorded={"z": np.zeros(3)}, **options), "got z")


def test_tensors_of_bfloat16_are_read(torch):
    state = {n: torch.ones(x.shape).bfloat16() for n, x in states()["ddl"][0].items()}
    _, _, params = ddl.parameters(state)
    assert params["W_v"].dtype == np.float64
    assert np.array_equal(params["W_v"], np.ones((D, 1)))


def test_inputs_that_do_not_fit_are_refused(rng):
    state, _ = states()["ddl"]
    x = rng.standard_normal((2, 5, D))
    inputs = {"x": x, "k_in": x, "context": x}
    refused(lambda: ddl.reference(state, **inputs | {"k_in": x[:, 1:]}), "k_in (2, 4, 8)")
    refused(lambda: ddl.reference(state, **inputs, v_in=x), "v_in (2, 5, 8)")
    state, _ = states()["hyper_connections"]
    refused(lambda: hyper_connections.reference(state, x), "(batch · 3, …, features)", "(2, 5, 8)")
    state, _ = states()["deepseek_v4"]
    refused(lambda: deepseek_v4.reference(state, x), "(…, 3, 8)", "(2, 5, 8)")
    state, options = states()["torch_attention"]
    refused(lambda: torch_attention.check(state, key=x, **options), "expected query, key and value")
