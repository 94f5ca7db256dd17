"""Rotary position embedding: relative positions as angles (Su et al., RoFormer, 2104.09864)."""

import math

from mgt_np.arrays import array_namespace, device, layer


@layer
def rotary_embedding(
    x: "... N 2·h≥2",
    *,
    base: "float > 0" = 10000.0,
    start: "int" = 0,
    layout: "'half' | 'interleaved'" = "half",
) -> "... N 2·h":
    """Return tokens with each pair of features turned by an angle that grows with their place.

        (a, b) → (a cos φ − b sin φ, a sin φ + b cos φ),    φ = t base^(−2i/d)      (eq. 34)

    for the token at place t = start, start + 1, … and the pairs i = 0 … d/2 − 1 of d features:
    features (i, i + d/2) for layout="half", as in the code of Deep Delta Learning; (2i, 2i + 1) for
    layout="interleaved", the paper's own. Lengths stay, and the inner product of a query and a key
    depends on how far apart they are alone. Place 0 is not turned.
    """
    xp, (N, d) = array_namespace(x), x.shape[-2:]
    there = {"dtype": x.dtype, "device": device(x)}
    places = xp.expand_dims(xp.arange(start, start + N, **there), axis=1)
    angles = places * xp.exp(xp.arange(d // 2, **there) * (-2.0 * math.log(base) / d))
    cos, sin = xp.cos(angles), xp.sin(angles)
    if layout == "half":
        cos, sin = xp.concat([cos, cos], axis=-1), xp.concat([-sin, sin], axis=-1)
        return x * cos + xp.roll(x, d // 2, axis=-1) * sin
    cos = xp.reshape(xp.stack([cos, cos], axis=-1), (N, d))
    sin = xp.reshape(xp.stack([-sin, sin], axis=-1), (N, d))
    partners = xp.flip(xp.reshape(x, (*x.shape[:-1], d // 2, 2)), axis=-1)
    return x * cos + xp.reshape(partners, x.shape) * sin
