"""Learning rate schedules: linear warm-up, then cosine decay, or constant with a decay at the end (WSD)."""

from math import cos, pi, sqrt


def warmup_cosine(step: int, *, peak: float, floor: float, warmup_steps: int, steps: int) -> float:
    """Learning rate of update number `step`, counted from 0: linear warm-up, then cosine decay.

        step < warmup_steps:   peak · (step + 1) / (warmup_steps + 1)
        otherwise:             floor + (peak − floor) · (1 + cos(π · progress)) / 2
                               progress = (step − warmup_steps) / (steps − warmup_steps)

    Update `warmup_steps` runs at the peak. The floor is reached at `steps`, one past the last update, and applies
    from then on, so no update is wasted on a rate of zero at either end. Starting low gives AdamW's running averages
    time to fill before the steps get long; ending low lets the noise of single batches average out.
    Source: Loshchilov and Hutter 2016 (arXiv 1608.03983); warm-up: Goyal et al. 2017 (arXiv 1706.02677).
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if step >= steps:
        return floor
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return floor + (peak - floor) * (1 + cos(pi * progress)) / 2


def warmup_stable_decay(
    step: int, *, peak: float, floor: float, warmup_steps: int, decay_steps: int, steps: int
) -> float:
    """Learning rate of update number `step`, counted from 0: warm-up, constant, decay in the last `decay_steps`.

        step < warmup_steps:           peak · (step + 1) / (warmup_steps + 1)
        step < steps − decay_steps:    peak
        otherwise:                     floor + (peak − floor) · (1 − √progress)
                                       progress = (step − (steps − decay_steps)) / decay_steps

    Update `steps − decay_steps` is the last at the peak; the floor is reached at `steps`, one past the last update.
    Where warm-up and decay overlap, the lower rate counts. Unlike the cosine, the constant part does not depend on
    where the run ends: it can be extended later, and a decay from any of its checkpoints, over 10 to 20 % of the steps,
    does as well as a cosine of that length. 1 − √ falls fast at first and ends lower than a linear decay.
    Source: Hu et al. 2024, MiniCPM (arXiv 2404.06395); 1 − √: Hägele et al. 2024 (arXiv 2405.18392).
    """
    if step >= steps:
        return floor
    rising = peak * min(1.0, (step + 1) / (warmup_steps + 1))
    decayed = step - (steps - decay_steps)
    if decayed <= 0:
        return rising
    return min(rising, floor + (peak - floor) * (1 - sqrt(decayed / decay_steps)))
