"""Exercise `learning_rate`: linear warm-up, then half a cosine down to a floor."""

import math

import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("rate",))
def learning_rate(step: int, peak: float, floor: float, warmup: int, steps: int) -> float:
    """PyTorch's own schedulers, LinearLR and CosineAnnealingLR one after the other; the floor from the end on."""
    if step >= steps:
        return floor
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=peak)
    schedules = torch.optim.lr_scheduler
    cosine = {"T_max": steps - warmup, "eta_min": floor}
    if step < warmup:
        scheduler = schedules.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        n = step
    else:
        scheduler = schedules.CosineAnnealingLR(optimizer, **cosine)
        n = step - warmup
    for _ in range(n):
        optimizer.step()
        scheduler.step()
    return float(optimizer.param_groups[0]["lr"])


@learning_rate.values
def peak(rng):
    return 0.5 + torch.rand((), generator=rng).item()


@learning_rate.values
def floor(rng, peak):
    return peak * (0.1 + 0.2 * torch.rand((), generator=rng).item())


@learning_rate.values
def steps(rng):
    return 30 + int(torch.randint(20, (), generator=rng))


@learning_rate.values
def warmup(rng):
    return 4 + int(torch.randint(8, (), generator=rng))


@learning_rate.values
def step(rng, steps):
    return int(torch.randint(steps, (), generator=rng))


@learning_rate.inputs
def _(rng):
    for warmup, steps in [(5, 40), (9, 33)]:
        peak = 0.5 + torch.rand((), generator=rng).item()
        floor = 0.15 * peak
        quarter, middle = warmup + (steps - warmup) // 4, warmup + (steps - warmup) // 2
        for step in (0, 1, 2, warmup - 1, warmup, warmup + 1, quarter, middle, steps - 2, steps - 1, steps, steps + 7):
            yield step, peak, floor, warmup, steps
    for step in (0, 1, 11, 29, 30):
        yield step, 0.8, 0.2, 0, 30  # no warm-up
    yield 12, 0.6, 0.0, 3, 20


def _rate(step, peak, floor, warmup, steps, rise=None, progress=None, fall=None):
    """Right, unless something is changed: the rise by step, the progress of the descent, and its form by progress."""
    if step < warmup:
        return rise(step) if rise else peak * (step + 1) / (warmup + 1)
    if step >= steps:
        return floor
    done = progress(step) if progress else (step - warmup) / (steps - warmup)
    return fall(done) if fall else floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2


@learning_rate.mistake(hint=1)
def first_step_lost(step, peak, floor, warmup, steps):
    """The first update has the rate 0 and changes nothing: the warm-up begins at peak/(warmup + 1), so count from
    step + 1."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak * step / warmup)


@learning_rate.mistake(hint=2)
def peak_a_step_early(step, peak, floor, warmup, steps):
    """The peak is reached one step too early: divide by warmup + 1, so that step `warmup` is the first at the peak."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak * (step + 1) / warmup)


@learning_rate.mistake(hint=2)
def rise_without_the_one(step, peak, floor, warmup, steps):
    """The warm-up begins at 0 and jumps at its end: it is peak · (step + 1)/(warmup + 1)."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak * step / (warmup + 1))


@learning_rate.mistake(hint=1)
def rise_from_the_floor(step, peak, floor, warmup, steps):
    """The warm-up begins at the floor: it rises in proportion to step + 1, from peak/(warmup + 1). The floor belongs to
    the end."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: floor + (peak - floor) * (step + 1) / (warmup + 1))


@learning_rate.mistake(hint=1)
def no_warm_up(step, peak, floor, warmup, steps):
    """The warm-up is left out: the first `warmup` steps rise in a straight line."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak)


@learning_rate.mistake(hint=1)
def cosine_while_warming_up(step, peak, floor, warmup, steps):
    """The cosine already runs while the warm-up does: it begins at step `warmup`."""
    if step >= steps:
        return floor
    done = step / steps
    return min(1.0, (step + 1) / (warmup + 1)) * (floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2)


@learning_rate.mistake(hint=2)
def cosine_over_all_steps(step, peak, floor, warmup, steps):
    """The cosine is counted over all steps, so that it begins below the peak: its progress is (step − warmup)/(steps −
    warmup)."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: step / steps)


@learning_rate.mistake(hint=2)
def progress_without_the_warm_up(step, peak, floor, warmup, steps):
    """The progress is (step − warmup)/steps, which does not reach 1 at the end: divide by the steps after the warm-up,
    steps − warmup."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup) / steps)


@learning_rate.mistake(hint=2)
def floor_a_step_early(step, peak, floor, warmup, steps):
    """The floor is reached one step too early: it belongs to `steps`, one past the last update."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup) / max(1, steps - warmup - 1))


@learning_rate.mistake(hint=1)
def floor_by_maximum(step, peak, floor, warmup, steps):
    """The cosine falls to 0 and is cut off at the floor, so that the last steps are flat: let it fall from the peak to
    the floor."""
    if step >= steps:
        return floor
    return _rate(
        step, peak, floor, warmup, steps, fall=lambda done: max(floor, peak * (1 + math.cos(math.pi * done)) / 2)
    )


@learning_rate.mistake(hint=1)
def no_floor(step, peak, floor, warmup, steps):
    """The rate falls to 0 in place of the floor."""
    return 0.0 if step >= steps else _rate(step, peak, 0.0, warmup, steps)


@learning_rate.mistake(hint=2)
def floor_on_top(step, peak, floor, warmup, steps):
    """The floor is added to a cosine that begins at the peak: at step `warmup` the rate is then above it. The cosine
    falls by peak − floor."""
    return _rate(step, peak, floor, warmup, steps, fall=lambda done: floor + peak * (1 + math.cos(math.pi * done)) / 2)


@learning_rate.mistake(hint=1)
def rises_after_the_end(step, peak, floor, warmup, steps):
    """After the end the cosine goes on and rises again: from `steps` on the rate is the floor."""
    if step < steps:
        return _rate(step, peak, floor, warmup, steps)
    done = (step - warmup) / (steps - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2 if step > steps else floor


@learning_rate.mistake(hint=2)
def whole_turn(step, peak, floor, warmup, steps):
    """The cosine makes a whole turn, cos(2π · progress): it is half a turn, from 1 to −1."""
    return _rate(
        step,
        peak,
        floor,
        warmup,
        steps,
        fall=lambda done: floor + (peak - floor) * (1 + math.cos(2 * math.pi * done)) / 2,
    )


@learning_rate.mistake(hint=2)
def quarter_turn(step, peak, floor, warmup, steps):
    """The cosine makes a quarter of a turn, cos(π/2 · progress): it is half a turn, from 1 to −1, moved up and
    halved."""
    return _rate(
        step, peak, floor, warmup, steps, fall=lambda done: floor + (peak - floor) * math.cos(math.pi / 2 * done)
    )


@learning_rate.mistake(hint=2)
def not_halved(step, peak, floor, warmup, steps):
    """The sum 1 + cos lies between 2 and 0: halve it."""
    return _rate(
        step, peak, floor, warmup, steps, fall=lambda done: floor + (peak - floor) * (1 + math.cos(math.pi * done))
    )


@learning_rate.mistake(hint=2)
def one_forgotten(step, peak, floor, warmup, steps):
    """The cosine is not moved up: it lies between 1 and −1, and (1 + cos)/2 between 1 and 0."""
    return _rate(step, peak, floor, warmup, steps, fall=lambda done: floor + (peak - floor) * math.cos(math.pi * done))


@learning_rate.mistake(hint=2)
def rising(step, peak, floor, warmup, steps):
    """After the warm-up the rate rises from the floor to the peak: it is 1 + cos, not 1 − cos."""
    return _rate(
        step, peak, floor, warmup, steps, fall=lambda done: floor + (peak - floor) * (1 - math.cos(math.pi * done)) / 2
    )


@learning_rate.mistake(hint=1)
def straight_down(step, peak, floor, warmup, steps):
    """The rate falls in a straight line: it follows half a cosine."""
    return _rate(step, peak, floor, warmup, steps, fall=lambda done: peak + (floor - peak) * done)


@learning_rate.mistake(hint=2)
def in_degrees(step, peak, floor, warmup, steps):
    """The angle is in degrees: `math.cos` expects radians, π for half a turn."""
    return _rate(
        step, peak, floor, warmup, steps, fall=lambda done: floor + (peak - floor) * (1 + math.cos(180 * done)) / 2
    )


@learning_rate.mistake(hint=2)
def whole_division(step, peak, floor, warmup, steps):
    """The progress is a whole-number division, //, and stays 0: divide with /."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup) // (steps - warmup))


@learning_rate.mistake
def share_of_the_peak(step, peak, floor, warmup, steps):
    """This is the rate as a share of the peak: return the rate itself."""
    return _rate(step, peak, floor, warmup, steps) / peak


@learning_rate.finished
def rise_then_cosine(step, peak, floor, warmup, steps):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (steps - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


@learning_rate.accepted
def by_cases(step, peak, floor, warmup, steps):
    if step >= steps:
        return floor
    if warmup and step < warmup:
        return peak / (warmup + 1) * (1 + step)
    angle = math.pi * (step - warmup) / (steps - warmup)
    return (peak + floor) / 2 + (peak - floor) / 2 * math.cos(angle)


@learning_rate.accepted
def by_a_square(step, peak, floor, warmup, steps):
    rising = peak * (step + 1) / (warmup + 1)
    done = min(max(step - warmup, 0) / (steps - warmup), 1)
    return min(rising, floor + (peak - floor) * math.cos(math.pi * done / 2) ** 2)
