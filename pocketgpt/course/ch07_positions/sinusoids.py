"""Exercise `sinusoids`: sines and cosines of the position."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("table",),
    replaces="sinusoids",
    dtype=torch.float32,
    choices={"d_model": (10, 4, 2, 6, 16)},
    tolerance=1e-3,  # an angle of 300 has an error of 3e-5 in float32
)
def sinusoids(positions: Int[Tensor, " seq"], d_model: int) -> Float[Tensor, "seq d_model"]:
    """sin(position · 10000^(−2i/d_model)) in column 2i, and its cosine in column 2i + 1.

    In float64, number by number. tests/oracles compares it with the table of the library transformers.
    """
    rows = []
    for position in positions.tolist():
        angles = [position / 10_000 ** (column / d_model) for column in range(0, d_model, 2)]
        rows.append([wave(angle) for angle in angles for wave in (math.sin, math.cos)])
    return torch.tensor(rows, dtype=torch.float64).float()


@sinusoids.values
def positions(rng, shape):
    return torch.randperm(40, generator=rng)[: shape[0]]


@sinusoids.inputs
def _(rng):
    yield torch.arange(6), 8
    start = int(torch.randint(20, 290, (), generator=rng))
    yield torch.arange(start, start + 5), 12  # a window in the middle of a text
    yield torch.tensor([255, 256, 257, 2049]), 6  # 257 is no number of bfloat16, 2049 none of float16


def _frequencies(d_model):
    """Right, for the mistakes that go wrong elsewhere."""
    return 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)


def _side_by_side(angles):
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


@sinusoids.mistake(hint=2)
def halves(positions, d_model):
    """All sines come first and all cosines after them. A model trained so is as good, but this is another layout: here
    they alternate, sin, cos, sin, cos."""
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


@sinusoids.mistake(hint=1)
def exponent_doubled(positions, d_model):
    """The exponent is twice too large: an index that counts 0, 2, 4, … is 2i already, and is not doubled again."""
    frequencies = 10_000.0 ** (-2 * torch.arange(0, d_model, 2) / d_model)
    return _side_by_side(positions[:, None] * frequencies)


@sinusoids.mistake(hint=1)
def exponent_halved(positions, d_model):
    """The exponent is half as large as it should be: pair i has 2i/d_model, not i/d_model."""
    frequencies = 10_000.0 ** (-torch.arange(d_model // 2) / d_model)
    return _side_by_side(positions[:, None] * frequencies)


@sinusoids.mistake(hint=1)
def cosine_of_another_frequency(positions, d_model):
    """Each column has a frequency of its own: the sine and the cosine of a pair share one."""
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(d_model) / d_model)
    return torch.where(torch.arange(d_model) % 2 == 0, angles.sin(), angles.cos())


@sinusoids.mistake(hint=1)
def base_of_1000(positions, d_model):
    """The base is 1000: it is 10000, with four zeros."""
    return _side_by_side(positions[:, None] * 1_000.0 ** (-torch.arange(0, d_model, 2) / d_model))


@sinusoids.mistake(hint=1)
def integer_division(positions, d_model):
    """The division drops the fraction, so every exponent is 0 and all pairs turn equally fast: use / instead of //."""
    frequencies = 10_000.0 ** -(torch.arange(0, d_model, 2) // d_model).float()
    return _side_by_side(positions[:, None] * frequencies)


@sinusoids.mistake(hint=1)
def sign_of_the_exponent(positions, d_model):
    """The sign of the exponent is wrong: later pairs should turn more slowly, and here they turn faster."""
    return _side_by_side(positions[:, None] * 10_000.0 ** (torch.arange(0, d_model, 2) / d_model))


@sinusoids.mistake(hint=1)
def divided_by_the_frequency(positions, d_model):
    """The positions are divided by the frequency: multiply, so that later pairs turn more slowly."""
    return _side_by_side(positions[:, None] / _frequencies(d_model))


@sinusoids.mistake(hint=2)
def positions_from_one(positions, d_model):
    """Every position is one too large: position 0 has the sine of 0."""
    return _side_by_side((positions[:, None] + 1) * _frequencies(d_model))


@sinusoids.mistake(hint=2)
def row_numbers(positions, d_model):
    """The rows are numbered 0, 1, 2, …: use the given positions, which need not begin at 0."""
    return _side_by_side(torch.arange(len(positions))[:, None] * _frequencies(d_model))


@sinusoids.mistake(hint=2)
def cosine_first(positions, d_model):
    """Sine and cosine are exchanged: column 0 is a sine."""
    angles = positions[:, None] * _frequencies(d_model)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(-2)


@sinusoids.mistake(hint=1)
def sines_only(positions, d_model):
    """Every column is a sine: in each pair, the second is a cosine."""
    return torch.sin(positions[:, None] * _frequencies(d_model).repeat_interleave(2))


@sinusoids.mistake(hint=1)
def ends_at_one_over_the_base(positions, d_model):
    """The exponents reach 1 in the last pair, as in some code of 2017: the equation ends at (d_model − 2)/d_model."""
    pairs = torch.arange(d_model // 2)
    return _side_by_side(positions[:, None] * 10_000.0 ** (-pairs / max(d_model // 2 - 1, 1)))


@sinusoids.mistake
def positions_rounded(positions, d_model):
    """The positions are rounded before the angles: compute in float32 and round the result."""
    return _side_by_side(positions.bfloat16().float()[:, None] * _frequencies(d_model))


@sinusoids.mistake
def full_turns(positions, d_model):
    """The angles have a factor 2π: a frequency of 1 means one radian per position, not one turn."""
    return _side_by_side(2 * math.pi * positions[:, None] * _frequencies(d_model))


@sinusoids.mistake
def columns_for_positions(positions, d_model):
    """The table is transposed: a row belongs to a position, a column to a coordinate."""
    return _side_by_side(positions[:, None] * _frequencies(d_model)).T


@sinusoids.mistake(hint=2)
def waves_along_the_positions(positions, d_model):
    """Even positions get sines and odd positions cosines: it is the columns that alternate."""
    angles = positions[:, None] * _frequencies(d_model).repeat_interleave(2)
    return torch.where(torch.arange(len(positions))[:, None] % 2 == 0, angles.sin(), angles.cos())


@sinusoids.mistake(hint=1)
def divided_by_d_minus_2(positions, d_model):
    """The exponents are divided by d_model − 2, which is 0 where d_model is 2: the equation divides 2i by d_model."""
    return _side_by_side(positions[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) / (d_model - 2)))


@sinusoids.mistake(hint=1)
def pairs_from_one(positions, d_model):
    """The pairs are counted from 1: pair 0 has the exponent 0 and turns by one radian per position."""
    return _side_by_side(positions[:, None] * 10_000.0 ** (-torch.arange(2, d_model + 2, 2) / d_model))


@sinusoids.mistake(hint=1)
def column_doubled(positions, d_model):
    """Column c has the exponent 2c/d_model here: columns 2i and 2i + 1 share 2i/d_model."""
    angles = positions[:, None] * 10_000.0 ** (-2 * torch.arange(d_model) / d_model)
    return torch.where(torch.arange(d_model) % 2 == 0, angles.sin(), angles.cos())


@sinusoids.mistake(hint=2)
def stacked_in_front(positions, d_model):
    """Sine and cosine are stacked in front, so that rows of different positions mix: stack them on a new last axis."""
    angles = positions[:, None] * _frequencies(d_model)
    return torch.stack((angles.sin(), angles.cos())).flatten(1)


@sinusoids.mistake(hint=2)
def not_flattened(positions, d_model):
    """The two of a pair still have an axis of their own: `flatten(1)` puts them side by side."""
    return _side_by_side(positions[:, None] * _frequencies(d_model)).unflatten(-1, (-1, 2))


@sinusoids.mistake(hint=2)
def a_position_for_each_pair(positions, d_model):
    """The positions are lined up with the pairs: make them a column, `positions[:, None]`, so that each meets all
    pairs."""
    return _side_by_side(positions * _frequencies(d_model))


@sinusoids.mistake(hint=1)
def added_to_the_frequency(positions, d_model):
    """Position and frequency are added: multiply them."""
    return _side_by_side(positions[:, None] + _frequencies(d_model))


@sinusoids.mistake(hint=2)
def slowest_first(positions, d_model):
    """The frequencies are in reverse order: pair 0 turns fastest."""
    return _side_by_side(positions[:, None] * _frequencies(d_model).flip(0))


@sinusoids.mistake
def in_degrees(positions, d_model):
    """The angles are taken for degrees: position times frequency is in radians, as `sin` and `cos` expect."""
    return _side_by_side((positions[:, None] * _frequencies(d_model)).deg2rad())


@sinusoids.mistake
def minus_the_cosine(positions, d_model):
    """The cosines have a minus: position 0 has the cosine 1."""
    angles = positions[:, None] * _frequencies(d_model)
    return torch.stack((angles.sin(), -angles.cos()), dim=-1).flatten(-2)


@sinusoids.mistake(hint=1)
def angles_alone(positions, d_model):
    """These are the angles: take their sines and cosines."""
    return (positions[:, None] * _frequencies(d_model)).repeat_interleave(2, dim=-1)


@sinusoids.mistake
def angles_rounded(positions, d_model):
    """The angles are rounded to bfloat16: compute in float32 and round the result, if at all."""
    angles = (positions[:, None] * _frequencies(d_model)).bfloat16()
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


@sinusoids.mistake(hint=1)
def whole_numbers_below_zero(positions, d_model):
    """The division `//` makes whole numbers of the exponents, −1 for all pairs but the first: use /."""
    return _side_by_side(positions[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) // d_model))


@sinusoids.mistake(hint=1)
def base_e(positions, d_model):
    """The base is e, that of `exp`: it is 10000. With `exp`, multiply the exponents by log(10000)."""
    return _side_by_side(positions[:, None] * torch.exp(-torch.arange(0, d_model, 2) / d_model))


@sinusoids.mistake(hint=1)
def base_of_100000(positions, d_model):
    """The base is 100000: it is 10000, with four zeros."""
    return _side_by_side(positions[:, None] * 100_000.0 ** (-torch.arange(0, d_model, 2) / d_model))


@sinusoids.mistake
def scaled(positions, d_model):
    """The table is multiplied by √d_model: that factor belongs to the embedding."""
    return d_model**0.5 * _side_by_side(positions[:, None] * _frequencies(d_model))


@sinusoids.mistake(hint=2)
def both_waves_in_each_column(positions, d_model):
    """The table is twice as wide as it should be: a column is a sine or a cosine, so d_model/2 of each."""
    angles = positions[:, None] * _frequencies(d_model).repeat_interleave(2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


@sinusoids.mistake(hint=2)
def angles_transposed(positions, d_model):
    """The angles are (pairs, positions): make the positions a column, `positions[:, None]`, so that a row is a
    position."""
    angles = _frequencies(d_model)[:, None] * positions
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@sinusoids.finished
def stacked_pairs(positions, d_model):
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@sinusoids.accepted
def filled_column_by_column(positions, d_model):
    table = torch.empty(len(positions), d_model)
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    table[:, 0::2] = torch.sin(positions.unsqueeze(1).float() * rates)
    table[:, 1::2] = torch.cos(positions.unsqueeze(1).float() * rates)
    return table


@sinusoids.accepted
def as_complex_numbers(positions, d_model):
    angles = torch.outer(positions.double(), 10_000.0 ** (-torch.arange(0, d_model, 2).double() / d_model))
    turned = torch.polar(torch.ones_like(angles), math.pi / 2 - angles)  # its real part is the sine
    return torch.view_as_real(turned).flatten(-2).float()


@sinusoids.accepted
def one_sine_with_a_phase(positions, d_model):
    column = torch.arange(d_model)
    frequencies = torch.pow(10_000.0, -(column - column % 2) / d_model)
    return torch.sin(positions[:, None] * frequencies + column % 2 * math.pi / 2)
