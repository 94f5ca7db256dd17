"""Learning rates: PyTorch's recorded schedules, and the ends of each part."""

import numpy as np
import pytest

from mgt_np.training import learning_rate


@pytest.mark.parametrize("which", [0, 1])
def test_warm_up_and_cosine_are_pytorchs(golden, which):
    file = golden("torch_schedules_cosine_warmup")
    base, warmup, steps, least = file[f"in.base_warmup_steps_etamin_{which}"]
    expected = file[f"out.lr_lambda_{which}"]
    got = [
        learning_rate(i, peak=base, warmup=int(warmup), n_steps=int(steps), least=least)
        for i in range(len(expected))
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=0.0)


def test_the_warm_up_ends_at_the_peak_and_the_cosine_at_the_least():
    rates = [learning_rate(i, peak=2.0, warmup=4, n_steps=10, least=0.5) for i in range(12)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[7] == pytest.approx(1.25)
    assert rates[10:] == [0.5, 0.5]


def test_a_constant_rate_stays_and_no_warm_up_starts_at_the_peak():
    constant = [
        learning_rate(i, peak=2.0, warmup=2, n_steps=4, schedule="constant") for i in range(6)
    ]
    assert constant == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert learning_rate(0, peak=2.0, warmup=0, n_steps=4) == 2.0


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        learning_rate(0, peak=1.0, warmup=0, n_steps=1, schedule="cosin")
    with pytest.raises(ValueError, match="step of at least 0, got -1"):
        learning_rate(-1, peak=1.0, warmup=0, n_steps=1)
