"""What is declared, what is computed in float32, and a report that can be pasted from."""

import pytest

from mgt_np.crosscheck import case, compare

torch = pytest.importorskip("torch")


def deep_delta(normalised=True, v_reads="context"):
    """A Deep Delta layer, the paper's with v = c W_v by default."""

    def layer(x, k, W_v, W_beta, b_v, b_beta, *, context, v_input=None):
        k = k / (k.square().sum(-1, keepdim=True) + 1e-10).sqrt() if normalised else k
        u = context if v_reads == "context" else x if v_input is None else v_input
        beta = 2.0 * torch.sigmoid(context @ W_beta + b_beta)
        return x + beta * (u @ W_v + b_v - (k * x).sum(-1, keepdim=True)) * k

    return {"deep_delta_residual": layer}


def update(transposed=True):
    """mHC's update, with H_res transposed, or not."""

    def layer(X, y, H_post, H_res):
        H_res = H_res.mT if transposed else H_res
        return H_res @ X + H_post[..., None] * y[..., None, :]

    return layer


def sinkhorn(logits, *, n_iters=20):
    """Rows first, and ε = 1e-6 added to each sum."""
    P = logits.exp()
    for _ in range(n_iters):
        P = P / (P.sum(-1, keepdim=True) + 1e-6)
        P = P / (P.sum(-2, keepdim=True) + 1e-6)
    return P


def names(row):
    return [[r.name for r in explanation] for explanation in row.explanations]


def layer_norm(eps):
    """PyTorch's layer norm, in float32 whatever it is given."""

    def layer(x, gain=None, bias=None):
        gain, bias = (None if w is None else w.float() for w in (gain, bias))
        y = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], gain, bias, eps)
        return y.to(x.dtype)

    return {"layer_norm": layer}


class TestDeclared:
    def test_what_holds_is_right(self):
        row = compare(deep_delta(), follows={"v_reads": "context"})["deep_delta_residual"]
        assert (row.verdict, row.convention) == ("right-following", "v_reads=context")

    @pytest.mark.parametrize("follows", ["DDL's paper", {"v_reads": "context"}])
    def test_a_mistake_beside_it_is_named_alone(self, follows):
        report = compare(deep_delta(normalised=False), follows=follows)
        row = report["deep_delta_residual"]
        assert (row.verdict, names(row)) == ("wrong", [["norm=none"]])

    def test_what_does_not_hold_is_wrong_and_no_other_mistake_is_named(self):
        row = compare(deep_delta(v_reads="v_input"), follows="DDL's paper")["deep_delta_residual"]
        assert row.verdict == "wrong"
        assert "what is declared does not hold" in row.why
        assert names(row) == row.symptoms == []

    def test_a_convention_that_no_case_has_is_no_verdict(self):
        module = {"mhc_connection": lambda X, sublayer, params, **_: X}
        report = compare(module, follows="lucidrains")
        assert report["mhc_connection"].verdict == "skipped"
        assert "lucidrains" in report["mhc_connection"].why

    def test_a_part_of_it_is_not_enough(self):
        row = compare({"sinkhorn": sinkhorn}, follows={"order": "rows_columns"})["sinkhorn"]
        assert (row.verdict, names(row)) == ("wrong", [["eps=1e-06"]])


class TestFloat32Inside:
    def test_right_in_float32_is_no_mistake(self):
        assert compare(layer_norm(1e-5))["layer_norm"].verdict == "right-in-float32-only"

    def test_a_mistake_in_float32_is_named(self):
        row = compare(layer_norm(1e-6))["layer_norm"]
        assert (row.verdict, names(row)) == ("wrong", [["eps=1e-06"]])
        assert ".float() inside" in row.why


class TestText:
    def test_the_line_to_paste_is_one_line_that_runs(self):
        theirs = {"scaled_dot_product_attention": lambda q, k, v, **_: (q @ k.mT).softmax(-1) @ v}
        ids = {"causal", "all-allowed-low", "batch-mask"}
        keep = {f"scaled_dot_product_attention/{id}" for id in ids}
        report = compare(theirs, skip={id: "long" for id in others(keep)}, gradients=False)
        (line,) = [x for x in str(report).splitlines() if x.strip().startswith("again: ")]
        id = line.partition('case("')[2].partition('")')[0]
        assert id in keep
        assert not case(id).run(theirs["scaled_dot_product_attention"]).ok

    def test_no_id_is_cut_in_two(self):
        theirs = {"scaled_dot_product_attention": lambda q, k, v, **_: 0.0 * q @ k.mT @ v}
        row = compare(theirs, gradients=False)
        words = str(row).replace(",", " ").replace(";", " ").split()
        assert len(row["scaled_dot_product_attention"].shows) >= 9
        assert set(row["scaled_dot_product_attention"].shows) <= set(words)

    def test_a_case_that_shows_a_wrong_gradient_is_not_hidden(self):
        def detached(X, y, H_post, H_res):
            return update(transposed=False)(X, y, H_post, H_res.detach())

        row = compare({"mhc_update": detached})["mhc_update"]
        assert row.verdict == "gradient-wrong"
        assert row.shows
        assert not set(row.shows) & set(row.hidden)

    def test_one_is_singular(self):
        report = compare(
            {"mhc_update": update()}, skip=dict.fromkeys(others({"mhc_update/plain"}), "-")
        )
        first, *_, last = str(report).splitlines()
        assert " 1 case  " in first
        assert last == "1 function compared, 1 wrong"


def others(keep):
    """The cases of the functions in `keep` that are not in it."""
    from mgt_np.crosscheck.cases import cases_of

    functions = {id.partition("/")[0] for id in keep}
    return [c.id for name in functions for c in cases_of(name) if c.id not in keep]
