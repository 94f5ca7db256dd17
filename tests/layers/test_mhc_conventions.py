"""The table of mHC's conventions is data."""

import dataclasses

import pytest

from mgt_np.layers.mhc_conventions import MHC_CONVENTIONS, MHCConvention, convention_row


def test_a_row_is_found_by_its_name_or_given():
    row = MHC_CONVENTIONS["paper"]
    assert convention_row("paper") is row
    assert convention_row(row) is row
    assert convention_row("paper", 3) == dataclasses.replace(row, n_iters=3)
    assert MHC_CONVENTIONS["huggingface"] is MHC_CONVENTIONS["deepseek-v4"]


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        MHC_CONVENTIONS["paper"] = MHCConvention()
    with pytest.raises(dataclasses.FrozenInstanceError):
        MHC_CONVENTIONS["paper"].eps = 1.0


@pytest.mark.parametrize("name", MHC_CONVENTIONS)
def test_a_static_row_has_biases_alone(name):
    shapes = dataclasses.replace(MHC_CONVENTIONS[name], projection="static").shapes()
    assert shapes.keys() == {"b_pre", "b_post", "b_res"}
