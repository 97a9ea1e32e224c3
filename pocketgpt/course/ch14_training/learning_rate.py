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


@learning_rate.traits
def _(step, peak, floor, warmup, steps):
    if step < warmup:
        yield "`step` < `warmup`"
    if step >= steps:
        yield "`step` ≥ `steps`"
    if warmup <= step < steps:
        yield "`warmup` ≤ `step` < `steps`"
    if warmup < step < steps:
        yield "`warmup` < `step` < `steps`"
    if step == warmup:
        yield "`step` = `warmup`"
    if step > steps:
        yield "`step` > `steps`"


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
    """After the warm-up the rate stays at the peak, up to the end: it falls along half a cosine. Is there a // in your
    progress? Divide with /."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup) // (steps - warmup))


@learning_rate.mistake
def share_of_the_peak(step, peak, floor, warmup, steps):
    """This is the rate as a share of the peak: return the rate itself."""
    return _rate(step, peak, floor, warmup, steps) / peak


@learning_rate.mistake(hint=1)
def zero_after_the_end(step, peak, floor, warmup, steps):
    """At `steps` and later the rate is 0: it stays at the floor."""
    return 0.0 if step >= steps else _rate(step, peak, floor, warmup, steps)


@learning_rate.mistake(hint=1)
def peak_after_the_end(step, peak, floor, warmup, steps):
    """After the end the rate is at the peak again: it stays at the floor."""
    return peak if step > steps else _rate(step, peak, floor, warmup, steps)


@learning_rate.mistake(hint=1)
def peak_from_the_end_on(step, peak, floor, warmup, steps):
    """At `steps` and later the rate is at the peak again: it stays at the floor."""
    return peak if step >= steps else _rate(step, peak, floor, warmup, steps)


@learning_rate.mistake(hint=1)
def cosine_alone(step, peak, floor, warmup, steps):
    """There is no warm-up, the cosine runs over all steps: the first `warmup` steps rise in a straight line."""
    return floor if step >= steps else _rate(step, peak, floor, 0, steps)


@learning_rate.mistake(hint=1)
def cosine_without_a_rise(step, peak, floor, warmup, steps):
    """There is no warm-up, the cosine's formula is used for its steps as well: they rise in a straight line."""
    done = min(1.0, (step - warmup) / (steps - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2


@learning_rate.mistake(hint=1)
def floor_while_warming_up(step, peak, floor, warmup, steps):
    """The warm-up never goes below the floor: it rises from peak/(warmup + 1). The floor belongs to the end."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: max(floor, peak * (step + 1) / (warmup + 1)))


@learning_rate.mistake(hint=1)
def floor_as_a_share(step, peak, floor, warmup, steps):
    """The floor is multiplied by the peak: it is a rate itself, not a share of the peak."""
    return _rate(step, peak, floor * peak, warmup, steps) if step < steps else floor * peak


@learning_rate.mistake(hint=2)
def rise_without_the_peak(step, peak, floor, warmup, steps):
    """The warm-up rises to 1: multiply by the peak."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: (step + 1) / (warmup + 1))


@learning_rate.mistake(hint=2)
def rise_without_parentheses(step, peak, floor, warmup, steps):
    """The warm-up lacks parentheses: it is peak · (step + 1)/(warmup + 1)."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak * step + 1 / warmup + 1)


@learning_rate.mistake(hint=2)
def rise_by_whole_division(step, peak, floor, warmup, steps):
    """While it warms up the rate is 0, as a whole-number division, //, makes it: divide with /."""
    return _rate(step, peak, floor, warmup, steps, rise=lambda step: peak * ((step + 1) // (warmup + 1)))


@learning_rate.mistake(hint=2)
def warm_up_one_step_longer(step, peak, floor, warmup, steps):
    """The cosine begins one step too late: its progress is 0 at step `warmup`, not at the one after it."""
    return _rate(
        step, peak, floor, warmup, steps, progress=lambda step: max(0, step - warmup - 1) / (steps - warmup - 1)
    )


@learning_rate.mistake(hint=2)
def a_step_behind(step, peak, floor, warmup, steps):
    """The cosine is a step late all the way: its progress is 0 at step `warmup`, and 1 at `steps`."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: max(0, step - warmup - 1) / (steps - warmup))


@learning_rate.mistake(hint=2)
def a_step_ahead(step, peak, floor, warmup, steps):
    """The cosine is a step ahead: its progress is (step − warmup)/(steps − warmup), 0 at step `warmup`."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup + 1) / (steps - warmup))


@learning_rate.mistake(hint=2)
def floor_a_step_late(step, peak, floor, warmup, steps):
    """The floor is reached one step too late, at steps + 1: divide by steps − warmup."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: (step - warmup) / (steps - warmup + 1))


@learning_rate.mistake(hint=1)
def floor_a_step_late_after_all(step, peak, floor, warmup, steps):
    """The floor is reached one step too late, at steps + 1, and `steps` is still above it: divide by steps − warmup."""
    done = min(1.0, (step - warmup) / (steps - warmup + 1))
    return _rate(min(step, steps - 1), peak, floor, warmup, steps, progress=lambda _: done)


@learning_rate.mistake(hint=1)
def to_zero_then_the_floor(step, peak, floor, warmup, steps):
    """The cosine falls to 0, and the rate jumps up to the floor at the end: let it fall by peak − floor, to the
    floor."""
    return floor if step >= steps else _rate(step, peak, 0.0, warmup, steps)


@learning_rate.mistake(hint=1)
def same_share_every_step(step, peak, floor, warmup, steps):
    """The rate falls by the same share at every step: it follows half a cosine."""
    return _rate(step, peak, floor, warmup, steps, fall=lambda done: peak * (max(floor, 1e-9) / peak) ** done)


@learning_rate.mistake(hint=2)
def cosine_squared(step, peak, floor, warmup, steps):
    """The share (1 + cos)/2 is squared: take it as it is."""
    return _rate(
        step,
        peak,
        floor,
        warmup,
        steps,
        fall=lambda done: floor + (peak - floor) * ((1 + math.cos(math.pi * done)) / 2) ** 2,
    )


# Formulas that do not end at the floor, in both forms in which learners write the end: with a line that returns the
# floor from `steps` on, and with a progress that stays at 1.
_FORMULAS = [
    (
        "floor_not_added",
        "The floor is not added: it is floor + (peak − floor) · (1 + cos)/2.",
        lambda peak, floor, done: (peak - floor) * (1 + math.cos(math.pi * done)) / 2,
    ),
    (
        "floor_added_to_the_peak",
        "The peak is added in place of the floor: it is floor + (peak − floor) · (1 + cos)/2.",
        lambda peak, floor, done: peak + (peak - floor) * (1 + math.cos(math.pi * done)) / 2,
    ),
    (
        "difference_turned",
        "The difference is turned: it is peak − floor.",
        lambda peak, floor, done: floor + (floor - peak) * (1 + math.cos(math.pi * done)) / 2,
    ),
    (
        "only_the_cosine_halved",
        "Only the cosine is halved: the sum 1 + cos is, so put it in parentheses.",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.cos(math.pi * done) / 2),
    ),
    (
        "halved_without_the_one",
        "The cosine is halved and not moved up: it is (1 + cos)/2, which lies between 1 and 0.",
        lambda peak, floor, done: floor + (peak - floor) * math.cos(math.pi * done) / 2,
    ),
    (
        "half_the_angle",
        "The cosine makes a quarter of a turn and is halved: half a turn, cos(π · progress), brings (1 + cos)/2 to 0.",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.cos(math.pi / 2 * done)) / 2,
    ),
    (
        "pi_forgotten",
        "The factor π is missing: half a turn is cos(π · progress).",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.cos(done)) / 2,
    ),
    (
        "sine",
        "This is a sine, which begins in the middle: it is the cosine.",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.sin(math.pi * done)) / 2,
    ),
]


def _ended_by_a_case(formula):
    def mistake(step, peak, floor, warmup, steps):
        return _rate(step, peak, floor, warmup, steps, fall=lambda done: formula(peak, floor, done))

    return mistake


def _ended_by_the_progress(formula):
    def mistake(step, peak, floor, warmup, steps):
        done = min(1.0, (step - warmup) / (steps - warmup))
        return peak * (step + 1) / (warmup + 1) if step < warmup else formula(peak, floor, done)

    return mistake


def _named(function, name, sentence):
    function.__name__, function.__doc__ = name, sentence
    learning_rate.mistake(hint=2)(function)


for _name, _sentence, _formula in _FORMULAS:
    _named(_ended_by_a_case(_formula), _name, _sentence)
    if _name != "difference_turned":  # that one ends at the floor
        _named(_ended_by_the_progress(_formula), f"{_name}_at_the_end", f"{_sentence} So it does not end at the floor.")
for _name, _sentence, _formula in [
    (
        "whole_turn_at_the_end",
        "The cosine makes a whole turn, cos(2π · progress), and ends at the peak: it is half a turn, from 1 to −1.",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.cos(2 * math.pi * done)) / 2,
    ),
    (
        "one_forgotten_at_the_end",
        "The cosine is not moved up, and the rate ends below the floor: (1 + cos)/2 lies between 1 and 0.",
        lambda peak, floor, done: floor + (peak - floor) * math.cos(math.pi * done),
    ),
    (
        "rising_to_the_end",
        "After the warm-up the rate rises from the floor to the peak, and stays there: it is 1 + cos, not 1 − cos.",
        lambda peak, floor, done: floor + (peak - floor) * (1 - math.cos(math.pi * done)) / 2,
    ),
    (
        "in_degrees_to_the_end",
        "The angle is in degrees, so that the end is not the floor: `math.cos` expects radians, π for half a turn.",
        lambda peak, floor, done: floor + (peak - floor) * (1 + math.cos(180 * done)) / 2,
    ),
]:
    _named(_ended_by_the_progress(_formula), _name, _sentence)


@learning_rate.mistake(hint=2)
def progress_without_parentheses(step, peak, floor, warmup, steps):
    """The progress lacks parentheses: it is (step − warmup)/(steps − warmup)."""
    return _rate(step, peak, floor, warmup, steps, progress=lambda step: step - warmup / steps - warmup)


@learning_rate.mistake(hint=2)
def progress_without_the_warm_up_to_the_end(step, peak, floor, warmup, steps):
    """The progress is (step − warmup)/steps, and the floor comes `warmup` steps too late: divide by steps − warmup."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2


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
