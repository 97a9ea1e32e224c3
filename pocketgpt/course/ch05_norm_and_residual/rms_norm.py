"""Exercise `rms_norm`: a root mean square of 1 for every token, then a learned scale."""

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
    replaces="rms_norm",
    choices={"eps": (0.1, 1e-5, 0.03)},
    sizes={"d_model": (3, 4, 5, 6)},  # with one number or two, most mistakes look alike
    gradients=("x", "weight"),
)
def rms_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, " d_model"], eps: float
) -> Float[Tensor, "*batch d_model"]:
    """x / √(mean(x²) + eps) over the last axis, times weight; float16 is squared in float32."""
    if x.dtype == torch.float16:
        return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)
    return F.rms_norm(x, x.shape[-1:], weight, eps)


@rms_norm.inputs
def _(rng):
    # float16: four numbers (2, 2, 14, 14) · 30, whose squares are more than float16 can represent (65,504). The root
    # mean square is 300, and the results round in the same way however they are computed.
    for n in (1, 16):
        order = torch.rand(3, 4 * n, generator=rng).argsort(-1)
        signs = 2.0 * torch.randint(2, (3, 4 * n), generator=rng) - 1
        x = 30.0 * signs * torch.tensor([2.0, 2.0, 14.0, 14.0]).repeat(n)[order]
        weight = 2.0 ** torch.randint(-2, 3, (4 * n,), generator=rng)
        yield x.half(), weight.half(), 1e-5
    yield torch.zeros(2, 3), torch.randn(3, generator=rng), 1e-5  # nothing to scale up
    # As many tokens as numbers in each: a root without keepdim would go unnoticed here.
    yield torch.randn(5, 5, generator=rng), torch.randn(5, generator=rng), 0.1
    yield 0.1 * torch.randn(2, 5, generator=rng) + 3, torch.randn(5, generator=rng), 0.1
    yield 0.1 * torch.randn(2, 5, generator=rng), torch.randn(5, generator=rng), 0.1  # eps is most of the sum


def _mean_square(x, dim=-1):
    return x.float().square().mean(dim, keepdim=True)


def _divided(x, divisor, weight):
    """Right, for the mistakes that go wrong elsewhere."""
    return (x.float() / divisor).to(x.dtype) * weight


@rms_norm.mistake
def mean_subtracted(x, weight, eps):
    """This subtracts the mean, as LayerNorm does: RMSNorm leaves it, and divides by the root of mean(x²)."""
    centered = x.float() - x.float().mean(-1, keepdim=True)
    return (centered / (_mean_square(centered) + eps).sqrt()).to(x.dtype) * weight


@rms_norm.mistake
def divided_by_the_deviation(x, weight, eps):
    """This divides by the standard deviation: the mean of the squares is taken of x itself, not of x − mean."""
    return _divided(x, (x.float().var(-1, correction=0, keepdim=True) + eps).sqrt(), weight)


@rms_norm.mistake(hint=1)
def sum_for_mean(x, weight, eps):
    """The squares are added up and not averaged: this gives every token the length 1, and its numbers shrink with
    d_model."""
    return _divided(x, (x.float().square().sum(-1, keepdim=True) + eps).sqrt(), weight)


@rms_norm.mistake(hint=1)
def root_forgotten(x, weight, eps):
    """The root is missing: this divides by the mean square."""
    return _divided(x, _mean_square(x) + eps, weight)


@rms_norm.mistake(hint=2)
def eps_outside(x, weight, eps):
    """The eps is added to the root: it belongs inside, beside the mean of the squares."""
    return _divided(x, _mean_square(x).sqrt() + eps, weight)


@rms_norm.mistake(hint=3)
def eps_forgotten(x, weight, eps):
    """The eps is missing: add it inside the root. Without it a token of zeros becomes 0/0."""
    return _divided(x, _mean_square(x).sqrt(), weight)


@rms_norm.mistake
def eps_as_a_floor(x, weight, eps):
    """The eps is used as a smallest value here: it is added, always."""
    return _divided(x, _mean_square(x).clamp_min(eps).sqrt(), weight)


@rms_norm.mistake(hint=2)
def squared_in_float16(x, weight, eps):
    """The square of 300 is 90,000, which float16 cannot represent: it becomes ∞, and the result 0. Convert x to float32
    first, and the result back."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@rms_norm.mistake(hint=2)
def not_cast_back(x, weight, eps):
    """For float16 this returns float32: convert the result back to the dtype of x."""
    return x.float() / (_mean_square(x) + eps).sqrt() * weight.to(torch.promote_types(weight.dtype, torch.float32))


@rms_norm.mistake(hint=2)
def keepdim_forgotten(x, weight, eps):
    """The mean has lost its axis, and (T,) is lined up with d_model instead of the tokens: use `keepdim=True`."""
    return x * torch.rsqrt(x.float().pow(2).mean(-1) + eps) * weight


@rms_norm.mistake(hint=2)
def over_the_sequence(x, weight, eps):
    """The mean runs over the tokens: every token is normalized alone, over the last axis."""
    return _divided(x, (_mean_square(x, -2) + eps).sqrt(), weight)


@rms_norm.mistake(hint=2)
def over_everything(x, weight, eps):
    """There is one root mean square for all tokens together: every token has its own, over the last axis."""
    return _divided(x, (x.float().square().mean() + eps).sqrt(), weight)


@rms_norm.mistake(hint=3)
def scale_forgotten(x, weight, eps):
    """The weight is not used: multiply by it at the end."""
    return _divided(x, (_mean_square(x) + eps).sqrt(), 1)


@rms_norm.mistake(hint=3)
def scaled_before(x, weight, eps):
    """The weight comes before the normalization, which takes its size out again: normalize first, then multiply."""
    return _divided(x * weight, (_mean_square(x * weight) + eps).sqrt(), 1)


@rms_norm.mistake
def one_plus_weight(x, weight, eps):
    """This multiplies by 1 + weight, as models do that store the weight minus 1 (Gemma): here the weight is the whole
    factor."""
    return _divided(x, (_mean_square(x) + eps).sqrt(), 1 + weight)


@rms_norm.mistake
def mean_of_sizes(x, weight, eps):
    """This divides by the mean of |x|: RMS is the root of the mean of x²."""
    return _divided(x, x.float().abs().mean(-1, keepdim=True) + eps, weight)


@rms_norm.mistake
def root_of_the_mean(x, weight, eps):
    """This squares the mean: square first, then take the mean."""
    return _divided(x, (x.float().mean(-1, keepdim=True).square() + eps).sqrt(), weight)


@rms_norm.mistake
def multiplied(x, weight, eps):
    """This multiplies by the root: divide by it (or multiply by `rsqrt`)."""
    return (x.float() * (_mean_square(x) + eps).sqrt()).to(x.dtype) * weight


@rms_norm.mistake(hint=3)
def eps_of_its_own(x, weight, eps):
    """The eps is the fixed number 1e-5: use the argument."""
    return _divided(x, (_mean_square(x) + 1e-5).sqrt(), weight)


@rms_norm.mistake(hint=2)
def both_roots(x, weight, eps):
    """The root is taken of the mean square and of eps, each alone: add them first, then take one root."""
    return _divided(x, _mean_square(x).sqrt() + eps**0.5, weight)


@rms_norm.mistake
def centered_above_only(x, weight, eps):
    """The mean is subtracted above: divide x itself."""
    centered = x.float() - x.float().mean(-1, keepdim=True)
    return _divided(centered, (_mean_square(x) + eps).sqrt(), weight).to(x.dtype)


@rms_norm.mistake(hint=1)
def length_for_root(x, weight, eps):
    """This divides by the length, the root of the sum of squares: RMS is the root of their mean."""
    return _divided(x, x.float().norm(dim=-1, keepdim=True).clamp_min(1e-12), weight)


@rms_norm.mistake(hint=1)
def length_and_eps(x, weight, eps):
    """This divides by the length plus eps: RMS is the root of mean(x²), not of the sum, and eps belongs inside."""
    return _divided(x, x.float().norm(dim=-1, keepdim=True) + eps, weight)


@rms_norm.mistake(hint=1)
def divided_by_d_after_the_root(x, weight, eps):
    """The length is divided by d_model: take the mean of the squares first, then the root."""
    return _divided(x, x.float().norm(dim=-1, keepdim=True) / x.shape[-1] + eps, weight)


@rms_norm.mistake(hint=1)
def not_squared(x, weight, eps):
    """This is the root of the mean of x, which may be negative: square x before you take the mean."""
    return _divided(x, (x.float().mean(-1, keepdim=True) + eps).sqrt(), weight)


@rms_norm.mistake
def deviation_plus_eps(x, weight, eps):
    """This is `std` plus eps: `std` subtracts the mean and divides by d_model − 1. Take the root of mean(x²) + eps."""
    return _divided(x, x.float().std(-1, keepdim=True) + eps, weight)


@rms_norm.mistake
def variance_of_pytorch(x, weight, eps):
    """This is the root of `var`, which subtracts the mean and divides by d_model − 1: take the mean of x²."""
    return _divided(x, (x.float().var(-1, keepdim=True) + eps).sqrt(), weight)


@rms_norm.mistake
def largest_number(x, weight, eps):
    """This divides by the largest number: divide by the root of mean(x²) + eps."""
    return _divided(x, x.float().abs().amax(-1, keepdim=True) + eps, weight)


@rms_norm.mistake(hint=2)
def over_the_first_axis(x, weight, eps):
    """The mean runs over the first axis: every token is normalized alone, over the last."""
    return _divided(x, (_mean_square(x, 0) + eps).sqrt(), weight)


@rms_norm.mistake(hint=2)
def over_two_axes(x, weight, eps):
    """The mean runs over the last two axes: every token has its own, over the last."""
    return _divided(x, (_mean_square(x, (-2, -1)) + eps).sqrt(), weight)


@rms_norm.mistake(hint=3)
def weight_added(x, weight, eps):
    """The weight is added: multiply by it."""
    return (x.float() / (_mean_square(x) + eps).sqrt()).to(x.dtype) + weight


@rms_norm.mistake(hint=3)
def divided_by_the_weight(x, weight, eps):
    """The weight stands below the line: multiply by it after the division."""
    return (x.float() / ((_mean_square(x) + eps).sqrt() * weight)).to(x.dtype)


@rms_norm.mistake
def root_of_the_root(x, weight, eps):
    """The root is taken twice: once is enough."""
    return _divided(x, (_mean_square(x) + eps).sqrt().sqrt(), weight)


@rms_norm.mistake(hint=2)
def eps_outside_in_float32(x, weight, eps):
    """The eps is added to the root, and belongs inside. And for float16 the result is float32: convert it back."""
    return x.float() / (_mean_square(x).sqrt() + eps) * weight.float()


@rms_norm.finished
def rms_norm_in_float32(x, weight, eps):
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * scale).to(x.dtype) * weight


@rms_norm.accepted
def rms_norm_always_in_float32(x, weight, eps):
    root = (x.float() ** 2).mean(-1, keepdim=True).add(eps).sqrt()
    return (weight.float() * (x.float() / root)).to(x.dtype)


@rms_norm.accepted
def rms_norm_in_float64(x, weight, eps):
    wide = x.double()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (wide / (length**2 / x.shape[-1] + eps) ** 0.5 * weight.double()).type_as(x)


@rms_norm.accepted
def rms_norm_in_loops(x, weight, eps):
    rows = [
        row / (sum(number**2 for number in row) / len(row) + eps).sqrt() for row in x.float().reshape(-1, len(weight))
    ]
    return torch.stack(rows).view(x.shape).to(x.dtype) * weight
