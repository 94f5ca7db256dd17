"""Delta dynamics: verdicts that follow the rows, and rows of the rule that they name."""

import pytest
from small_settings import SMALL, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS
from mgt_np.experiments.states import measured, states_of_text


def test_verdicts_follow_the_rows():
    result = small_run("delta-dynamics")
    exact, *others = verdicts(result)
    assert exact.startswith("holds only if ‖k‖ ≫ ε")
    assert others == ["holds"] * 4
    assert verdicts(result, deviation=1e-13)[0] == "holds"
    assert verdicts(result, deviation=1e-3)[0] == "does not hold"
    assert verdicts(result, growth=3.0)[1] == "does not hold"
    of_half = "holds only if β₀ = 0.5 (of those tried)"
    assert verdicts(result, growth=lambda row: row["beta_init"])[1] == "holds"
    assert verdicts(result, growth=lambda row: 2.0 * row["beta_init"])[1] == of_half
    steep = verdicts(result, gradient=lambda row: 1e4 ** (-row["layer"] * (row["beta_init"] - 0.5)))
    assert steep[2] == of_half
    assert verdicts(result, effective_rank=0.3)[3] == "does not hold"
    assert verdicts(result, sequence_difference=1e-6)[4] == "does not hold"


@pytest.mark.parametrize(("update", "erase"), [("delta", True), ("write only", False)])
def test_it_measures_the_rule_of_its_name(update, erase):
    """Its rows are those of the decoder's states, and the control is the rule that writes only."""
    settings = SMALL["delta-dynamics"]
    (task,) = (
        task
        for task in EXPERIMENTS["delta-dynamics"].tasks(settings)
        if (task["beta_init"], task["update"], task["d_model"]) == (1.0, update, 8)
    )
    last = EXPERIMENTS["delta-dynamics"].work(**task)[-1]
    names = ("data", "seed", "n_windows", "n_tokens", "d_model", "n_heads", "depth")
    sizes = {name: task[name] for name in names}
    states = states_of_text(residual="ddl", ddl_erase=erase, **sizes)
    assert last["layer"] == settings.depth
    assert last["growth"] == pytest.approx(measured(states[-1])[1] / measured(states[0])[1])
    assert last["effective_rank"] == pytest.approx(measured(states[-1])[0])
    alike = last["error_after"] == pytest.approx(last["expected_after"], rel=1e-8)
    assert alike == erase
