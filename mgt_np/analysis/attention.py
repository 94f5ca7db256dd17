"""How spread out is attention?"""

from mgt_np.arrays import operands


def attention_entropy(P):
    """Return the entropy of each query's attention, in nats.

        Ent(P)ᵢ = −Σⱼ Pᵢⱼ log Pᵢⱼ,    0 log 0 = 0                   (Zhai et al., 2303.06296, §3)

    Shapes: P (..., n_queries, n_keys) with rows that sum to one; result (..., n_queries) in
    [0, log n_keys]: 0 where one key gets all, log n_keys where all get the same.
    Raises ValueError for a negative weight.
    """
    xp, P = operands(P=P)
    if bool(xp.any(P < 0.0)):
        raise ValueError("expected attention weights ≥ 0, got a negative one")
    return -xp.sum(P * xp.log(xp.where(P == 0.0, 1.0, P)), axis=-1)
