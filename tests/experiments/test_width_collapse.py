"""Collapse in width: the slope of the gap, and verdicts that follow the rows."""

import dataclasses

import pytest
from small_settings import small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, run, width_collapse


def test_verdicts_on_collapse_in_width():
    result = small_run("width-collapse")

    def falling(row):
        return {"second": row["tokens"] ** -0.5, "covariance_stable_rank": 1.0}

    def growing(row):
        covariance = 9.0 if row["remedy"] == "A" else 20.0
        return {"second": 0.5, "stable_rank": 5.0, "covariance_stable_rank": covariance}

    def verdicts_where(change):
        rows = [{**row, **change(row)} for row in result.rows]
        return verdicts(dataclasses.replace(result, rows=rows))

    assert verdicts_where(falling)[:3] == ["holds", "holds", "does not hold"]
    assert verdicts_where(growing) == ["does not hold", "does not hold", "holds", "holds"]
    wide_only = verdicts_where(
        lambda row: (falling if row["kind"] == width_collapse.GROWING else growing)(row)
    )
    assert wide_only[:2] == ["holds only if the width grows with T"] * 2


def test_the_gap_opens_with_the_context_where_the_width_grows_too():
    settings = width_collapse.Settings(
        contexts=(32, 64, 128, 256), total=512, fixed_width=16, depth_tokens=8, depth=1
    )
    experiment = EXPERIMENTS["width-collapse"]
    result = run(dataclasses.replace(experiment, tasks=one_layer_tasks), settings)
    assert width_collapse.slope(result, width_collapse.GROWING) == pytest.approx(-0.5, abs=0.2)
    assert width_collapse.slope(result, width_collapse.FIXED) > -0.25


def one_layer_tasks(settings):
    return [task for task in width_collapse.tasks(settings) if task["tokens"] > 8]
