"""How spread out is attention?"""

from mgt_np.arrays import array_namespace, layer


@layer
def attention_entropy(P: "... n_keys, ≥ 0") -> "...":
    """Return the entropy of each query's attention, in nats.

        Ent(P)ᵢ = −Σⱼ Pᵢⱼ log Pᵢⱼ,    0 log 0 = 0                   (Zhai et al., 2303.06296, §3)

    Rows of P sum to one; the result is in [0, log n_keys]: 0 where one key gets all, log n_keys
    where all get the same.
    """
    xp = array_namespace(P)
    return -xp.sum(P * xp.log(xp.where(P == 0.0, 1.0, P)), axis=-1)
