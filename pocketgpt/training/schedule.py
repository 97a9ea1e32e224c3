"""The learning rate over time: up in a straight line, down along a cosine."""

from math import cos, pi


def warmup_cosine(step: int, *, peak: float, floor: float, warmup_steps: int, steps: int) -> float:
    """The learning rate of update number `step`, counted from 0.

        step < warmup_steps:   peak · (step + 1) / (warmup_steps + 1)
        otherwise:             floor + (peak − floor) · (1 + cos(π · progress)) / 2
                               progress = (step − warmup_steps) / (steps − warmup_steps)

    Update `warmup_steps` runs at the peak. The floor is reached at `steps`, one past the last update, and kept from
    there, so that no update is wasted on a rate of zero at either end. Starting low lets AdamW's running averages fill
    before the steps get long; ending low lets the noise of single batches average out.
    Source: Loshchilov and Hutter 2016 (arXiv 1608.03983); warm-up: Goyal et al. 2017 (arXiv 1706.02677).
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if step >= steps:
        return floor
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return floor + (peak - floor) * (1 + cos(pi * progress)) / 2
