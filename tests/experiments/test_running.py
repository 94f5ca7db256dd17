"""The runner: the same rows whoever works, and an interrupted run goes on where it stopped."""

import dataclasses

import pytest
from toy_experiment import TOY, Settings

from mgt_np import experiments


def run_toy(experiment=TOY, *, seed=0, **options):
    return experiments.run(experiment, Settings(n_draws=4, seed=seed), **options)


def test_rows_are_those_of_the_tasks_in_their_order():
    result = run_toy()
    assert result.rows == [row for task in TOY.tasks(result.settings) for row in TOY.work(**task)]
    assert result.column("draw", place=2) == [0, 1, 2, 3]
    assert experiments.run(TOY).settings == TOY.quick


@pytest.mark.parametrize("jobs", [1, 2])
def test_rows_are_the_same_at_any_number_of_workers(jobs):
    assert run_toy(jobs=jobs).rows == run_toy().rows


def test_rows_are_the_same_on_a_dask_cluster():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        assert run_toy(scheduler=cluster.scheduler_address).rows == run_toy().rows


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "partial.jsonl"
    worked = []

    def interrupted(**task):
        if len(worked) == 1:
            raise KeyboardInterrupt
        return counted(**task)

    def counted(**task):
        worked.append(task)
        return TOY.work(**task)

    with pytest.raises(KeyboardInterrupt):
        run_toy(dataclasses.replace(TOY, work=interrupted), partial_path=path)
    with path.open("a") as file:
        file.write('{"task": 1, "ro')  # the process was killed as it wrote
    resumed = run_toy(dataclasses.replace(TOY, work=counted), partial_path=path)
    assert resumed.rows == run_toy().rows
    assert worked == TOY.tasks(resumed.settings)  # each of them once


def test_rows_of_other_settings_are_not_taken_up(tmp_path):
    path = tmp_path / "partial.jsonl"
    run_toy(seed=7, partial_path=path)
    assert run_toy(partial_path=path).rows == run_toy().rows
