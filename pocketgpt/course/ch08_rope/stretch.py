"""Exercise `stretch`: frequencies for a longer context, by position interpolation or NTK-aware."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("frequencies",),
    choices={"factor": (2.0, 4.0, 8, 2.5, 1.0), "kind": ("linear", "ntk")},
    sizes={"half": (4, 3, 5, 8)},
)
def stretch(frequencies: Float[Tensor, " half"], factor: float | int, kind: str) -> Float[Tensor, " half"]:
    """ "linear": all divided by factor. "ntk": those of a larger theta, theta · factor^(d_head/(d_head − 2))."""
    half = len(frequencies)
    if kind == "linear":
        return torch.true_divide(frequencies, factor)
    theta = frequencies[-1].double() ** (-half / (half - 1))
    theta = theta * factor ** (2 * half / (2 * half - 2))
    return theta.pow(-torch.arange(half, dtype=torch.float64) / half).to(frequencies.dtype)


@stretch.values
def frequencies(rng, half):
    theta = 20 + 200 * torch.rand((), generator=rng)
    return theta ** (-torch.arange(half) / half)


@stretch.inputs
def _(rng):
    theta = 50 + 50 * torch.rand((), generator=rng)
    for half in (4, 2, 6):
        for kind in ("linear", "ntk"):
            yield theta ** (-torch.arange(half) / half), 3.0, kind


def _ntk(frequencies, factor):
    """Right, for the mistakes that go wrong elsewhere."""
    return frequencies * factor ** -torch.linspace(0, 1, len(frequencies))


def _larger_theta(frequencies, factor, power):
    """The frequencies of theta · factor^power."""
    half = len(frequencies)
    return frequencies * factor ** (-power * torch.arange(half) / half)


@stretch.mistake
def multiplied(frequencies, factor, kind):
    """The frequencies are multiplied by the factor, which doubles the positions where it should halve them: "linear"
    divides."""
    return frequencies * factor if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=3)
def ntk_turned_round(frequencies, factor, kind):
    """With "ntk" the frequencies rise here: a larger theta makes the slow pairs slower."""
    return frequencies / factor if kind == "linear" else _ntk(frequencies, 1 / factor)


@stretch.mistake
def kinds_exchanged(frequencies, factor, kind):
    """The two kinds are exchanged."""
    return frequencies / factor if kind == "ntk" else _ntk(frequencies, factor)


@stretch.mistake
def always_linear(frequencies, factor, kind):
    """Every kind is "linear" here: with "ntk" the fastest pair is unchanged."""
    return frequencies / factor


@stretch.mistake
def always_ntk(frequencies, factor, kind):
    """Every kind is "ntk" here: with "linear" all pairs are divided by the factor."""
    return _ntk(frequencies, factor)


@stretch.mistake(hint=1)
def linear_unchanged(frequencies, factor, kind):
    """With "linear" the frequencies are unchanged: divide all of them by the factor."""
    return frequencies.clone() if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=2)
def theta_times_the_factor(frequencies, factor, kind):
    """With "ntk" theta is multiplied by the factor itself, so the slowest pair is stretched by less: the power
    d_head/(d_head − 2) makes it exactly the factor."""
    return frequencies / factor if kind == "linear" else _larger_theta(frequencies, factor, 1)


@stretch.mistake(hint=2)
def power_of_d_minus_1(frequencies, factor, kind):
    """With "ntk" the power is d_head/(d_head − 1): it is d_head/(d_head − 2), so that the slowest pair is divided by
    exactly the factor."""
    d = 2 * len(frequencies)
    return frequencies / factor if kind == "linear" else _larger_theta(frequencies, factor, d / (d - 1))


@stretch.mistake(hint=2)
def pairs_taken_for_d_head(frequencies, factor, kind):
    """With "ntk" the number of pairs is taken for d_head: there are d_head/2 frequencies."""
    half = len(frequencies)
    return frequencies / factor if kind == "linear" else _larger_theta(frequencies, factor, half / max(half - 2, 0.5))


@stretch.mistake(hint=3)
def ramp_ends_halfway(frequencies, factor, kind):
    """With "ntk" the exponents reach only 1/2, so the slowest pair is divided by the root of the factor: i/(h − 1) with
    h frequencies, which ends at 1."""
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-0.5 * torch.linspace(0, 1, len(frequencies)))


@stretch.mistake(hint=3)
def all_but_the_fastest(frequencies, factor, kind):
    """With "ntk" every pair but the first is divided by the whole factor: the divisors rise from pair to pair by equal
    ratios, from 1 to the factor."""
    if kind == "linear":
        return frequencies / factor
    return torch.cat((frequencies[:1], frequencies[1:] / factor))


@stretch.mistake(hint=3)
def only_the_slowest(frequencies, factor, kind):
    """With "ntk" only the last pair is divided by the factor: the divisors rise from pair to pair by equal ratios, from
    1 to the factor."""
    if kind == "linear":
        return frequencies / factor
    return torch.cat((frequencies[:-1], frequencies[-1:] / factor))


@stretch.mistake(hint=3)
def ends_joined_by_a_line(frequencies, factor, kind):
    """With "ntk" the frequencies fall in equal steps from the first to the last: they fall by equal ratios."""
    if kind == "linear":
        return frequencies / factor
    return torch.linspace(frequencies[0].item(), frequencies[-1].item() / factor, len(frequencies))


@stretch.mistake(hint=3)
def theta_of_ten_thousand(frequencies, factor, kind):
    """With "ntk" a theta of 10,000 is written into the code: `frequencies` may come from another one."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return _larger_theta(10_000.0 ** (-torch.arange(half) / half), factor, half / (half - 1))


@stretch.mistake(hint=3)
def fastest_stretched(frequencies, factor, kind):
    """With "ntk" the fastest pair is divided by the factor and the slowest is unchanged: it is the other way round."""
    return frequencies / factor if kind == "linear" else frequencies * factor ** -torch.linspace(1, 0, len(frequencies))


@stretch.mistake(hint=3)
def divisors_in_equal_steps(frequencies, factor, kind):
    """With "ntk" the divisors rise in equal steps from 1 to the factor: they rise by equal ratios, because they come
    from one larger theta."""
    if kind == "linear":
        return frequencies / factor
    return frequencies / (1 + (factor - 1) * torch.linspace(0, 1, len(frequencies)))


@stretch.mistake(hint=3)
def mixture_of_both_ends(frequencies, factor, kind):
    """With "ntk" this mixes unchanged and divided frequencies along a ramp, which is closer to YaRN: here all come
    from one larger theta."""
    if kind == "linear":
        return frequencies / factor
    ramp = torch.linspace(0, 1, len(frequencies))
    return frequencies * (1 - ramp) + frequencies / factor * ramp


@stretch.mistake(hint=3)
def ramp_to_two(frequencies, factor, kind):
    """With "ntk" the exponents reach 2, so the slowest pair is divided by the square of the factor: i/(h − 1), which
    ends at 1."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-2 * torch.arange(half) / (half - 1))


@stretch.mistake(hint=2)
def power_for_all(frequencies, factor, kind):
    """With "ntk" every pair is divided by the same power of the factor: only theta is multiplied by it, so the fastest
    pair is unchanged."""
    half = len(frequencies)
    d_head = 2 * half
    if kind == "linear":
        return frequencies / factor
    return frequencies / factor ** (d_head / (d_head - 2))


@stretch.mistake(hint=2)
def multiplied_by_the_power(frequencies, factor, kind):
    """With "ntk" the frequencies are multiplied by the power: it multiplies theta, and pair i is divided by
    factor^(i/(h − 1))."""
    half = len(frequencies)
    d_head = 2 * half
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (d_head / (d_head - 2))


@stretch.mistake(hint=2)
def theta_from_the_slowest(frequencies, factor, kind):
    """With "ntk" theta is taken for 1/(the slowest frequency), which is theta^((d_head − 2)/d_head): it is the power
    −h of the frequency of pair 1."""
    half = len(frequencies)
    d_head = 2 * half
    if kind == "linear":
        return frequencies / factor
    return ((1 / frequencies[-1]) * factor ** (d_head / (d_head - 2))) ** (-torch.arange(half) / half)


@stretch.mistake(hint=3)
def counted_from_one(frequencies, factor, kind):
    """With "ntk" the exponents are (i + 1)/h, so the fastest pair is slowed down, too: they are i/(h − 1)."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-(torch.arange(half) + 1) / half)


@stretch.mistake(hint=3)
def integer_division(frequencies, factor, kind):
    """With "ntk" a division of whole numbers, `//`, makes every exponent but the last 0: divide with `/`."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** -(torch.arange(half) // (half - 1))


@stretch.mistake(hint=3)
def divisors_alone(frequencies, factor, kind):
    """With "ntk" these are the divisors' inverses, factor^(−i/(h − 1)): multiply the frequencies by them."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return factor ** (-torch.arange(half) / (half - 1))


@stretch.mistake(hint=3)
def exponential_of_the_factor(frequencies, factor, kind):
    """With "ntk" this is exp(−ramp · factor): it is factor^(−ramp), or exp(−ramp · log(factor))."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * torch.exp(-torch.arange(half) / (half - 1) * factor)


@stretch.mistake(hint=3)
def ramp_subtracted(frequencies, factor, kind):
    """With "ntk" factor · ramp is subtracted: divide by factor^ramp."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies - factor * torch.arange(half) / (half - 1)


@stretch.mistake(hint=3)
def divided_by_the_ramp(frequencies, factor, kind):
    """With "ntk" the frequencies are divided by factor · ramp, which is 0 for the first pair: divide by factor^ramp."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies / (factor * torch.arange(half) / (half - 1))


@stretch.mistake(hint=3)
def power_of_the_frequency(frequencies, factor, kind):
    """With "ntk" the frequencies are raised to a power that does not contain the factor: multiply them by
    factor^(−ramp)."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies ** (1 + torch.arange(half) / (half - 1))


@stretch.mistake(hint=3)
def sixteen_pairs(frequencies, factor, kind):
    """With "ntk" the exponents are i/15, those of a head with 16 pairs: i/(h − 1) for h frequencies."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-torch.arange(half) / 15)


@stretch.mistake(hint=3)
def factor_of_four(frequencies, factor, kind):
    """With "ntk" a factor of 4 is written into the code: use the argument."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * 4.0 ** (-torch.arange(half) / (half - 1))


@stretch.mistake(hint=1)
def linear_by_four(frequencies, factor, kind):
    """With "linear" a factor of 4 is written into the code: use the argument."""
    return frequencies / 4 if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=1)
def linear_subtracted(frequencies, factor, kind):
    """With "linear" the factor is subtracted: divide by it."""
    return frequencies - factor if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=1)
def linear_power(frequencies, factor, kind):
    """With "linear" the frequencies are raised to the power of the factor: divide by it."""
    return frequencies**factor if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=1)
def linear_whole_numbers(frequencies, factor, kind):
    """With "linear" the division drops the fraction: use / instead of //."""
    return frequencies // factor if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=1)
def linear_squared(frequencies, factor, kind):
    """With "linear" the frequencies are divided by the square of the factor: divide once."""
    return frequencies / factor**2 if kind == "linear" else _ntk(frequencies, factor)


@stretch.mistake(hint=3)
def one_more_than_the_ramp(frequencies, factor, kind):
    """With "ntk" the divisors are 1 + factor · ramp: they are factor^ramp, from 1 to the factor."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies / (factor * torch.arange(half) / (half - 1) + 1)


@stretch.mistake(hint=3)
def power_of_the_pair(frequencies, factor, kind):
    """With "ntk" pair i is divided by factor^i: the exponent is i/(h − 1), which ends at 1."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies / factor ** torch.arange(half)


@stretch.mistake(hint=3)
def ramp_over_d_minus_1(frequencies, factor, kind):
    """With "ntk" the exponents are i/(d_head − 1): they are i/(h − 1), with h = d_head/2."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-torch.arange(half) / (2 * half - 1))


@stretch.mistake(hint=3)
def root_of_the_frequency(frequencies, factor, kind):
    """With "ntk" the frequencies are raised to the power 1/factor: multiply them by factor^(−ramp)."""
    if kind == "linear":
        return frequencies / factor
    return frequencies ** (1 / factor)


@stretch.mistake(hint=3)
def both_kinds_at_once(frequencies, factor, kind):
    """With "ntk" the frequencies are divided by the factor as well: the fastest pair is unchanged."""
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    return frequencies * factor ** (-torch.arange(half) / (half - 1)) / factor


@stretch.finished
def one_ratio_per_pair(frequencies, factor, kind):
    if kind == "linear":
        return frequencies / factor
    ramp = torch.arange(len(frequencies)) / (len(frequencies) - 1)
    return frequencies * factor**-ramp


@stretch.accepted
def frequencies_of_a_larger_theta(frequencies, factor, kind):
    half = len(frequencies)
    if kind == "linear":
        return frequencies / factor
    d_head, theta = 2 * half, (1 / frequencies[1]) ** half
    return (theta * factor ** (d_head / (d_head - 2))) ** (-torch.arange(0, d_head, 2) / d_head)


@stretch.accepted
def interpolated_logarithms(frequencies, factor, kind):
    if kind == "linear":
        return torch.stack([f / factor for f in frequencies])
    first, last = frequencies[0].log(), (frequencies[-1] / factor).log()
    return torch.exp(first + (last - first) * torch.linspace(0, 1, len(frequencies)))
