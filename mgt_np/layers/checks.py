"""Tokens and targets: integers that name a class, in range or not."""

from mgt_np.arrays import array_namespace, on_host


def as_indices(x):
    """Return integers in the library's default integer dtype.

    A narrow one (uint8, say) cannot hold the number of classes that they are compared with.
    """
    xp = array_namespace(x)
    default = xp.__array_namespace_info__().default_dtypes()["integral"]
    return xp.astype(x, default, copy=False)


def in_range(x, n_classes, *, name):
    """Return integers in [0, n_classes), and where they were not; raise ValueError on the host.

    On a device, raising would stop everything until the answer is there, and a compiler has no
    values to look at. So what is outside is moved inside, and the caller makes NaN of what comes of
    it. On the host, None is outside.
    """
    xp = array_namespace(x)
    if not on_host(x):
        outside = xp.logical_or(x < 0, x >= n_classes)
        return xp.where(outside, xp.zeros_like(x), x), outside
    if 0 not in x.shape:
        low, high = int(xp.min(x)), int(xp.max(x))
        if low < 0 or high >= n_classes:
            raise ValueError(f"{name} in [0, {n_classes}), got {low if low < 0 else high}")
    return x, None


def perhaps_any(x):
    """Say whether any of these truth values is true; True where only a device knows."""
    return not on_host(x) or bool(array_namespace(x).any(x))
