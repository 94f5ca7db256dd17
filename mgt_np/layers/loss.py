"""Cross entropy of integer targets."""

import math

from mgt_np.arrays import array_namespace, concrete, largest, layer, on_host
from mgt_np.arrays.indices import as_indices, inside, out_of_range, perhaps_any


def _known(targets, ignore_index):
    """Return the targets with class 0 for those to ignore, and which these are."""
    plain, targets = array_namespace(targets), as_indices(targets)
    ignored = targets == ignore_index
    return plain.where(ignored, plain.zeros_like(targets), targets), ignored


def _targets_to_hold_to(logits, targets, reduction, ignore_index, **_):
    """Where the host knows the targets, they are in range, and a mean is one over some."""
    if not on_host(targets):
        return None
    targets = concrete(targets)
    known, ignored = _known(targets, ignore_index)
    if reduction == "mean" and bool(array_namespace(targets).all(ignored)):
        return "expected at least one target to take the mean over, got none in targets"
    return out_of_range(known, logits.shape[-1], name="targets")


@layer(requires_values=_targets_to_hold_to, C="classes")
def cross_entropy(
    logits: "... C≥1",
    targets: "int ...",
    *,
    reduction: "'mean' | 'sum' | 'none'" = "mean",
    label_smoothing: "float in [0, 1]" = 0.0,
    ignore_index: "int" = -100,
) -> "number | ...":
    """Return the negative log-likelihood of `targets`, in nats.

        ℓ = −(1 − s) log p_target − (s/C) Σ_c log p_c,    p = softmax(logits)

    (Szegedy et al., 1512.00567, §7, for s = `label_smoothing`.) Targets are in [0, C); those equal
    to `ignore_index` have loss 0 and do not count in the mean, as in PyTorch, whatever their logits
    are. `reduction="none"` gives the loss of each. Equal logits give log C.
    Raises ValueError for a target out of range, and for a mean over no target at all. Where the
    arrays are not on the host, both give NaN instead.
    """
    xp, plain = array_namespace(logits), array_namespace(targets)
    known, ignored = _known(targets, ignore_index)
    known, outside = inside(known, logits.shape[-1])
    if perhaps_any(ignored):  # whose logits may be infinite or NaN
        logits = xp.where(plain.expand_dims(ignored, axis=-1), 0.0, logits)
    loss = negative_log_likelihood(logits, targets=known, s=label_smoothing)
    loss = xp.where(ignored, 0.0, loss)
    if outside is not None:
        loss = xp.where(outside, math.nan, loss)
    if reduction != "mean":
        return loss if reduction == "none" else xp.sum(loss)
    n_targets = plain.sum(plain.astype(plain.logical_not(ignored), loss.dtype))
    return xp.sum(loss) / plain.where(n_targets == 0, math.nan, n_targets)


@layer
def negative_log_likelihood(logits: "... C", *, targets: "int ...", s: "float") -> "...":
    """Return −(1 − s) log p_target − (s/C) Σ_c log p_c for each token; targets in [0, C)."""
    xp, plain = array_namespace(logits), array_namespace(targets)
    shifted = logits - largest(xp, logits, -1)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    target = xp.take_along_axis(log_p, plain.expand_dims(targets, axis=-1), axis=-1)
    loss = -xp.squeeze(target, axis=-1)
    return (1.0 - s) * loss - s * xp.mean(log_p, axis=-1) if s else loss
