"""Cross entropy of integer targets."""

import math

from mgt_np.arrays import (
    add_to_columns,
    array_namespace,
    as_rows,
    fusable,
    in_blocks,
    in_one_place,
    on_host,
    operands,
    sum_of_features,
)
from mgt_np.arrays.checks import at_least, number, one_of

from .checks import as_indices, in_range


def cross_entropy(logits, targets, *, reduction="mean", label_smoothing=0.0, ignore_index=-100):
    """Return the negative log-likelihood of `targets`, in nats.

        ℓ = −(1 − s) log p_target − (s/C) Σ_c log p_c,    p = softmax(logits)

    (Szegedy et al., 1512.00567, §7, for s = `label_smoothing` in [0, 1].)
    Shapes: logits (..., C), targets (...) of integers in [0, C). `reduction` is "mean", "sum" or
    "none", which gives (...). Targets equal to `ignore_index` have loss 0 and do not count in the
    mean, as in PyTorch. Equal logits give log C.
    Raises TypeError for targets that are not integers; ValueError for one out of range, shapes that
    disagree, or a mean over no target at all. Where the arrays are not on the host, a target out of
    range and a mean over nothing give NaN instead.
    """
    one_of(("mean", "sum", "none"), reduction=reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"expected label_smoothing in [0, 1], got {label_smoothing}")
    label_smoothing = number(label_smoothing)
    xp, logits = operands(logits=logits)
    at_least(1, logits=logits)
    in_one_place(logits=logits, targets=targets)
    if tuple(targets.shape) != tuple(logits.shape[:-1]):
        raise ValueError(
            f"expected targets of shape {tuple(logits.shape[:-1])}, got {tuple(targets.shape)}"
        )
    plain, targets = array_namespace(targets), as_indices(targets, name="targets")
    ignored = targets == ignore_index
    known = plain.where(ignored, plain.zeros_like(targets), targets)
    known, outside = in_range(known, logits.shape[-1], name="targets")

    loss = _negative_log_likelihood(logits, targets=known, label_smoothing=label_smoothing)
    loss = xp.where(ignored, 0.0, loss)
    if outside is not None:
        loss = xp.where(outside, math.nan, loss)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return xp.sum(loss)
    n_targets = plain.sum(plain.astype(plain.logical_not(ignored), loss.dtype))
    if on_host(targets) and n_targets == 0:
        raise ValueError("expected at least one target to take the mean over, got none")
    return xp.sum(loss) / plain.where(n_targets == 0, math.nan, n_targets)


@fusable
def _negative_log_likelihood(logits, *, targets, label_smoothing):
    """−(1 − s) log p_target − (s/C) Σ_c log p_c of each token; targets in [0, C)."""
    xp, plain = array_namespace(logits), array_namespace(targets)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    of_target = xp.take_along_axis(log_p, plain.expand_dims(targets, axis=-1), axis=-1)
    loss = -xp.squeeze(of_target, axis=-1)
    if label_smoothing:
        uniform = -xp.mean(log_p, axis=-1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * uniform
    return loss


def _forward(xp, logits, *, targets, label_smoothing):
    if label_smoothing or 0 in logits.shape:
        return None

    def of_rows(logits, targets):
        p = logits - xp.max(logits, axis=-1, keepdims=True)
        of_target = xp.take_along_axis(p, targets, axis=-1)
        p = xp.exp(p)
        total = sum_of_features(xp, p)
        p /= total
        return xp.log(total) - of_target, p

    loss, p = in_blocks(of_rows, logits, xp.expand_dims(targets, axis=-1))
    return xp.squeeze(loss, axis=-1), (p, targets)


def _backward(xp, g, p, targets):
    """dℓ/dlogits = p − onehot(target)."""
    g = xp.expand_dims(g, axis=-1)
    rows = add_to_columns(xp, as_rows(xp, p * g), xp.reshape(targets, (-1, 1)), as_rows(xp, -g))
    return (xp.reshape(rows, p.shape),)


_negative_log_likelihood.fuse(_forward, _backward)
