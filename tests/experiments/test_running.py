"""Experiments: the same rows at any number of workers, resumed where interrupted, written whole."""

import csv
import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from small_settings import SMALL

from mgt_np import experiments
from mgt_np.experiments import EXPERIMENTS, Claim, phase_diagram
from mgt_np.experiments.experiment import extent, only_if, short
from mgt_np.experiments.states import measured, states_of_text


@pytest.fixture(params=EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def experiment(request):
    return request.param


def run_small(experiment, **options):
    return experiments.run(experiment, SMALL[experiment.name], **options)


def test_rows_are_the_same_at_any_number_of_workers(experiment):
    one, two = (run_small(experiment, jobs=jobs).rows for jobs in (1, 2))
    assert one == two
    here = run_small(experiment).rows
    for row, other in zip(here, one, strict=True):
        numbers = [{k: v for k, v in r.items() if not isinstance(v, str)} for r in (row, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=1e-9, nan_ok=True)


def test_another_seed_gives_other_rows(experiment):
    settings = dataclasses.replace(SMALL[experiment.name], seed=7)
    assert experiments.run(experiment, settings).rows != run_small(experiment).rows


def test_an_interrupted_run_goes_on_where_it_stopped(experiment, tmp_path):
    path = tmp_path / "partial.jsonl"
    whole = run_small(experiment)
    worked = []

    def interrupted(**task):
        if len(worked) == 1:
            raise KeyboardInterrupt
        return counted(**task)

    def counted(**task):
        worked.append(task)
        return experiment.work(**task)

    with pytest.raises(KeyboardInterrupt):
        run_small(dataclasses.replace(experiment, work=interrupted), partial_path=path)
    with path.open("a") as file:
        file.write('{"task": 1, "ro')  # the process was killed as it wrote
    resumed = run_small(dataclasses.replace(experiment, work=counted), partial_path=path)
    assert resumed.rows == whole.rows
    assert len(worked) == len(experiment.tasks(whole.settings))
    assert sum(task == worked[0] for task in worked) == 1


def test_rows_of_other_settings_are_not_taken_up(experiment, tmp_path):
    path = tmp_path / "partial.jsonl"
    experiments.run(
        experiment, dataclasses.replace(SMALL[experiment.name], seed=7), partial_path=path
    )
    assert run_small(experiment, partial_path=path).rows == run_small(experiment).rows


def test_written_files_are_whole_and_carry_their_provenance(experiment, tmp_path):
    result = run_small(experiment, command="mgt-np reproduce")
    claims = experiment.claims(result)
    experiments.write(result, claims, experiment.plot(result), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{experiment.name}.{suffix}" for suffix in ("csv", "json", "png")
    ]
    with (tmp_path / f"{experiment.name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(result.rows[0])
    for name, value in result.rows[-1].items():
        if isinstance(value, float):
            assert float(rows[-1][name]) == pytest.approx(value, rel=1e-9, nan_ok=True)
    record = json.loads((tmp_path / f"{experiment.name}.json").read_text())
    assert record["settings"]["seed"] == 0
    assert record["command"] == "mgt-np reproduce"
    assert "path" not in record.get("text", {"sha256": ""})
    assert ("text" in record) == hasattr(result.settings, "data")
    assert {"python", "numpy", "autograd", "mgt-np"} <= set(record["versions"])
    assert [Claim(**claim) for claim in record["claims"]] == claims
    assert (tmp_path / f"{experiment.name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_every_library_computes_the_same_rows(experiment, name):
    pytest.importorskip(name)
    settings = dataclasses.replace(SMALL[experiment.name], array_library=name)
    result = experiments.run(experiment, settings)
    assert name in result.provenance["versions"]
    for row, other in zip(result.rows, run_small(experiment).rows, strict=True):
        numbers = [{k: v for k, v in r.items() if not isinstance(v, str)} for r in (row, other)]
        if "d" in row:  # the worst of many operators is a matter of rounding
            numbers = [{k: n[k] for k in ("d", "operators")} for n in numbers]
            assert row["error"] <= 1e-12
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=1e-9, nan_ok=True)


def test_a_dask_scheduler_is_an_executor_among_others(experiment, monkeypatch):
    class Client:
        def __init__(self, address):
            assert address == "tcp://here:1"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def get_executor(self):
            return ThreadPoolExecutor(2)

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    rows = run_small(experiment, scheduler="tcp://here:1").rows
    assert rows == run_small(experiment).rows


def test_full_settings_ask_for_more(experiment):
    assert type(experiment.full) is type(experiment.quick)
    assert experiment.full != experiment.quick
    assert len(experiment.tasks(experiment.full)) >= len(experiment.tasks(experiment.quick))


def test_rank_evolution_has_the_columns_that_others_read():
    row = run_small(EXPERIMENTS["rank-evolution"]).rows[0]
    assert list(row) == ["rule", "weight_scale", "seed", "layer", "effective_rank", "state_norm"]


def test_rules_of_one_seed_share_embeddings_and_sublayers():
    result = run_small(EXPERIMENTS["rank-evolution"])
    first = {
        rule: result.column("effective_rank", rule=rule, weight_scale="lecun", seed=0, layer=0)
        for rule in ("post_ln", "mgt")
    }
    assert first["post_ln"] == first["mgt"]


@pytest.mark.parametrize("data", ["python-docs"])
def test_post_ln_collapses_and_mgt_does_not_at_depth_100(data):
    """The headline, and the setting where it fails, on real text: 0.1 and 0.5 are the paper's."""
    sizes = {"data": data, "seed": 0, "n_windows": 1, "n_tokens": 64, "d_model": 64, "n_heads": 4}

    def rank(rule, **options):
        return measured(states_of_text(residual=rule, depth=100, **sizes, **options)[-1])[0]

    assert rank("post_ln", weight_scale="lecun") < 0.1
    assert rank("mgt", weight_scale="lecun") > 0.5
    assert rank("post_ln", weight_scale=0.02) > 0.5
    assert rank("mgt", weight_scale="lecun", mgt_b_beta=0.5, mgt_alpha=1.0) < 0.1


def test_negative_beta_explodes():
    states = states_of_text(
        residual="mgt",
        mgt_b_beta=-0.5,
        mgt_alpha=1.0,
        depth=20,
        data="python-docs",
        seed=0,
        n_windows=1,
        n_tokens=8,
        d_model=8,
        n_heads=2,
    )
    growth = measured(states[-1])[1] / measured(states[0])[1]
    assert growth == pytest.approx((1 + np.tanh(0.5)) ** 40, rel=0.2)


def test_an_overflowing_state_has_no_rank_and_an_infinite_norm():
    rank, norm = measured(np.full((1, 2, 3), np.inf))
    assert np.isnan(rank)
    assert norm == np.inf


@pytest.mark.parametrize(
    ("rank", "growth", "name"),
    [(0.6, 2, "keeps"), (0.05, 2, "collapses"), (0.3, 2, "loses"), (0.6, 1e4, "explodes")],
)
def test_phases_of_a_cell(rank, growth, name):
    assert phase_diagram.phase({"effective_rank": rank, "growth": growth}) == name


def test_a_state_that_overflowed_counts_as_exploded():
    assert phase_diagram.phase({"effective_rank": np.nan, "growth": np.nan}) == "explodes"


def test_verdicts_follow_the_numbers():
    """Claims are computed from the rows: turn the rows round and the verdict turns."""
    experiment = EXPERIMENTS["delta-spectrum"]
    result = run_small(experiment)
    assert [claim.verdict for claim in experiment.claims(result)] == ["holds", "holds"]
    wrong = dataclasses.replace(result, rows=[{**row, "error": 1e-3} for row in result.rows])
    assert [claim.verdict for claim in experiment.claims(wrong)] == ["does not hold", "holds"]

    experiment = EXPERIMENTS["rank-evolution"]
    result = run_small(experiment)
    verdicts = {}
    for rank in (0.05, 0.7):
        rows = [{**row, "effective_rank": rank} for row in result.rows]
        claims = experiment.claims(dataclasses.replace(result, rows=rows))
        verdicts[rank] = [claim.verdict.split()[0] for claim in claims]
    assert verdicts == {0.05: ["holds", "does"], 0.7: ["does", "holds"]}

    experiment = EXPERIMENTS["phase-diagram"]
    result = run_small(experiment)
    for rank, verdict in ((0.7, "holds"), (0.05, "does not hold")):
        rows = [{**row, "effective_rank": rank, "growth": 1.0} for row in result.rows]
        claims = experiment.claims(dataclasses.replace(result, rows=rows))
        assert {claim.verdict for claim in claims} == {verdict}


def test_the_verdicts_of_delta_dynamics_follow_the_numbers():
    experiment = EXPERIMENTS["delta-dynamics"]
    result = run_small(experiment)

    def verdicts(**columns):
        changed = [
            {**row, **{name: value(row) for name, value in columns.items()}} for row in result.rows
        ]
        return [c.verdict for c in experiment.claims(dataclasses.replace(result, rows=changed))]

    exact, bounded, gradient, rank, forms = verdicts()
    assert exact.startswith("holds only if ‖k‖ ≫ ε")
    assert [bounded, gradient, rank, forms] == ["holds"] * 4
    assert verdicts(deviation=lambda row: 1e-13)[0] == "holds"
    assert verdicts(deviation=lambda row: 1e-3)[0] == "does not hold"
    assert verdicts(growth=lambda row: 3.0)[1] == "does not hold"
    of_half = "holds only if β₀ = 0.5 (of those tried)"
    assert verdicts(growth=lambda row: row["beta_init"])[1] == "holds"
    assert verdicts(growth=lambda row: 2.0 * row["beta_init"])[1] == of_half
    steep = verdicts(gradient=lambda row: 1e4 ** (-row["layer"] * (row["beta_init"] - 0.5)))
    assert steep[2] == of_half
    assert verdicts(effective_rank=lambda row: 0.3)[3] == "does not hold"
    assert verdicts(sequence_difference=lambda row: 1e-6)[4] == "does not hold"


@pytest.mark.parametrize(("update", "erase"), [("delta", True), ("write only", False)])
def test_delta_dynamics_measures_the_rule_of_its_name(update, erase):
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


def test_a_verdict_lists_where_a_claim_was_found_true():
    assert only_if([], [0.5, 1.0], "β = {}") == "does not hold"
    assert only_if([0.5, 1.0], [0.5, 1.0], "β = {}") == "holds"
    assert only_if([0.5, 1.0], [0.5, 1.0, 2.0], "β = {}") == "holds only if β = 0.5 or 1"
    assert only_if(["it rains"], {"it rains": 1, "it snows": 2}) == "holds only if it rains"


@pytest.mark.parametrize(
    ("x", "words"),
    [(0.123, "0.12"), (22.0, "22"), (999.0, "1e3"), (3.2e8, "3e8"), (4e-12, "4e-12")],
)
def test_numbers_in_few_characters(x, words):
    assert short(x) == words
    assert short(float("inf")) == "inf"


def test_extents_in_words():
    assert extent([3, 1, 2]) == "1 … 3"
    assert extent([2, 2]) == "2"


@pytest.mark.parametrize("width", [80, 120])
def test_the_claims_table_keeps_its_width_and_its_words(width):
    claim = Claim("a claim " * 12, "a source", "0.1 " * 30, "holds only if it rains")
    table = experiments.claims_table([("figure.png", claim)], width)
    assert max(map(len, table.splitlines())) <= width
    assert table.count("0.1") == 30
    assert "verdict" in table.splitlines()[0]
