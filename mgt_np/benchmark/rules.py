"""The residual rules that the peers have: the equations once, each peer's own functions in them."""


def rules(norm, gate, beta):
    """Return (x, f, params, config) → x' by the name of the rule.

    `norm(x, gain, bias)`, `gate(x, params)` and `beta(x, params, config)` are the peer's.
    """

    def none(x, f, p, config):
        return f(norm(x, **p["norm"]))

    def post_ln(x, f, p, config):
        return norm(x + f(x), **p["norm"])

    def pre_ln(x, f, p, config):
        return x + f(norm(x, **p["norm"]))

    def mgt(x, f, p, config):
        v, p = f(norm(x, **p["norm"])), p["update"]
        return x + beta(x, p, config) * (v * gate(x, p) - p["alpha"] * x)

    def mgt_mhc_only(x, f, p, config):
        return x + f(norm(x, **p["norm"])) * gate(x, p["update"])

    def mgt_ddl_only(x, f, p, config):
        v, p = f(norm(x, **p["norm"])), p["update"]
        return x + beta(x, p, config) * (v - p["alpha"] * x)

    written = (none, post_ln, pre_ln, mgt, mgt_mhc_only, mgt_ddl_only)
    return {rule.__name__: rule for rule in written}
