"""One product for queries, keys and values, as the peers that compile or fuse it like best."""

import numpy as np


def packed(params):
    """The parameters with W_qkv (d, 3d), b_qkv (3d) in place of three matrices and biases."""
    return params | {"blocks": [block | {"attention": _pack(block)} for block in params["blocks"]]}


def unpacked(params):
    """The inverse of `packed`, also of gradients."""
    return params | {
        "blocks": [block | {"attention": _unpack(block)} for block in params["blocks"]]
    }


def _pack(block):
    parts = block["attention"]
    return {
        "W_qkv": np.concatenate([parts[f"W_{name}"] for name in "qkv"], axis=1),
        "b_qkv": np.concatenate([parts[f"b_{name}"] for name in "qkv"]),
        "W_o": parts["W_o"],
        "b_o": parts["b_o"],
    }


def _unpack(block):
    parts = block["attention"]
    matrices = np.split(parts["W_qkv"], 3, axis=1)
    biases = np.split(parts["b_qkv"], 3)
    return {
        **{f"W_{name}": W for name, W in zip("qkv", matrices, strict=True)},
        **{f"b_{name}": b for name, b in zip("qkv", biases, strict=True)},
        "W_o": parts["W_o"],
        "b_o": parts["b_o"],
    }
