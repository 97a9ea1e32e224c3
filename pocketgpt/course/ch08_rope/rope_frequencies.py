"""Exercise `rope_frequencies`: the frequency of every pair of a head."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("frequencies",),
    replaces="rope_frequencies",
    dtype=torch.float32,
    tolerance=1e-5,
    choices={"d_head": (8, 4, 12, 6, 32)},
)
def rope_frequencies(d_head: int, theta: float) -> Float[Tensor, " half"]:
    """theta^(−2i/d_head) for every pair i of a head, in radians per token, fastest first."""
    slowest = -(d_head - 2) / d_head
    return torch.logspace(0.0, slowest, d_head // 2, base=theta, dtype=torch.float64).float()


@rope_frequencies.values
def theta(rng):
    return round(10 ** (2 + 2 * float(torch.rand((), generator=rng))), 1)


@rope_frequencies.inputs
def _(rng):
    yield 32, 10_000.0
    yield 8, 16.0 + float(torch.randint(9, (), generator=rng))


def _right(d_head, theta):
    """Right, for the mistakes that go wrong elsewhere."""
    return theta ** (-torch.arange(0, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=2)
def exponent_half_as_large(d_head, theta):
    """The exponents are i/d_head here: they are 2i/d_head. The slowest pair turns far too fast."""
    return theta ** (-torch.arange(d_head // 2) / d_head)


@rope_frequencies.mistake(hint=2)
def exponent_doubled(d_head, theta):
    """The exponent is doubled: counting 0, 2, 4, … gives 2i already, so do not double it again."""
    return theta ** (-2 * torch.arange(0, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=2)
def ends_at_one_over_theta(d_head, theta):
    """The last exponent is 1 here, so the slowest pair turns by exactly 1/theta: it is (d_head − 2)/d_head."""
    return theta ** (-torch.linspace(0, 1, d_head // 2))


@rope_frequencies.mistake(hint=2)
def divided_by_d_head_minus_2(d_head, theta):
    """The exponents are i/(d_head − 2) here: they are 2i/d_head."""
    return theta ** (-torch.arange(d_head // 2) / (d_head - 2))


@rope_frequencies.mistake(hint=2)
def begins_with_pair_one(d_head, theta):
    """The pairs are counted from 1: pair 0 has the exponent 0, so the fastest turns by one radian per token."""
    return theta ** (-torch.arange(2, d_head + 2, 2) / d_head)


@rope_frequencies.mistake(hint=2)
def one_per_coordinate(d_head, theta):
    """This gives every coordinate a frequency of its own: the two of a pair turn together, so there are d_head/2."""
    return theta ** (-torch.arange(d_head) / d_head)


@rope_frequencies.mistake(hint=1)
def twice_one_behind_the_other(d_head, theta):
    """Each frequency is here twice, as some code keeps it to multiply whole heads: return one for each pair."""
    return torch.cat([_right(d_head, theta)] * 2)


@rope_frequencies.mistake(hint=1)
def twice_side_by_side(d_head, theta):
    """Each frequency is here twice in a row, as code for interleaved pairs keeps it: return one for each pair."""
    return _right(d_head, theta).repeat_interleave(2)


@rope_frequencies.mistake(hint=3)
def growing(d_head, theta):
    """The minus of the exponent is missing: every pair turns faster than the one before it, not slower."""
    return theta ** (torch.arange(0, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=1)
def slowest_first(d_head, theta):
    """The order is reversed: pair 0 is the fastest."""
    return _right(d_head, theta).flip(0)


@rope_frequencies.mistake
def in_degrees(d_head, theta):
    """These are degrees per token: `cos` and `sin` take radians."""
    return _right(d_head, theta).rad2deg()


@rope_frequencies.mistake
def radians_taken_for_degrees(d_head, theta):
    """The frequencies are multiplied by π/180, as if they were degrees: theta^(−2i/d_head) is in radians already."""
    return _right(d_head, theta).deg2rad()


@rope_frequencies.mistake
def wavelengths(d_head, theta):
    """These are wavelengths, tokens per full turn: return radians per token, 2π divided by them."""
    return 2 * math.pi / _right(d_head, theta)


@rope_frequencies.mistake
def turns_per_token(d_head, theta):
    """These are turns per token: return radians per token, 2π times as much."""
    return _right(d_head, theta) / (2 * math.pi)


@rope_frequencies.mistake
def theta_of_ten_thousand(d_head, theta):
    """The argument `theta` is not used: 10,000 is a usual value, and published models also have 500,000 or
    1,000,000."""
    return _right(d_head, 10_000.0)


@rope_frequencies.mistake(hint=1)
def evenly_spaced(d_head, theta):
    """The frequencies fall in equal steps: it is their ratio that is the same from pair to pair, theta^(−2/d_head)."""
    return torch.linspace(1, theta ** (-(d_head - 2) / d_head), d_head // 2)


@rope_frequencies.mistake(hint=2)
def integer_division(d_head, theta):
    """A division of whole numbers, `//`, makes every exponent 0, so all pairs turn alike: divide with `/`."""
    return theta ** (-(torch.arange(0, d_head, 2) // d_head).float())


@rope_frequencies.mistake
def in_bfloat16(d_head, theta):
    """This is computed in bfloat16, which keeps two to three digits: angles are position times frequency, and far along
    in a text the error is as large as the angle. Use float32."""
    return theta ** (-torch.arange(0, d_head, 2, dtype=torch.bfloat16) / d_head)


@rope_frequencies.mistake(hint=2)
def odd_exponents(d_head, theta):
    """The exponents are 1/d_head, 3/d_head, …: they begin at 0, so that the fastest pair turns by one radian."""
    return theta ** (-torch.arange(1, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=2)
def not_divided(d_head, theta):
    """The exponents are 0, 2, 4, …: divide them by d_head."""
    return 1 / theta ** torch.arange(0, d_head, 2)


@rope_frequencies.mistake(hint=3)
def product_for_power(d_head, theta):
    """This is theta times the exponent: it is theta to the power of it, `**`."""
    return theta * (-torch.arange(0, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=3)
def exponents_alone(d_head, theta):
    """These are the exponents: take theta to the power of them."""
    return -torch.arange(0, d_head, 2) / d_head


@rope_frequencies.mistake(hint=2)
def whole_numbers_below_zero(d_head, theta):
    """The division `//` makes whole numbers of the exponents, −1 for all pairs but the first: use /."""
    return theta ** (-torch.arange(0, d_head, 2) // d_head)


@rope_frequencies.mistake(hint=3)
def base_e(d_head, theta):
    """The base is e, that of `exp`: with `exp`, multiply the exponents by log(theta)."""
    return torch.exp(-torch.arange(0, d_head, 2) / d_head)


@rope_frequencies.mistake(hint=3)
def minus_in_front(d_head, theta):
    """The minus stands before the power and not in the exponent: these are −theta^(2i/d_head)."""
    return -(theta ** (torch.arange(0, d_head, 2) / d_head))


@rope_frequencies.mistake(hint=3)
def base_and_exponent_exchanged(d_head, theta):
    """Base and exponent are exchanged: it is theta to the power of −2i/d_head."""
    return (torch.arange(0, d_head, 2) / d_head) ** -theta


@rope_frequencies.mistake(hint=2)
def half_of_the_pairs(d_head, theta):
    """There are half as many as there should be: count 0, 2, 4, … up to d_head."""
    return theta ** (-torch.arange(0, d_head // 2, 2) / d_head)


@rope_frequencies.mistake(hint=2)
def of_half_a_head(d_head, theta):
    """These are the frequencies of a head half as wide: there is one for each pair, d_head/2."""
    return theta ** (-torch.arange(0, d_head // 2, 2) / (d_head // 2))


@rope_frequencies.mistake
def cosines(d_head, theta):
    """These are cosines of the frequencies: `cos` is taken later, of position times frequency."""
    return torch.cos(_right(d_head, theta))


@rope_frequencies.mistake
def an_axis_in_front(d_head, theta):
    """There is an axis too many, in front: return (d_head/2,)."""
    return _right(d_head, theta)[None]


@rope_frequencies.mistake(hint=2)
def divided_outside_the_power(d_head, theta):
    """The power is divided by d_head, too: only its exponent is."""
    return _right(d_head, theta) / d_head


@rope_frequencies.mistake(hint=2)
def coordinates_counted_as_pairs(d_head, theta):
    """Every coordinate is counted as a pair: i runs over d_head/2 pairs."""
    return theta ** (-2 * torch.arange(d_head) / d_head)


@rope_frequencies.finished
def power_of_theta(d_head, theta):
    exponents = torch.arange(0, d_head, 2) / d_head
    return theta**-exponents


@rope_frequencies.accepted
def one_over_the_power(d_head, theta):
    return 1.0 / (theta ** (torch.arange(0, d_head, 2, dtype=torch.int64).float() / d_head))


@rope_frequencies.accepted
def exponential_of_logarithms(d_head, theta):
    return torch.exp(-math.log(theta) * 2 * torch.arange(d_head // 2) / d_head)


@rope_frequencies.accepted
def product_of_ratios(d_head, theta):
    ratio = theta ** (-2 / d_head)
    return torch.tensor([ratio**i for i in range(d_head // 2)])
