"""What can be checked: the functions of the contract, their arguments and their results."""

from collections.abc import Callable
from dataclasses import dataclass

from mgt_np import analysis, layers


@dataclass(frozen=True)
class Checked:
    """A function that others have written too.

    arrays: the arguments that hold floating arrays, or None where a case leaves them out; masks
    are among the options. outputs: the name of each result. differentiable: whether gradients are
    compared. sublayer: whether the second argument is a function, which `SUBLAYER` is given for.
    params: the arrays that are given as one dict `params`.
    """

    name: str
    function: Callable
    arrays: tuple[str, ...]
    outputs: tuple[str, ...] = ("y",)
    differentiable: bool = True
    sublayer: bool = False
    params: tuple[str, ...] = ()


def SUBLAYER(x):
    """The sub-layer F of a hyper-connection in the cases: no library's, and not linear."""
    return x * (0.5 + 0.25 * x)


def arguments(checked, arrays, options):
    """Return the keyword arguments of a call: arrays, gathered in `params` where they belong."""
    given = {name: arrays[name] for name in checked.arrays if arrays.get(name) is not None}
    if checked.params:
        params = {name: given.pop(name) for name in checked.params if name in given}
        given["params"] = params
    if checked.sublayer:
        given["sublayer"] = SUBLAYER
    return given | options


def results(checked, made):
    """Return the results of a call by name."""
    made = made if isinstance(made, tuple | list) else (made,)
    return dict(zip(checked.outputs, made, strict=True))


_MHC = ("phi_pre", "phi_post", "phi_res", "b_pre", "b_post", "b_res")
_MHC += ("alpha_pre", "alpha_post", "alpha_res", "gain")
_HC = ("A_m", "B", "A_r", "W_m", "W_beta", "W_r", "s_alpha", "s_beta", "gain", "bias")
_DDL = ("W_v", "W_beta", "b_v", "b_beta")
_ATTENTION = ("W_q", "W_k", "W_v", "W_o", "b_q", "b_k", "b_v", "b_o")
_MGT = ("W_gate", "W_beta", "b_beta", "alpha", "gain", "bias")

CONTRACT = {
    name: Checked(name, getattr(layers, name, None) or getattr(analysis, name), *rest, **more)
    for name, rest, more in (
        ("softmax", [("x",)], {}),
        ("layer_norm", [("x", "gain", "bias")], {}),
        ("scaled_dot_product_attention", [("q", "k", "v")], {}),
        ("multi_head_attention", [("x", *_ATTENTION, "context")], {}),
        ("feed_forward", [("x", "W_1", "W_2", "b_1", "b_2")], {}),
        ("unit_direction", [("k",)], {}),
        ("delta_update", [("X", "k", "v", "beta")], {}),
        ("deep_delta_residual", [("x", "k", *_DDL, "context", "v_input")], {}),
        ("sinkhorn", [("logits",)], {}),
        ("mhc_update", [("X", "y", "H_post", "H_res")], {}),
        ("mhc_coefficients", [("X", *_MHC), ("H_pre", "H_post", "H_res")], {"params": _MHC}),
        ("mhc_connection", [("X", *_MHC)], {"params": _MHC, "sublayer": True}),
        ("hyper_connection", [("X", *_HC)], {"params": _HC, "sublayer": True}),
        ("tangent_gate", [("x", "W_gate", "gain", "bias")], {}),
        ("mgt_beta", [("x", "W_beta", "b_beta")], {}),
        ("geometric_update", [("x", "v", "beta", "alpha")], {}),
        ("mgt_residual", [("x", "v_raw", *_MGT)], {}),
        ("effective_rank", [("X",)], {"differentiable": False}),
    )
}
