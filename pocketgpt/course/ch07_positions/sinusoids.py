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
