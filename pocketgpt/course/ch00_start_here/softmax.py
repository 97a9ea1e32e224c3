"""Exercise `softmax`: safe softmax along one axis."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("probabilities",),
    forbidden=("softmax", "log_softmax", "softmin"),
    replaces="softmax",
)
def softmax(x: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape"]:
    """Scores to probabilities along one axis: exp, divided by the sum of the exps."""
    return torch.softmax(x, dim)


@softmax.inputs
def _(rng):
    high_and_low = torch.tensor([1000.0, 0.0, -1000.0])
    yield torch.randn(3, 4, generator=rng) + high_and_low[:, None], -1
    yield torch.randn(3, 2, generator=rng) + high_and_low[:, None], 0
    for rows in (4, 5):
        ruled_out = torch.randn(rows, 3, generator=rng)
        ruled_out[1:3, 0] = -torch.inf  # scores that say "impossible", as attention will have them
        yield ruled_out, -1
    just_too_large = torch.rand(3, 4, generator=rng)
    just_too_large[:, 2] += 89.0  # its exp is infinite, and that of 87 is not
    yield just_too_large, -1


def _shares(raised, dim):
    return raised / raised.sum(dim, keepdim=True)


def _softmax(x, dim):
    """Right, for the mistakes that go wrong elsewhere."""
    return _shares((x - x.amax(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def exp_overflows(x, dim):
    """The exp of 1000 is infinite and ∞/∞ is NaN: subtract the largest score along `dim` first, which changes no
    probability."""
    return _shares(x.exp(), dim)


@softmax.mistake(hint=2)
def always_the_last_axis(x, dim):
    """The softmax runs along the last axis whatever `dim` says: hand `dim` on to the maximum and to the sum."""
    return _softmax(x, -1)


@softmax.mistake(hint=2)
def always_the_first_axis(x, dim):
    """The softmax runs along the first axis whatever `dim` says: hand `dim` on to the maximum and to the sum."""
    return _softmax(x, 0)


@softmax.mistake(hint=2)
def always_the_second_axis(x, dim):
    """The softmax runs along axis 1 whatever `dim` says: hand `dim` on to the maximum and to the sum."""
    return _softmax(x, 1)


@softmax.mistake(hint=2)
def sum_of_everything(x, dim):
    """All numbers of the tensor together sum to 1: sum along `dim` alone, so that each row of scores sums to 1."""
    return _softmax(x.flatten(), 0).view_as(x)


@softmax.mistake(hint=1)
def not_normalized(x, dim):
    """The exps are not divided by their sum, so they do not sum to 1 along `dim`."""
    return (x - x.amax(dim, keepdim=True)).exp()


@softmax.mistake(hint=1)
def as_printed(x, dim):
    """The exps are divided by the sum of all of them, and nothing is subtracted: take the maximum and the sum along
    `dim`, with keepdim=True."""
    return x.exp() / x.exp().sum()


@softmax.mistake(hint=2)
def negative_dim_is_the_last_axis(x, dim):
    """Every negative `dim` is taken for the last axis: −2 is the one before it. PyTorch counts from the end by itself,
    so pass `dim` on as it is."""
    return _softmax(x, x.ndim - 1 if dim < 0 else dim)


@softmax.mistake(hint=2)
def positive_dim_only(x, dim):
    """A negative `dim` is not counted from the end: pass `dim` on as it is, PyTorch does it."""
    return _softmax(x, max(dim, 0))


@softmax.mistake(hint=1)
def without_exp(x, dim):
    """The scores themselves are divided by their sum, and a negative score gives a negative share: take exp first."""
    return _shares(x, dim)


@softmax.mistake(hint=2)
def axis_lost(x, dim):
    """The maximum or the sum has lost the axis `dim`, so it does not line up with the scores: pass keepdim=True."""
    raised = (x - x.amax(dim)).exp()
    return raised / raised.sum(dim)


@softmax.mistake(hint=2)
def largest_of_everything(x, dim):
    """The largest score of the whole tensor is subtracted. In a row far below it every exp is 0, and 0/0 is NaN: take
    the largest along `dim`."""
    return _shares((x - x.amax()).exp(), dim)


@softmax.mistake(hint=2)
def largest_along_the_last_axis(x, dim):
    """The largest score is taken along the last axis and the sum along `dim`: take both along `dim`."""
    return _shares((x - x.amax(-1, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def smallest_subtracted(x, dim):
    """The smallest score is subtracted, so the large ones stay large and their exp overflows: subtract the largest."""
    return _shares((x - x.amin(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def mean_subtracted(x, dim):
    """The mean is subtracted, and a score far above the mean still overflows in exp: subtract the largest."""
    return _shares((x - x.mean(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def scores_clipped(x, dim):
    """The scores are clipped to keep exp finite, which makes all large scores equal: subtract the largest instead."""
    return _shares(x.clamp(-80, 80).exp(), dim)


@softmax.mistake(hint=1)
def logarithms(x, dim):
    """These are the logarithms of the probabilities: take exp of them."""
    return x - x.logsumexp(dim, keepdim=True)


@softmax.mistake(hint=1)
def index_subtracted(x, dim):
    """The place of the largest score is subtracted, as argmax gives it and max(dim) as its second value: subtract the
    score itself, x.amax(dim, keepdim=True)."""
    return _shares((x - x.argmax(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def largest_magnitude_subtracted(x, dim):
    """The largest |x| is subtracted. In a row of large negative scores every exp is 0, and 0/0 is NaN: subtract the
    largest x."""
    return _shares((x - x.abs().amax(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def largest_added(x, dim):
    """The largest score is added, so the exps are larger still: subtract it."""
    return _shares((x + x.amax(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def magnitude_of_the_largest_subtracted(x, dim):
    """What is subtracted is |max|: where all scores are negative it makes them smaller still. Subtract the largest
    score as it is, with its sign."""
    return _shares((x - x.amax(dim, keepdim=True).abs()).exp(), dim)


@softmax.mistake(hint=1)
def divided_by_the_largest(x, dim):
    """The scores are divided by the largest, which changes the proportions: subtract it."""
    return _shares((x / x.amax(dim, keepdim=True)).exp(), dim)


@softmax.mistake(hint=1)
def nan_replaced_at_the_end(x, dim):
    """The exp still overflows, and nan_to_num writes 0 over the NaN: then nothing sums to 1. Subtract the largest score
    first, and there is no NaN."""
    return _shares(x.exp(), dim).nan_to_num()


@softmax.mistake(hint=1)
def infinity_replaced(x, dim):
    """The exp still overflows, and nan_to_num makes the infinite ones equal: subtract the largest score first, and none
    is infinite."""
    return _shares(x.exp().nan_to_num(), dim)


@softmax.mistake(hint=1)
def subtracted_above_only(x, dim):
    """The largest score is subtracted above the line and not below: the sum has to be that of the same exps."""
    return (x - x.amax(dim, keepdim=True)).exp() / x.exp().sum(dim, keepdim=True)


@softmax.mistake(hint=2)
def axis_lost_in_the_sum(x, dim):
    """The sum has lost the axis `dim`, so it does not line up with the exps: pass keepdim=True there, too."""
    raised = (x - x.amax(dim, keepdim=True)).exp()
    return raised / raised.sum(dim)


@softmax.mistake(hint=1)
def powers_of_two(x, dim):
    """These are the proportions of 2 to the power of x: take exp."""
    return _shares(torch.exp2(x - x.amax(dim, keepdim=True)), dim)


@softmax.mistake
def sigmoid(x, dim):
    """This is the sigmoid, which looks at each score alone: divide each exp by the sum of the exps along `dim`."""
    return x.sigmoid()


@softmax.mistake(hint=2)
def axis_lost_in_the_maximum(x, dim):
    """The maximum has lost the axis `dim`, so it does not line up with the scores: pass keepdim=True there, too."""
    raised = (x - x.amax(dim)).exp()
    return raised / raised.sum(dim, keepdim=True)


@softmax.mistake(hint=1)
def maximum_with_its_place(x, dim):
    """With a `dim`, x.max returns two tensors, the largest scores and their places: take x.amax(dim, keepdim=True)."""
    return x - x.max(dim, keepdim=True)


@softmax.mistake(hint=2)
def largest_of_each_and_sum_of_everything(x, dim):
    """The largest score is taken along `dim`, and the sum over the whole tensor: sum along `dim`, too."""
    raised = (x - x.amax(dim, keepdim=True)).exp()
    return raised / raised.sum()


@softmax.mistake(hint=1)
def subtracted_without_exp(x, dim):
    """The largest score is subtracted, and exp is missing: all numbers are 0 or below, and so is their sum."""
    return _shares(x - x.amax(dim, keepdim=True), dim)


@softmax.mistake(hint=1)
def subtracted_from_the_exp(x, dim):
    """The largest exp is subtracted from the exps, so all shares change: subtract the largest score before exp."""
    return _shares(x.exp() - x.amax(dim, keepdim=True).exp(), dim)


@softmax.mistake(hint=1)
def exp_of_the_shares(x, dim):
    """The scores are divided by their sum first, and exp comes last: take exp first, then divide."""
    return _shares(x, dim).exp()


@softmax.mistake(hint=1)
def divided_by_the_sum_of_the_scores(x, dim):
    """The exps are divided by the sum of the scores: divide by the sum of the exps."""
    return (x - x.amax(dim, keepdim=True)).exp() / x.sum(dim, keepdim=True)


@softmax.mistake(hint=1)
def divided_by_the_largest_exp(x, dim):
    """The exps are divided by the largest of them: divide by their sum."""
    raised = x.exp()
    return raised / raised.amax(dim, keepdim=True)


@softmax.mistake(hint=1)
def multiplied_by_the_sum(x, dim):
    """The exps are multiplied by their sum: divide by it."""
    raised = (x - x.amax(dim, keepdim=True)).exp()
    return raised * raised.sum(dim, keepdim=True)


@softmax.mistake(hint=2)
def absolute_dim(x, dim):
    """The sign of `dim` is dropped: −1 is the last axis, and 1 the second. Pass `dim` on as it is."""
    return _softmax(x, abs(dim)) if abs(dim) < x.ndim else _softmax(x, x.ndim)


@softmax.mistake(hint=1)
def infinity_as_zero(x, dim):
    """A score of −∞ is replaced by 0, which is a score like any other: leave it, exp(−∞) is 0."""
    return _softmax(torch.where(x == -torch.inf, 0.0, x), dim)


@softmax.finished
def by_the_formula(x, dim):
    raised = torch.exp(x - torch.amax(x, dim=dim, keepdim=True))
    return raised / raised.sum(dim=dim, keepdim=True)


@softmax.accepted
def with_logsumexp(x, dim):
    return (x - x.logsumexp(dim, keepdim=True)).exp()


@softmax.accepted
def row_by_row(x, dim):
    rows = x.movedim(dim, -1)
    done = [torch.exp(row - max(row)) / sum(torch.exp(row - max(row))) for row in rows.reshape(-1, rows.shape[-1])]
    return torch.stack(done).view(rows.shape).movedim(-1, dim)


@softmax.accepted
def in_float64_with_unsqueeze(x, dim):
    wide = x.double()
    raised = (wide - wide.max(dim).values.unsqueeze(dim)).exp()
    return (raised / raised.sum(dim).unsqueeze(dim)).to(x.dtype)


@softmax.accepted
def with_numpy(x, dim):
    x = x.numpy()
    raised = torch.from_numpy(x - x.max(axis=dim, keepdims=True)).exp()
    return raised / raised.sum(dim, keepdim=True)
