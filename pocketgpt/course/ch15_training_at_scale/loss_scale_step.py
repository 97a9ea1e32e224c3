"""Exercise `loss_scale_step`: gradients out of a scaled loss, and the scale of the next step."""

import torch
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, hints=("a nudge", "the cases", "pseudocode"), returns=("grads", "scale", "good"))
def loss_scale_step(
    grads: list[Tensor], scale: float, good: int, interval: int
) -> tuple[list[Tensor] | None, float, int]:
    """PyTorch's GradScaler on parameters that have these gradients. It never says whether a step was skipped, so a
    plain SGD step is taken, which moves the parameters or does not."""
    parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    optimizer = torch.optim.SGD(parameters, lr=1.0, maximize=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=interval)
    scaler.scale(torch.zeros(()))  # makes the tensors of its state
    scaler._growth_tracker.fill_(good)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    moved = [parameter.detach().clone() for parameter in parameters]
    stepped = any(each.any() for each in moved)
    return moved if stepped else None, scaler.get_scale(), scaler._get_growth_tracker()


def _drawn(rng, scale):
    """Gradients of three parameters, of both signs, none of them small once they are divided by the scale."""
    grads = [scale * (1.0 + torch.rand(shape, generator=rng)) for shape in ((2, 3), (4,), (3, 2))]
    for grad in grads:
        grad *= torch.randint(2, grad.shape, generator=rng) * 2 - 1
        grad.view(-1)[0].abs_()
        grad.view(-1)[2].abs_().neg_()
    return grads


@loss_scale_step.inputs
def _(rng):
    scale = float(2 ** int(torch.randint(8, 15, (), generator=rng)))
    yield _drawn(rng, scale), scale, 0, 4
    yield _drawn(rng, scale / 2), scale / 2, 1, 5
    yield _drawn(rng, scale), scale, 3, 4  # the fourth good step in a row
    yield _drawn(rng, 64.0), 64.0, 0, 1
    yield _drawn(rng, scale), scale, 2, 4
    yield _drawn(rng, 0.5), 0.5, 1, 4
    yield _drawn(rng, 2.0**17), 2.0**17, 1, 6  # beyond float16's largest number: the tensors are float32
    small = _drawn(rng, 1.0)
    small[1][0] = torch.inf
    yield small, 1.0, 1, 4
    for place, value, good in ((0, torch.inf, 2), (1, torch.nan, 3), (2, -torch.inf, 1), (2, torch.nan, 0)):
        grads = _drawn(rng, scale)
        grads[place].view(-1)[1] = value
        yield grads, scale, good, 4
    large = _drawn(rng, 16.0)
    large[1] = torch.full((4,), 2e38)  # finite, and their sum is not
    yield large, 16.0, 1, 4
    both = _drawn(rng, 128.0)
    both[0][0, 0], both[0][0, 1] = torch.inf, -torch.inf
    yield both, 128.0, 1, 2
    yield [torch.full_like(grad, torch.inf) for grad in _drawn(rng, 32.0)], 32.0, 2, 4


def _finite(grads):
    return all(bool(grad.isfinite().all()) for grad in grads)


def _state(finite, scale, good, interval):
    """The next scale and the next number of good steps."""
    if not finite:
        return scale / 2, 0
    return (scale * 2, 0) if good + 1 == interval else (scale, good + 1)


def _with(grads, scale, good, interval, divide=None, finite=None, skipped=None, state=_state):
    """Right, unless something is changed."""
    finite = _finite(grads) if finite is None else finite
    divide = divide or (lambda grads: [grad / scale for grad in grads])
    return (divide(grads) if finite else skipped, *state(finite, scale, good, interval))


@loss_scale_step.mistake(hint=1)
def not_unscaled(grads, scale, good, interval):
    """The gradients are still those of the scaled loss: divide them by `scale`."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad.clone() for grad in grads])


@loss_scale_step.mistake(hint=1)
def scaled_again(grads, scale, good, interval):
    """The gradients are multiplied by the scale once more: divide them by it."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad * scale for grad in grads])


@loss_scale_step.mistake(hint=1)
def divided_by_the_new_scale(grads, scale, good, interval):
    """The scale is updated before the gradients are divided: they were made with the old one."""
    new, good = _state(_finite(grads), scale, good, interval)
    return [grad / new for grad in grads] if _finite(grads) else None, new, good


@loss_scale_step.mistake(hint=1)
def clipped_first(grads, scale, good, interval):
    """The gradients are clipped while they are still scaled, so that next to nothing is left: unscale first. And
    clipping is not asked for here."""

    def clipped(grads):
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        return [grad / norm.clamp(min=1.0) / scale for grad in grads]

    return _with(grads, scale, good, interval, divide=clipped)


@loss_scale_step.mistake(hint=1)
def clipped_afterwards(grads, scale, good, interval):
    """The gradients are clipped to a norm of 1: that is another step of the training, and not asked for here."""

    def clipped(grads):
        norm = torch.stack([(grad / scale).norm() for grad in grads]).norm()
        return [grad / scale / norm.clamp(min=1.0) for grad in grads]

    return _with(grads, scale, good, interval, divide=clipped)


@loss_scale_step.mistake(hint=2)
def step_in_spite_of_infinity(grads, scale, good, interval):
    """The gradients are returned although one of them is infinite or NaN: one such step ruins the weights. Return None
    in their place."""
    return [grad / scale for grad in grads], *_state(_finite(grads), scale, good, interval)


@loss_scale_step.mistake(hint=2)
def nothing_is_checked(grads, scale, good, interval):
    """Infinite gradients are not noticed: the step is taken, and the scale goes on as after a good one."""
    return _with(grads, scale, good, interval, finite=True)


@loss_scale_step.mistake(hint=2)
def replaced_by_zero(grads, scale, good, interval):
    """The infinite and NaN values are replaced by numbers, and the step is taken: skip it, the other values of that
    step are no better."""
    return [(grad / scale).nan_to_num(0, 0, 0) for grad in grads], *_state(_finite(grads), scale, good, interval)


@loss_scale_step.mistake(hint=2)
def zeros_for_none(grads, scale, good, interval):
    """A skipped step returns zeros: Adam moves the weights with zeros, too, by its memory of earlier steps. Return
    None."""
    return _with(grads, scale, good, interval, skipped=[torch.zeros_like(grad) for grad in grads])


@loss_scale_step.mistake(hint=2)
def empty_for_none(grads, scale, good, interval):
    """A skipped step returns an empty list: return None in its place."""
    return _with(grads, scale, good, interval, skipped=[])


@loss_scale_step.mistake(hint=2)
def good_tensors_kept(grads, scale, good, interval):
    """Only the tensors with infinite or NaN values are left out: skip the whole step, all tensors of it."""
    kept = [grad / scale for grad in grads if bool(grad.isfinite().all())]
    return kept, *_state(_finite(grads), scale, good, interval)


@loss_scale_step.mistake(hint=2)
def infinity_alone(grads, scale, good, interval):
    """Infinite values are found and NaN is not: `isfinite` finds both."""
    return _with(grads, scale, good, interval, finite=not any(bool(grad.isinf().any()) for grad in grads))


@loss_scale_step.mistake(hint=2)
def nan_alone(grads, scale, good, interval):
    """NaN is found and infinite values are not: `isfinite` finds both."""
    return _with(grads, scale, good, interval, finite=not any(bool(grad.isnan().any()) for grad in grads))


@loss_scale_step.mistake(hint=2)
def first_tensor_alone(grads, scale, good, interval):
    """Only the first tensor is checked: any of them can overflow."""
    return _with(grads, scale, good, interval, finite=_finite(grads[:1]))


@loss_scale_step.mistake(hint=2)
def last_tensor_alone(grads, scale, good, interval):
    """Does the loop forget what it found? Only the last tensor is checked."""
    return _with(grads, scale, good, interval, finite=_finite(grads[-1:]))


@loss_scale_step.mistake(hint=2)
def all_must_be_infinite(grads, scale, good, interval):
    """The step is skipped only if every value is infinite or NaN: one is enough."""
    finite = any(bool(grad.isfinite().any()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=2)
def sums_checked(grads, scale, good, interval):
    """A sum, a mean or a norm is checked in place of the values: it can be infinite where every value is finite."""
    finite = all(bool(grad.sum().isfinite()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=3)
def grows_at_every_step(grads, scale, good, interval):
    """The scale doubles after every good step: only after `interval` of them in a row."""
    return _with(
        grads, scale, good, interval, state=lambda finite, s, g, n: (s * 2, 0) if finite else _state(finite, s, g, n)
    )


@loss_scale_step.mistake(hint=3)
def never_grows(grads, scale, good, interval):
    """The scale does not double after `interval` good steps in a row, this one included: compare good + 1 with
    `interval`."""
    return _with(grads, scale, good, interval, state=lambda finite, s, g, n: (s, g + 1) if finite else (s / 2, 0))


@loss_scale_step.mistake(hint=3)
def grows_early(grads, scale, good, interval):
    """The scale doubles one step early: it takes `interval` good steps, this one included."""

    def state(finite, scale, good, interval):
        if not finite:
            return scale / 2, 0
        return (scale * 2, 0) if good + 2 >= interval else (scale, good + 1)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def count_kept_after_growth(grads, scale, good, interval):
    """After the scale doubled, the count goes on: it begins again at 0, or the scale would not double a second
    time."""

    def state(finite, scale, good, interval):
        if not finite:
            return scale / 2, 0
        return (scale * 2 if good + 1 == interval else scale), good + 1

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def count_kept_after_overflow(grads, scale, good, interval):
    """After an overflow the count of good steps stays: it counts steps in a row, so it begins again at 0."""

    def state(finite, scale, good, interval):
        return _state(finite, scale, good, interval) if finite else (scale / 2, good)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def overflow_counts_as_good(grads, scale, good, interval):
    """A skipped step is counted as a good one: after an overflow the count begins again at 0."""

    def state(finite, scale, good, interval):
        return _state(finite, scale, good, interval) if finite else (scale / 2, good + 1)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def never_shrinks(grads, scale, good, interval):
    """After an overflow the scale stays: it halves, or the next step overflows as well."""

    def state(finite, scale, good, interval):
        return _state(finite, scale, good, interval) if finite else (scale, 0)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def grows_on_overflow(grads, scale, good, interval):
    """After an overflow the scale doubles: halve it, as the gradients were too large."""

    def state(finite, scale, good, interval):
        return _state(finite, scale, good, interval) if finite else (scale * 2, 0)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def back_to_one(grads, scale, good, interval):
    """After an overflow the scale becomes 1: halve it, so that small gradients stay in reach."""

    def state(finite, scale, good, interval):
        return _state(finite, scale, good, interval) if finite else (1.0, 0)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def grows_by_one_step(grads, scale, good, interval):
    """After `interval` good steps the scale grows by something other than a factor of 2: double it."""

    def state(finite, scale, good, interval):
        new, count = _state(finite, scale, good, interval)
        return (scale * interval if new > scale else new), count

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def count_never_moves(grads, scale, good, interval):
    """The count of good steps does not move: after a good step it is one more."""

    def state(finite, scale, good, interval):
        new, count = _state(finite, scale, good, interval)
        return new, (0 if count == 0 else good)

    return _with(grads, scale, good, interval, state=state)


@loss_scale_step.mistake(hint=3)
def count_before_scale(grads, scale, good, interval):
    """The last two results are exchanged: the order is grads, scale, good."""
    found, new, count = _with(grads, scale, good, interval)
    return found, count, new


@loss_scale_step.mistake(hint=1)
def sizes_alone(grads, scale, good, interval):
    """The gradients come without their signs: `abs` may test them, and what is returned keeps the sign."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad.abs() / scale for grad in grads])


@loss_scale_step.mistake(hint=1)
def negative_cut_off(grads, scale, good, interval):
    """Negative gradients become 0: divide them by the scale like the others."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad.clamp(min=0) / scale for grad in grads])


@loss_scale_step.mistake(hint=1)
def divided_twice(grads, scale, good, interval):
    """The gradients are divided by the scale twice: once is enough."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad / scale / scale for grad in grads])


@loss_scale_step.mistake(hint=3)
def one_tensor_divided(grads, scale, good, interval):
    """Only the first tensor is divided by the scale: all of them were made with it."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grads[0] / scale, *grads[1:]])


@loss_scale_step.mistake(hint=3)
def whole_gradients(grads, scale, good, interval):
    """The division is `//`, which drops what is behind the decimal point: use `/`."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grad // scale for grad in grads])


@loss_scale_step.mistake(hint=1)
def rounded_to_float16(grads, scale, good, interval):
    """The gradients are rounded to float16: they come in float32 and stay so, which is why they are divided there."""
    return _with(grads, scale, good, interval, divide=lambda grads: [(grad / scale).half().float() for grad in grads])


@loss_scale_step.mistake(hint=3)
def returned_inside_the_loop(grads, scale, good, interval):
    """Is `return` inside the loop? Only the first tensor comes back."""
    return _with(grads, scale, good, interval, divide=lambda grads: [grads[0] / scale])


@loss_scale_step.mistake(hint=2)
def range_of_float16(grads, scale, good, interval):
    """The values are compared with float16's largest number, 65,504: the tensors are float32, and what overflowed on
    the way is already infinite. Test `isfinite`."""
    finite = all(bool(grad.half().isfinite().all()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=2)
def above_65504(grads, scale, good, interval):
    """The values are compared with float16's largest number, 65,504, and NaN is larger than nothing: test
    `isfinite`."""
    finite = not any(bool((grad.abs() > 65504).any()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=2)
def minus_infinity_missed(grads, scale, good, interval):
    """Minus infinity is not noticed: a maximum does not show it, nor does a comparison with +∞.
    `isfinite` finds both and NaN."""
    finite = not any(bool(((grad == torch.inf) | grad.isnan()).any()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=2)
def plus_infinity_alone(grads, scale, good, interval):
    """Only +∞ is noticed, and neither −∞ nor NaN: `isfinite` finds all three."""
    finite = not any(bool((grad == torch.inf).any()) for grad in grads)
    return _with(grads, scale, good, interval, finite=finite)


@loss_scale_step.mistake(hint=2)
def turned_round(grads, scale, good, interval):
    """The condition is the wrong way round: good steps are skipped, and the others are taken."""
    return _with(grads, scale, good, interval, finite=not _finite(grads))


@loss_scale_step.mistake(hint=2)
def good_tensors_go_on(grads, scale, good, interval):
    """Only the tensors with infinite or NaN values are left out, and the scale goes on as after a good step: skip the
    whole step, and halve the scale."""
    kept = [grad / scale for grad in grads if bool(grad.isfinite().all())]
    return kept, *_state(True, scale, good, interval)


@loss_scale_step.mistake(hint=2)
def replaced_by_the_largest(grads, scale, good, interval):
    """Here `nan_to_num` puts float32's largest number in place of an infinity, and the step is taken: skip it, and
    halve the scale."""
    divide = lambda grads: [(grad / scale).nan_to_num() for grad in grads]  # noqa: E731
    return _with(grads, scale, good, interval, finite=True, divide=divide)


@loss_scale_step.mistake(hint=2)
def zeros_go_on(grads, scale, good, interval):
    """The infinite and NaN values become 0, and the scale goes on as after a good step: skip the step, and halve the
    scale."""
    divide = lambda grads: [(grad / scale).nan_to_num(0, 0, 0) for grad in grads]  # noqa: E731
    return _with(grads, scale, good, interval, finite=True, divide=divide)


def _after_good(grads, scale, good, interval, state):
    """Right after an overflow; after a good step `state(scale, good, interval)` is next."""
    return _with(
        grads, scale, good, interval, state=lambda finite, *now: state(*now) if finite else _state(False, *now)
    )


def _after_overflow(grads, scale, good, interval, state):
    """Right after a good step; after an overflow `state(scale, good)` is next."""
    return _with(
        grads, scale, good, interval, state=lambda finite, s, g, n: _state(True, s, g, n) if finite else state(s, g)
    )


def _grown(grads, scale, good, interval, grow, count=0):
    """Right, but for what the scale and the count become after `interval` good steps."""
    return _after_good(grads, scale, good, interval, lambda s, g, n: (grow(s), count) if g + 1 == n else (s, g + 1))


@loss_scale_step.mistake(hint=3)
def grows_one_step_early(grads, scale, good, interval):
    """The scale doubles when `interval` − 1 good steps are full, and not at `interval`: compare the count with this
    step in it, good + 1, with `interval` itself."""
    return _after_good(grads, scale, good, interval, lambda s, g, n: (s * 2, 0) if g + 2 == n else (s, g + 1))


@loss_scale_step.mistake(hint=3)
def remainder_before_counting(grads, scale, good, interval):
    """The count is tested before this step is added, so that the scale doubles at 0 and not at `interval`: test
    good + 1."""
    return _after_good(grads, scale, good, interval, lambda s, g, n: (s * 2, 0) if g % n == 0 else (s, g + 1))


@loss_scale_step.mistake(hint=3)
def nothing_moves(grads, scale, good, interval):
    """After a good step neither the count nor the scale changes: the count is one more, and at `interval` the scale
    doubles."""
    return _after_good(grads, scale, good, interval, lambda s, g, n: (s, g))


@loss_scale_step.mistake(hint=3)
def doubles_and_counts(grads, scale, good, interval):
    """The scale doubles after every good step, and the count goes on: it doubles when the count reaches `interval`, and
    then the count begins again at 0."""
    return _after_good(grads, scale, good, interval, lambda s, g, n: (s * 2, g + 1))


@loss_scale_step.mistake(hint=3)
def begins_again_without_growth(grads, scale, good, interval):
    """After `interval` good steps the count begins again at 0, and the scale stays: it doubles then."""
    return _grown(grads, scale, good, interval, lambda scale: scale)


@loss_scale_step.mistake(hint=3)
def shrinks_after_good_steps(grads, scale, good, interval):
    """After `interval` good steps the scale is halved: it doubles then, to see whether a larger one works."""
    return _grown(grads, scale, good, interval, lambda scale: scale / 2)


@loss_scale_step.mistake(hint=3)
def grows_by_a_half(grads, scale, good, interval):
    """After `interval` good steps the scale is multiplied by 1.5: double it."""
    return _grown(grads, scale, good, interval, lambda scale: 1.5 * scale)


@loss_scale_step.mistake(hint=3)
def two_added(grads, scale, good, interval):
    """After `interval` good steps 2 is added to the scale: multiply it by 2."""
    return _grown(grads, scale, good, interval, lambda scale: scale + 2)


@loss_scale_step.mistake(hint=3)
def squared(grads, scale, good, interval):
    """After `interval` good steps the scale is squared: double it."""
    return _grown(grads, scale, good, interval, lambda scale: scale**2)


@loss_scale_step.mistake(hint=3)
def one_after_growth(grads, scale, good, interval):
    """After the scale doubled, the count begins at 1: it begins again at 0."""
    return _grown(grads, scale, good, interval, lambda scale: 2 * scale, count=1)


@loss_scale_step.mistake(hint=3)
def one_after_overflow(grads, scale, good, interval):
    """After an overflow the count begins at 1, as if the skipped step were a good one: it begins again at 0."""
    return _after_overflow(grads, scale, good, interval, lambda scale, good: (scale / 2, 1))


@loss_scale_step.mistake(hint=3)
def quartered(grads, scale, good, interval):
    """After an overflow the scale is divided by 4: halve it."""
    return _after_overflow(grads, scale, good, interval, lambda scale, good: (scale / 4, 0))


@loss_scale_step.mistake(hint=3)
def whole_scale(grads, scale, good, interval):
    """After an overflow the scale becomes a whole number, and from 1 it becomes 0, by which the next step divides: it
    may be smaller than 1. Use `/`."""
    return _after_overflow(grads, scale, good, interval, lambda scale, good: (scale // 2, 0))


@loss_scale_step.mistake(hint=3)
def not_below_one(grads, scale, good, interval):
    """The scale does not fall below 1: half of it is asked for after every overflow."""
    return _after_overflow(grads, scale, good, interval, lambda scale, good: (max(scale / 2, 1.0), 0))


@loss_scale_step.finished
def check_then_divide(
    grads: list[Tensor], scale: float, good: int, interval: int
) -> tuple[list[Tensor] | None, float, int]:
    for grad in grads:
        if not torch.isfinite(grad).all():
            return None, scale / 2, 0
    unscaled = [grad / scale for grad in grads]
    if good + 1 < interval:
        return unscaled, scale, good + 1
    return unscaled, scale * 2, 0


@loss_scale_step.accepted
def state_first(grads, scale, good, interval):
    overflow = any(not bool(g.isfinite().all()) for g in grads)
    if overflow:
        return None, 0.5 * scale, 0
    count, factor = good + 1, 1.0
    if count == interval:
        count, factor = 0, 2.0
    return [g * (1 / scale) for g in grads], factor * scale, count


@loss_scale_step.accepted
def largest_value(grads, scale, good, interval):
    largest = torch.cat([grad.flatten() for grad in grads]).abs().max()
    if largest.isnan() or largest.isinf():
        return None, scale / 2, 0
    full = (good + 1) % interval == 0
    return [torch.div(grad, scale) for grad in grads], scale * 2 if full else scale, 0 if full else good + 1
