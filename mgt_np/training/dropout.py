"""Dropout: masks for the embedding and for what each sub-layer gives, drawn before a step."""

from mgt_np.models.decoder import SUBLAYERS


def dropout_masks(rng, p, config, shape):
    """Draw the masks that `last_state` takes: entries of 0 with probability p, else 1/(1 − p).

    Where the Transformer has them (1706.03762 §5.4): on the sum of token and position vectors, and
    on each sub-layer's output before the residual rule sees it. `shape` is that of the tokens, a
    mask's (*shape, d). The mean of a mask is one.
    """

    def mask():
        kept = rng.random((*shape, config.d_model)) >= p
        return (kept / (1.0 - p)).astype(config.dtype)

    blocks = [{name: mask() for name in SUBLAYERS} for _ in range(config.n_layers)]
    return {"embedding": mask(), "blocks": blocks}
