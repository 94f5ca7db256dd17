"""Wrong layers that were written apart from the readings: all are seen, most are named.

`wrong/attention.py`, `mgt.py` and `streams.py` were written from the equations and a table of known
mistakes; readings that were missing at first were added afterwards. `wrong/fresh.py` is blind: no
reading was added for it.
"""

import pytest

from mgt_np.crosscheck import compare
from mgt_np.crosscheck.search import WRONG, Search

pytest.importorskip("torch")

from .wrong import attention, fresh, mgt, streams

KNOWN = [each for module in (attention, mgt, streams) for each in module.WRONG]
RIGHT = [each for module in (attention, mgt, streams) for each in module.RIGHT]
IN_VALUE = [each for each in KNOWN if not each.gradient_only]
IN_GRADIENT = [each for each in KNOWN + fresh.WRONG if each.gradient_only]
FRESH = [each for each in fresh.WRONG if not each.gradient_only]

# Wrong in value, and known not to be named by one explanation.
UNNAMED = frozenset(
    [
        "layer_norm-layer_norm_odd",
        "scaled_dot_product_attention-attention_mask_added",
        "multi_head_attention-heads_summed",
        "unit_direction-unit_centred",
    ]
)
# 1e-6 beside numbers of about 1, within 16 roundings of float32: float64 has to tell.
HIDDEN_IN_FLOAT32 = frozenset(
    [
        "mhc_coefficients-pre_plus_1e6",
        "mhc_coefficients-mixing_sums_plus_1e6",
        "softmax-softmax_eps",
    ]
)
FRESH_NAMED = 25  # of 51, when they were first tried


def name(each):
    blind = "fresh-" if each in fresh.WRONG else ""
    return f"{blind}{each.function}-{each.call.__name__}"


def verdict_on(each, **options):
    return compare({each.function: each.call}, **options)[each.function]


@pytest.fixture
def without_search(monkeypatch):
    """Let nothing be explained: what is seen does not depend on it."""
    monkeypatch.setattr(Search, "explanations", lambda self: [])
    monkeypatch.setattr(Search, "partly", lambda self: None)


@pytest.mark.parametrize("each", IN_VALUE + FRESH, ids=name)
def test_what_is_wrong_is_seen(each, without_search):
    row = verdict_on(each, gradients=False)
    assert row.verdict in ("wrong", "not-finite"), (each.mistake, row.worst)
    if row.verdict == "wrong":
        hidden = row.worst["float32"] <= WRONG
        assert hidden == (name(each) in HIDDEN_IN_FLOAT32), row.worst


@pytest.mark.parametrize("each", RIGHT, ids=name)
def test_what_is_right_passes(each):
    row = verdict_on(each, dtypes=("float64", "float32", "bfloat16", "float16"))
    assert row.verdict == "right", (row.worst, row.why)


@pytest.mark.parametrize("each", IN_GRADIENT, ids=name)
def test_what_is_cut_is_named(each):
    row = verdict_on(each)
    assert row.verdict == "gradient-wrong"
    assert "detached" in row.why, row.why


def is_named(each):
    row = verdict_on(each, dtypes=("float64",), gradients=False)
    assert row.verdict != "right", each.mistake
    return len(row.explanations) == 1


def test_the_list_leaves_the_share_that_is_promised():
    assert {name(each) for each in IN_VALUE} >= UNNAMED
    assert 1.0 - len(UNNAMED) / len(IN_VALUE) >= 0.95


# One in eight here, so that the suite stays short: all of them by `-m slow`.
@pytest.mark.parametrize("each", IN_VALUE[::8], ids=name)
def test_what_is_wrong_is_named(each):
    assert is_named(each) or name(each) in UNNAMED, each.mistake


@pytest.mark.slow
@pytest.mark.parametrize("each", IN_VALUE, ids=name)
def test_all_that_is_wrong_is_named(each):
    assert is_named(each) == (name(each) not in UNNAMED), each.mistake


@pytest.mark.slow
def test_as_many_of_the_fresh_ones_are_named_as_the_readme_says():
    assert sum(map(is_named, FRESH)) >= FRESH_NAMED
