"""Exercise `clip_gradients`: the gradients of all tensors, shortened together."""

import torch
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("grads", "norm"), views=True, forbidden=("clip_grad_norm_", "clip_grads_with_norm_"))
def clip_gradients(grads: list[Tensor], limit: float) -> tuple[list[Tensor], Tensor]:
    """PyTorch's clip_grad_norm_, on copies."""
    parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.detach().clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    return [parameter.grad for parameter in parameters], norm


@clip_gradients.inputs
def _(rng):
    for shapes, norms, limit in [
        ([(2,), (3, 2)], (3.0, 6.0), 1.0),
        ([(4, 3), (5,), (2, 3)], (3.0, 9.0, 5.0), 1.5),
        ([(3, 5), (2,)], (4.0, 2.5), 0.5),
        ([(3, 2), (4,), (6,), (2, 2)], (5.0, 2.0, 7.0, 3.0), 2.0),
        ([(4,)], (6.0,), 1.5),
        ([(2, 3), (5,)], (0.3, 0.2), 1.0),  # short enough
        ([(3,), (2, 4)], (0.5, 1.2), 2.5),
        ([(2,), (3, 2), (4,)], (1.0, 1.0, 1.0), 1.35),  # each alone is short enough, and all together are not
    ]:
        grads = [torch.randn(shape, generator=rng) for shape in shapes]
        size = 1 + 0.3 * torch.rand((), generator=rng)
        yield [size * norm / grad.norm() * grad for grad, norm in zip(grads, norms, strict=True)], limit
    yield [torch.tensor([3.0]), torch.tensor([4.0])], 1.0
    yield [torch.zeros(2), torch.zeros(3, 2)], 1.0


def _norm(grads):
    return torch.cat([grad.flatten() for grad in grads]).norm()


def _scaled(grads, limit, norm, returned=None):
    """Right for the right norm: all gradients times limit/norm, if that is below 1."""
    factor = limit / norm if norm > limit else 1.0
    return [grad * factor for grad in grads], norm if returned is None else returned


@clip_gradients.mistake(hint=1)
def each_tensor_alone(grads, limit):
    """Each tensor is shortened by its own norm, which changes the direction of the whole: there is one norm, over all
    tensors."""
    return [_scaled([grad], limit, grad.norm())[0][0] for grad in grads], _norm(grads)


@clip_gradients.mistake(hint=1)
def clipped_by_value(grads, limit):
    """Each number is cut off at ±limit, which changes the direction: multiply all of them by the same factor."""
    return [grad.clamp(-limit, limit) for grad in grads], _norm(grads)


@clip_gradients.mistake(hint=1)
def scaled_up(grads, limit):
    """A gradient that is shorter than the limit is made longer: leave it as it is."""
    norm = _norm(grads)
    return [grad * (limit / (norm + 1e-6)) for grad in grads], norm


@clip_gradients.mistake(hint=1)
def made_one_long(grads, limit):
    """Every gradient is divided by its norm: multiply by limit/norm, and only if the norm is above the limit."""
    norm = _norm(grads)
    return [grad / (norm + 1e-6) for grad in grads], norm


@clip_gradients.mistake(hint=1)
def divided_by_the_norm(grads, limit):
    """A long gradient is divided by its norm, so that it becomes 1 long: multiply by the limit as well."""
    norm = _norm(grads)
    return [grad / norm if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def upside_down(grads, limit):
    """The factor is upside down: a norm above the limit needs limit/norm, which is below 1."""
    norm = _norm(grads)
    return [grad * (norm / limit) if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def short_ones_scaled(grads, limit):
    """The comparison is the wrong way around: a gradient is shortened if its norm is above the limit."""
    norm = _norm(grads)
    return [grad * (limit / (norm + 1e-6)) if norm < limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def long_ones_dropped(grads, limit):
    """A gradient above the limit is set to 0: shorten it."""
    norm = _norm(grads)
    return [grad * (norm <= limit) for grad in grads], norm


@clip_gradients.mistake(hint=1)
def nothing_clipped(grads, limit):
    """The gradients are returned as they came: multiply them by limit/norm if the norm is above the limit."""
    return [grad.clone() for grad in grads], _norm(grads)


@clip_gradients.mistake(hint=2)
def norm_after_clipping(grads, limit):
    """The norm after the clipping is returned: return the one before, which shows how the training is doing."""
    clipped, _ = _scaled(grads, limit, _norm(grads))
    return clipped, _norm(clipped)


@clip_gradients.mistake(hint=2)
def norms_added_up(grads, limit):
    """The norms of the tensors are added up: add up their squares, and take the root."""
    return _scaled(grads, limit, torch.stack([grad.norm() for grad in grads]).sum())


@clip_gradients.mistake(hint=2)
def norms_averaged(grads, limit):
    """The norms of the tensors are averaged: add up their squares, and take the root."""
    return _scaled(grads, limit, torch.stack([grad.norm() for grad in grads]).mean())


@clip_gradients.mistake(hint=2)
def largest_norm(grads, limit):
    """This takes the largest norm of a tensor: add up the squares of all, and take the root."""
    return _scaled(grads, limit, torch.stack([grad.norm() for grad in grads]).max())


@clip_gradients.mistake(hint=2)
def root_forgotten(grads, limit):
    """The root is missing: this is the sum of squares."""
    return _scaled(grads, limit, _norm(grads).square())


@clip_gradients.mistake(hint=2)
def sizes_added_up(grads, limit):
    """This adds up the sizes |g|: add up squares, and take the root."""
    return _scaled(grads, limit, torch.cat([grad.flatten() for grad in grads]).abs().sum())


@clip_gradients.mistake(hint=2)
def largest_number(grads, limit):
    """This takes the largest number of the gradient for its norm: the norm is the root of the sum of squares."""
    return _scaled(grads, limit, torch.cat([grad.flatten() for grad in grads]).abs().max())


@clip_gradients.mistake(hint=2)
def root_mean_square(grads, limit):
    """This is the root of the mean square: a norm is the root of the sum, however many numbers there are."""
    return _scaled(grads, limit, torch.cat([grad.flatten() for grad in grads]).square().mean().sqrt())


@clip_gradients.mistake(hint=2)
def first_tensor_only(grads, limit):
    """The norm is that of the first tensor: it is over all tensors."""
    return _scaled(grads, limit, grads[0].norm())


@clip_gradients.mistake(hint=2)
def last_tensor_only(grads, limit):
    """The norm is that of the last tensor, as if the sum of squares began anew in the loop: it is over all tensors."""
    return _scaled(grads, limit, grads[-1].norm())


@clip_gradients.mistake(hint=3)
def factor_returned(grads, limit):
    """The second result is the factor: return the norm."""
    norm = _norm(grads)
    return _scaled(grads, limit, norm, returned=torch.clamp(limit / (norm + 1e-6), max=1.0))


@clip_gradients.mistake(hint=3)
def clipped_twice(grads, limit):
    """The factor is limit/norm squared: each gradient is multiplied once."""
    norm = _norm(grads)
    factor = (limit / norm) ** 2 if norm > limit else 1.0
    return [grad * factor for grad in grads], norm


@clip_gradients.mistake(hint=1)
def decided_for_each_tensor(grads, limit):
    """Each tensor is shortened only if its own norm is above the limit: the norm over all tensors decides for all."""
    norm = _norm(grads)
    return [grad * (limit / norm) if grad.norm() > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def each_made_as_long_as_the_limit(grads, limit):
    """Each tensor is made as long as the limit by its own norm: all are multiplied by one factor, limit/norm."""
    norm = _norm(grads)
    return [grad * (limit / grad.norm()) if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def zeros_divided_by_zero(grads, limit):
    """Every gradient is multiplied by limit/norm, which makes short ones longer and NaN of zeros: leave a gradient as
    it is if its norm is not above the limit."""
    norm = _norm(grads)
    return [grad * (limit / norm) for grad in grads], norm


@clip_gradients.mistake(hint=1)
def all_made_one_long(grads, limit):
    """Every gradient is divided by its norm, which makes NaN of zeros: multiply by limit/norm, and only if the norm is
    above the limit."""
    norm = _norm(grads)
    return [grad / norm for grad in grads], norm


@clip_gradients.mistake(hint=1)
def comparison_turned(grads, limit):
    """The comparison is the wrong way around, so that short gradients are made longer, and zeros NaN: a gradient is
    shortened if its norm is above the limit."""
    norm = _norm(grads)
    return [grad * (limit / norm) if norm < limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def limit_taken_as_one(grads, limit):
    """The gradients are clipped at the norm 1, whatever the limit is: compare with `limit`, and multiply by it."""
    return _scaled(grads, 1.0, _norm(grads))


@clip_gradients.mistake(hint=1)
def short_ones_dropped(grads, limit):
    """A gradient that is shorter than the limit is set to 0: leave it as it is."""
    norm = _norm(grads)
    return [grad * (limit / norm) if norm > limit else torch.zeros_like(grad) for grad in grads], norm


@clip_gradients.mistake(hint=3)
def only_the_first_clipped(grads, limit):
    """Only the first tensor is multiplied: multiply all of them by the factor."""
    clipped, norm = _scaled(grads, limit, _norm(grads))
    return clipped[:1] + list(grads[1:]), norm


@clip_gradients.mistake(hint=3)
def only_the_last_clipped(grads, limit):
    """Only the last tensor is multiplied: multiply all of them by the factor."""
    clipped, norm = _scaled(grads, limit, _norm(grads))
    return list(grads[:-1]) + clipped[-1:], norm


@clip_gradients.mistake(hint=2)
def summed_before_squaring(grads, limit):
    """The numbers of a tensor are added up before they are squared: square each, and add up then."""
    return _scaled(grads, limit, torch.stack([grad.sum().square() for grad in grads]).sum().sqrt())


@clip_gradients.mistake(hint=2)
def mean_squares_added_up(grads, limit):
    """This adds up the mean squares of the tensors: add up their sums of squares, so that every number counts alike."""
    return _scaled(grads, limit, torch.stack([grad.square().mean() for grad in grads]).sum().sqrt())


@clip_gradients.mistake(hint=2)
def root_of_each_sum(grads, limit):
    """The square of the sum of all norms is not the sum of their squares: here the root of the added norms is taken.
    Square each norm before you add."""
    return _scaled(grads, limit, torch.stack([grad.norm() for grad in grads]).sum().sqrt())


@clip_gradients.mistake(hint=2)
def spectral_norm(grads, limit):
    """Of a matrix this takes the largest singular value: the norm here is the root of the sum of its squares."""
    norms = [torch.linalg.matrix_norm(grad, 2) if grad.ndim == 2 else grad.norm() for grad in grads]
    return _scaled(grads, limit, torch.stack(norms).norm())


@clip_gradients.mistake(hint=2)
def squared_norm_returned(grads, limit):
    """The second result is the square of the norm: return its root."""
    norm = _norm(grads)
    return _scaled(grads, limit, norm, returned=norm.square())


@clip_gradients.mistake(hint=2)
def divided_by_the_square(grads, limit):
    """The factor is limit/norm², since the norm's root is missing there: multiply by limit/norm."""
    norm = _norm(grads)
    return [grad * (limit / norm**2) if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=2)
def root_of_the_factor(grads, limit):
    """The factor is the root of limit/norm: multiply by limit/norm itself."""
    norm = _norm(grads)
    return [grad * (limit / norm).sqrt() if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def limit_shared_out(grads, limit):
    """The limit is divided by the number of tensors: it is that of all together."""
    norm = _norm(grads)
    return [grad * (limit / norm / len(grads)) if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def limit_shared_out_by_root(grads, limit):
    """The limit is divided by the root of the number of tensors: it is that of all together."""
    norm = _norm(grads)
    return [grad * (limit / norm / len(grads) ** 0.5) if norm > limit else grad for grad in grads], norm


@clip_gradients.mistake(hint=1)
def excess_subtracted(grads, limit):
    """The excess of the norm is subtracted from every number: multiply by limit/norm, which keeps the direction."""
    norm = _norm(grads)
    return [grad - (norm - limit) if norm > limit else grad for grad in grads], norm


@clip_gradients.finished
def one_factor_for_all(grads, limit):
    norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    factor = limit / norm if norm > limit else 1.0
    return [grad * factor for grad in grads], norm


@clip_gradients.accepted
def by_pytorch_norm(grads, limit):
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
    return [factor * grad for grad in grads], norm


@clip_gradients.accepted
def norm_of_the_norms(grads, limit):
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
    if norm <= limit:
        return grads, norm
    return [grad / norm * limit for grad in grads], norm
