"""Learning rates over the steps of a run."""

import math

from mgt_np.arrays.checks import one_of

SCHEDULES = ("cosine", "constant")


def learning_rate(step, *, peak, warmup, n_steps, schedule="cosine", least=0.0):
    """Return the learning rate of a step, counted from 0.

        lr = peak (step + 1)/warmup                                      for step < warmup
        lr = least + (peak − least) (1 + cos πt)/2,  t = (step − warmup)/(n_steps − warmup)

    and the peak itself after the warm-up where `schedule` is "constant". The warm-up ends at the
    peak; without one the first step has it. Behind the last step the cosine stays at `least`.
    Raises ValueError for a step below 0 and an unknown schedule.
    """
    one_of(SCHEDULES, **{"learning_rate: schedule": schedule})
    if step < 0:
        raise ValueError(f"learning_rate: expected a step of at least 0, got {step}")
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    t = min(1.0, (step - warmup) / max(1, n_steps - warmup))
    return least + (peak - least) * (1.0 + math.cos(math.pi * t)) / 2.0
