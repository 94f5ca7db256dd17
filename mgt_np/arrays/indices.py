"""Tokens and targets: integers that name a class, in range or not."""

from .boxes import on_host
from .namespace import array_namespace, concrete


def as_indices(x):
    """Return integers in the library's default integer dtype.

    A narrow one (uint8, say) cannot hold the number of classes that they are compared with.
    """
    xp = array_namespace(x)
    default = xp.__array_namespace_info__().default_dtypes()["integral"]
    return xp.astype(x, default, copy=False)


def out_of_range(indices, n_classes, *, name):
    """Return what was expected and what came, where the host knows of an index outside [0, n).

    On a device, to ask would be to wait until the answer is there, and a compiler has no values to
    look at: there None is the answer, and `inside` makes the index harmless.
    """
    if not on_host(indices) or 0 in indices.shape:
        return None
    indices = concrete(indices)
    xp = array_namespace(indices)
    low, high = int(xp.min(indices)), int(xp.max(indices))
    if low >= 0 and high < n_classes:
        return None
    return f"expected {name} in [0, {n_classes}), got {low if low < 0 else high}"


def inside(indices, n_classes):
    """Return indices in [0, n), and which were not so; None on the host, where none is outside.

    The caller makes NaN of what comes of those.
    """
    if on_host(indices):
        return indices, None
    xp = array_namespace(indices)
    outside = xp.logical_or(indices < 0, indices >= n_classes)
    return xp.where(outside, xp.zeros_like(indices), indices), outside


def perhaps_any(x):
    """Say whether any of these truth values is true; True where only a device knows."""
    if not on_host(x):
        return True
    x = concrete(x)
    return bool(array_namespace(x).any(x))
