"""Cross entropy as one node."""

from mgt_np.arrays import add_to_columns, as_rows, in_blocks, largest, sum_of_features
from mgt_np.layers.loss import negative_log_likelihood


def forward(xp, logits, *, targets, s):
    """Without label smoothing: log Σ exp(logits) − logits_target, and p for the gradient."""
    if s or 0 in logits.shape:
        return None

    def loss_of_rows(logits, targets):
        p = logits - largest(xp, logits, -1)
        logit = xp.take_along_axis(p, targets, axis=-1)
        p = xp.exp(p)
        total = sum_of_features(xp, p)
        p /= total
        return xp.log(total) - logit, p

    loss, p = in_blocks(loss_of_rows, logits, xp.expand_dims(targets, axis=-1))
    return xp.squeeze(loss, axis=-1), (p, targets)


def backward(xp, g, p, targets):
    """dℓ/dlogits = p − onehot(target)."""
    g = xp.expand_dims(g, axis=-1)
    rows = add_to_columns(xp, as_rows(xp, p * g), xp.reshape(targets, (-1, 1)), as_rows(xp, -g))
    return (xp.reshape(rows, p.shape),)


negative_log_likelihood.fuse(forward, backward)
