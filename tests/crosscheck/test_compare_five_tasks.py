"""Five checks that took 17 to 47 lines each before `compare` existed, in at most six lines each.

What is under test stands above; the body of each test is what its owner writes.
"""

import importlib.util
import types
from pathlib import Path

import pytest

from mgt_np.crosscheck import compare

torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_mhc_right.py"


def transposed_mhc():
    """The right example, but with a mix that is transposed, as a module."""
    source = EXAMPLE.read_text(encoding="utf-8")
    right, wrong = "...ij,...jd->...id", "...ij,...id->...jd"
    assert source.count(right) == 1
    module = types.ModuleType("transposed_mhc")
    exec(compile(source.replace(right, wrong), "transposed_mhc", "exec"), module.__dict__)
    return module.mhc_connection


def deep_delta(x, k, W_v, W_beta, b_v, b_beta, *, context, v_input=None):
    """A Deep Delta layer whose k is not normalised."""
    v = (x if v_input is None else v_input) @ W_v + b_v
    beta = 2.0 * torch.sigmoid(context @ W_beta + b_beta)
    return x + beta * (v - (k * x).sum(-1, keepdim=True)) * k


def after_the_paper(x, k, W_v, W_beta, b_v, b_beta, *, context, v_input=None):
    """A right layer whose v is the paper's, c W_v."""
    k = k / (k.square().sum(-1, keepdim=True) + 1e-10).sqrt()
    return deep_delta(x, k, W_v, W_beta, b_v, b_beta, context=context, v_input=context)


def after_the_paper_by_default(x, k, W_v, W_beta, b_v, b_beta, *, context, v_input=None):
    """The same, unless it is told what v reads."""
    k = k / (k.square().sum(-1, keepdim=True) + 1e-10).sqrt()
    u = context if v_input is None else v_input
    return deep_delta(x, k, W_v, W_beta, b_v, b_beta, context=context, v_input=u)


def readings(row):
    """The names of the readings in each explanation."""
    return [{r.name for r in explanation} for explanation in row.explanations]


class TestLiveHyperConnections:
    """(a) A live mHC of the package hyper-connections, which calls .float() inside."""

    @pytest.fixture
    def mHC(self):
        if importlib.util.find_spec("hyper_connections") is None:
            pytest.skip("the package hyper-connections is not installed")
        return importlib.import_module("hyper_connections").mHC

    def test_is_right_in_float32_only(self, mHC):
        layer = mHC(4, dim=8)
        report = compare(layer, adapter="hyper_connections")
        assert report.ok
        assert report["hyper_connections"].verdict == "right-in-float32-only"

    def test_is_wrong_with_a_transposed_mix_although_it_starts_symmetric(self, mHC):
        layer = mHC(4, dim=8)
        mix = layer.residual_mix_constraint_fn
        layer.residual_mix_constraint_fn = lambda logits: mix(logits).transpose(-1, -2)
        assert compare(layer, adapter="hyper_connections")["hyper_connections"].verdict == "wrong"


class TestOwnMHC:
    """(b) An own mHC with a transposed mix, of which only the layer's output is there."""

    def test_is_named_transposed(self):
        row = compare({"mhc_connection": transposed_mhc()})["mhc_connection"]
        assert row.verdict == "wrong"
        assert readings(row) == [{"transposed=True"}]
        assert "H_res is transposed" in str(row.explanations)

    def test_is_not_taken_for_a_convention_that_is_near(self):
        report = compare({"mhc_connection": transposed_mhc()}, follows="deepseek-v4")
        assert report["mhc_connection"].verdict == "wrong"


class TestDeepDelta:
    """(c) Deep Delta Learning, where the paper and its authors' code disagree about v."""

    def test_without_a_normalised_k_is_named(self):
        row = compare({"deep_delta_residual": deep_delta})["deep_delta_residual"]
        assert row.verdict == "wrong"
        assert readings(row) == [{"norm=none"}]
        assert row.explanations[0][0].says == "k is not normalised"

    @pytest.mark.parametrize(
        ("layer", "convention"),
        [
            (after_the_paper, "DDL's paper"),
            (after_the_paper_by_default, "DDL's paper, v_input apart"),
        ],
    )
    def test_after_the_paper_is_right(self, layer, convention):
        row = compare({"deep_delta_residual": layer})["deep_delta_residual"]
        assert (row.verdict, row.convention) == ("right-following", convention)


class TestTorchAttention:
    """(d) PyTorch's attention, with its packed, transposed weights and its sense of masks."""

    def test_is_right(self):
        attention = torch.nn.MultiheadAttention(12, 3, batch_first=True)
        report = compare(attention, adapter="torch_attention")
        assert report["torch_attention"].verdict == "right"

    def test_is_right_under_its_own_mask(self):
        hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
        attention = torch.nn.MultiheadAttention(12, 3)
        report = compare(attention, adapter="torch_attention", attn_mask=hidden)
        assert report["torch_attention"].verdict == "right"


class TestTorchEncoderLayer:
    """(e) PyTorch's encoder layer under a float mask."""

    @pytest.fixture
    def layer(self):
        return torch.nn.TransformerEncoderLayer(12, 3, 16, batch_first=True).eval()

    def test_is_right_under_a_mask_of_zeros_and_minus_infinity(self, layer):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
        report = compare(layer, adapter="torch_encoder_layer", src_mask=mask)
        assert report["torch_encoder_layer"].verdict == "right"

    def test_refuses_a_finite_additive_mask_in_one_line(self, layer):
        said = "expected src_mask to be a boolean mask or one of 0 and −∞, got other values"
        with pytest.raises(ValueError, match=said) as e:
            compare(layer, adapter="torch_encoder_layer", src_mask=0.1 * torch.ones(5, 5))
        assert "\n" not in str(e.value)

    def test_refuses_train_mode_in_one_line(self, layer):
        with pytest.raises(ValueError, match=r"call \.eval\(\)") as e:
            compare(layer.train(), adapter="torch_encoder_layer")
        assert "\n" not in str(e.value)
