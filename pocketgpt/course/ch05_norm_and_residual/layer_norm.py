"""Exercise `layer_norm`: mean 0 and variance 1 for every token, then a learned scale and shift."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch05_norm_and_residual.shared import NORM_OPERATORS
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("normalized",),
    forbidden=NORM_OPERATORS,
    choices={"eps": (0.1, 1e-5, 0.03)},
    sizes={"d_model": (3, 4, 5, 6)},  # with one number or two, most mistakes look alike
    gradients=("x", "weight", "bias"),
)
def layer_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, " d_model"], bias: Float[Tensor, " d_model"], eps: float
) -> Float[Tensor, "*batch d_model"]:
    """(x − mean) / √(variance + eps) over the last axis, times weight, plus bias; in float64, as the gradient
    loses digits where the mean is large."""
    return F.layer_norm(x.double(), x.shape[-1:], weight.double(), bias.double(), eps).to(x.dtype)


def _centered(x):
    return x - x.mean(-1, keepdim=True)


def _variance(x):
    return x.var(-1, correction=0, keepdim=True)


@layer_norm.mistake(hint=2)
def unbiased_variance(x, weight, bias, eps):
    """The variance is divided by d_model − 1, as PyTorch's `var` and `std` do: divide by d_model, with
    `correction=0`."""
    return _centered(x) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=1)
def eps_outside(x, weight, bias, eps):
    """The eps is added to the standard deviation: it belongs inside the root, beside the variance."""
    return _centered(x) / (_variance(x).sqrt() + eps) * weight + bias


@layer_norm.mistake(hint=2)
def deviation_plus_eps(x, weight, bias, eps):
    """This is x.std() + eps, which errs twice: `std` divides by d_model − 1, and eps belongs inside the root."""
    return _centered(x) / (x.std(-1, keepdim=True) + eps) * weight + bias


@layer_norm.mistake(hint=3)
def root_forgotten(x, weight, bias, eps):
    """This divides by the variance: divide by its root."""
    return _centered(x) / (_variance(x) + eps) * weight + bias


@layer_norm.mistake(hint=2)
def over_the_sequence(x, weight, bias, eps):
    """Mean and variance run over the tokens: every token is normalized alone, over the last axis."""
    centered = x - x.mean(-2, keepdim=True)
    return centered / (x.var(-2, correction=0, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def over_everything(x, weight, bias, eps):
    """There is one mean and one variance for all tokens together: every token has its own, over the last axis."""
    return (x - x.mean()) / (x.var(correction=0) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=3)
def scaled_before(x, weight, bias, eps):
    """The scale comes before the normalization, which takes its size out again: normalize first, then multiply by the
    weight."""
    x = x * weight
    return _centered(x) / (_variance(x) + eps).sqrt() + bias


@layer_norm.mistake(hint=3)
def shift_forgotten(x, weight, bias, eps):
    """The shift is missing: add the bias at the end."""
    return _centered(x) / (_variance(x) + eps).sqrt() * weight


@layer_norm.mistake(hint=3)
def scale_forgotten(x, weight, bias, eps):
    """The scale is missing: multiply by the weight before you add the bias."""
    return _centered(x) / (_variance(x) + eps).sqrt() + bias


@layer_norm.mistake(hint=3)
def scale_and_shift_forgotten(x, weight, bias, eps):
    """The weight and the bias are not used: multiply by the one, then add the other."""
    return _centered(x) / (_variance(x) + eps).sqrt()


@layer_norm.mistake(hint=3)
def shifted_before_scaled(x, weight, bias, eps):
    """The bias is added before the scale, and scaled with the rest: multiply first, then add."""
    return (_centered(x) / (_variance(x) + eps).sqrt() + bias) * weight


@layer_norm.mistake(hint=1)
def mean_not_subtracted(x, weight, bias, eps):
    """The numerator is x itself: subtract the mean first."""
    return x / (_variance(x) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=1)
def mean_square_for_variance(x, weight, bias, eps):
    """This divides by the root of mean(x²), as RMSNorm does: the variance is the mean of (x − mean)²."""
    return _centered(x) / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake
def rms_instead(x, weight, bias, eps):
    """This is RMSNorm, which leaves the mean where it is: LayerNorm subtracts it, above and inside the root."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake
def only_centered(x, weight, bias, eps):
    """The mean is gone, and the size is as before: divide by the root of variance + eps as well."""
    return _centered(x) * weight + bias


@layer_norm.mistake(hint=3)
def eps_forgotten(x, weight, bias, eps):
    """The eps is missing: add it to the variance, inside the root. Without it a token of equal numbers becomes 0/0."""
    return _centered(x) / _variance(x).sqrt() * weight + bias


@layer_norm.mistake
def sum_of_squares(x, weight, bias, eps):
    """The squares are added up and not averaged: the variance is their mean."""
    return _centered(x) / (_centered(x).square().sum(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake
def mean_kept_to_the_end(x, weight, bias, eps):
    """The mean is subtracted after the division: subtract it from x, and divide the difference."""
    return (x / (_variance(x) + eps).sqrt() - x.mean(-1, keepdim=True)) * weight + bias


@layer_norm.mistake
def difference_of_squares(x, weight, bias, eps):
    """The variance is mean(x²) − mean² on paper, but where the mean is large the digits cancel: average (x − mean)²."""
    variance = x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True).square()
    return _centered(x) / (variance + eps).sqrt() * weight + bias


@layer_norm.mistake
def eps_of_its_own(x, weight, bias, eps):
    """The eps is the fixed number 1e-5: use the argument."""
    return _centered(x) / (_variance(x) + 1e-5).sqrt() * weight + bias


@layer_norm.mistake(hint=3)
def root_of_the_deviation(x, weight, bias, eps):
    """The root is taken twice: the standard deviation is the root of the variance already."""
    return _centered(x) / (_variance(x).sqrt() + eps).sqrt() * weight + bias


@layer_norm.mistake
def only_the_mean_divided(x, weight, bias, eps):
    """Only the mean is divided: x − mean needs parentheses, and then the root divides both."""
    return (x - x.mean(-1, keepdim=True) / (_variance(x) + eps).sqrt()) * weight + bias


@layer_norm.mistake(hint=3)
def scale_and_shift_exchanged(x, weight, bias, eps):
    """Weight and bias have changed places: multiply by the weight, add the bias."""
    return _centered(x) / (_variance(x) + eps).sqrt() * bias + weight


@layer_norm.mistake(hint=2)
def keepdim_forgotten(x, weight, bias, eps):
    """Mean and variance have lost their axis, and (T,) is lined up with d_model instead of the tokens: use
    `keepdim=True`."""
    return (x - x.mean(-1)) / (x.var(-1, correction=0) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def over_two_axes(x, weight, bias, eps):
    """Mean and variance run over the last two axes: every token has its own, over the last axis."""
    variance = x.var((-2, -1), correction=0, keepdim=True)
    return (x - x.mean((-2, -1), keepdim=True)) / (variance + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def root_of_the_other_deviation(x, weight, bias, eps):
    """The root is taken twice, and `std` divides by d_model − 1: use `var` with `correction=0`, and one root."""
    return _centered(x) / (x.std(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def over_everything_unbiased(x, weight, bias, eps):
    """There is one mean and one variance for all tokens together, and `var` divides by n − 1: each token has its own,
    over the last axis, divided by d_model."""
    return (x - x.mean()) / (x.var() + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def variance_of_everything(x, weight, bias, eps):
    """Each token has its own mean here, and all share one variance: it is averaged over the last axis, too."""
    return _centered(x) / (_centered(x).square().mean() + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def mean_of_everything(x, weight, bias, eps):
    """One mean of all tokens is subtracted: each token has its own, `x.mean(dim=-1, keepdim=True)`."""
    centered = x - x.mean()
    return centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def over_the_first_axis(x, weight, bias, eps):
    """Mean and variance run over the first axis: every token is normalized alone, over the last."""
    return (x - x.mean(0, keepdim=True)) / (x.var(0, correction=0, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=2)
def over_two_axes_unbiased(x, weight, bias, eps):
    """Mean and variance run over the last two axes, and `var` divides by n − 1: each token has its own, over the last
    axis, divided by d_model."""
    variance = x.var((-2, -1), keepdim=True)
    return (x - x.mean((-2, -1), keepdim=True)) / (variance + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=3)
def shift_below_the_line(x, weight, bias, eps):
    """Weight and bias stand below the line: divide by the root alone, then multiply by the weight and add the bias."""
    return _centered(x) / ((_variance(x) + eps).sqrt() * weight + bias)


@layer_norm.mistake(hint=1)
def both_roots(x, weight, bias, eps):
    """The root is taken of variance and eps, each alone: add them first, then take one root."""
    return _centered(x) / (_variance(x).sqrt() + eps**0.5) * weight + bias


@layer_norm.mistake(hint=3)
def multiplied(x, weight, bias, eps):
    """This multiplies by the root: divide by it."""
    return _centered(x) * (_variance(x) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=3)
def only_the_mean_normalized(x, weight, bias, eps):
    """Only the mean is divided and scaled: x − mean needs parentheses."""
    return x - x.mean(-1, keepdim=True) / (_variance(x) + eps).sqrt() * weight + bias


@layer_norm.mistake(hint=3)
def scale_plus_shift(x, weight, bias, eps):
    """The result is multiplied by weight + bias: multiply by the weight, then add the bias."""
    return _centered(x) / (_variance(x) + eps).sqrt() * (weight + bias)


@layer_norm.mistake(hint=3)
def divided_by_the_weight(x, weight, bias, eps):
    """The weight stands below the line: multiply by it after the division."""
    return _centered(x) / ((_variance(x) + eps).sqrt() * weight) + bias


@layer_norm.mistake
def scaled_and_shifted_before(x, weight, bias, eps):
    """Scale and shift come before the normalization, which takes mean and size out again: normalize first."""
    x = x * weight + bias
    return _centered(x) / (_variance(x) + eps).sqrt()


@layer_norm.mistake
def mean_added(x, weight, bias, eps):
    """The mean is added: subtract it."""
    return (x + x.mean(-1, keepdim=True)) / (_variance(x) + eps).sqrt() * weight + bias


@layer_norm.mistake
def sum_subtracted(x, weight, bias, eps):
    """The sum of the numbers is subtracted: subtract their mean."""
    return (x - x.sum(-1, keepdim=True)) / (_variance(x) + eps).sqrt() * weight + bias


@layer_norm.mistake
def mean_not_squared(x, weight, bias, eps):
    """This takes mean(x²) − mean for the variance: it is the mean of (x − mean)²."""
    variance = x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True)
    return _centered(x) / (variance + eps).sqrt() * weight + bias


@layer_norm.mistake
def averaged_before_squaring(x, weight, bias, eps):
    """The differences are averaged before they are squared, which gives 0: square first, then average."""
    variance = _centered(x).mean(-1, keepdim=True).square()
    return _centered(x) / (variance + eps).sqrt() * weight + bias


@layer_norm.mistake
def mean_size(x, weight, bias, eps):
    """This divides by the mean of |x − mean|: square, average, and take the root."""
    return _centered(x) / (_centered(x).abs().mean(-1, keepdim=True) + eps) * weight + bias


@layer_norm.mistake
def length_for_root(x, weight, bias, eps):
    """This divides by the length, the root of the sum of squares: the variance is their mean."""
    return _centered(x) / (_centered(x).norm(dim=-1, keepdim=True) + eps) * weight + bias


@layer_norm.mistake(hint=2)
def deviation_of_everything(x, weight, bias, eps):
    """Mean and `std` are those of all tokens together, and eps is outside the root: each token has its own mean and
    variance, over the last axis."""
    return (x - x.mean()) / (x.std() + eps) * weight + bias


@layer_norm.mistake(hint=3)
def scaled_difference_without_parentheses(x, weight, bias, eps):
    """Only the mean is divided, and only x is scaled: x − mean needs parentheses."""
    return weight * x - x.mean(-1, keepdim=True) / (_variance(x) + eps).sqrt() + bias


@layer_norm.mistake(hint=3)
def shift_divided(x, weight, bias, eps):
    """The bias is divided by the root as well: add it at the end."""
    return (_centered(x) * weight + bias) / (_variance(x) + eps).sqrt()


@layer_norm.mistake
def length_without_eps(x, weight, bias, eps):
    """This divides by the length, the root of the sum of squares, without eps: the variance is their mean, plus eps."""
    return _centered(x) / _centered(x).norm(dim=-1, keepdim=True) * weight + bias


@layer_norm.inputs
def _(rng):
    # A mean of 128 that float32 represents without error, whereas mean(x²) − mean² has lost three digits.
    offsets = torch.randint(40, 90, (8, 4), generator=rng) / 64
    x = 128 + torch.cat([offsets, -offsets], -1)
    yield x, *torch.ones(2, 8), 1e-5
    # As many tokens as numbers in each: a mean without keepdim would go unnoticed here.
    yield torch.randn(5, 5, generator=rng), *torch.randn(2, 5, generator=rng), 0.1
    equal = torch.randn(3, 1, generator=rng).expand(3, 4).contiguous()  # no deviation at all
    weight, bias = torch.randn(2, 4, generator=rng)
    yield equal, weight, bias, 1e-5
    yield 0.1 * torch.randn(3, 5, generator=rng) + 3, *torch.randn(2, 5, generator=rng), 0.1


@layer_norm.finished
def layer_norm_with_var(x, weight, bias, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


@layer_norm.accepted
def layer_norm_with_rsqrt(x, weight, bias, eps):
    centered = x - x.mean(-1, keepdim=True)
    return weight * centered * torch.rsqrt(centered.square().mean(-1, keepdim=True) + eps) + bias


@layer_norm.accepted
def layer_norm_in_float64(x, weight, bias, eps):
    wide = x.double()
    mean = wide.sum(-1, keepdim=True) / wide.shape[-1]
    variance = (wide**2).mean(-1, keepdim=True) - mean**2
    return (((wide - mean) / (variance + eps) ** 0.5) * weight + bias).to(x.dtype)


@layer_norm.accepted
def layer_norm_in_loops(x, weight, bias, eps):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((number - mean) ** 2 for number in row) / len(row)
        rows.append((row - mean) / (variance + eps).sqrt() * weight + bias)
    return torch.stack(rows).view(x.shape)
