"""Exercise `score_at`: the score of a query and a key at their positions."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("score",), tolerance=1e-3, sizes={"d_head": (8,)})
def score_at(
    q: Float[Tensor, " d_head"], k: Float[Tensor, " d_head"], m: int, n: int, frequencies: Float[Tensor, " half"]
) -> Float[Tensor, ""]:
    """The sum over the pairs of length of q times length of k times the cosine of the angle between them, which is
    the one they had plus (m − n) · frequency."""
    (q_first, q_second), (k_first, k_second) = q.chunk(2), k.chunk(2)
    between = torch.atan2(q_second, q_first) - torch.atan2(k_second, k_first)
    lengths = torch.hypot(q_first, q_second) * torch.hypot(k_first, k_second)
    return (lengths * torch.cos(between + (m - n) * frequencies)).sum()


@score_at.values
def q(rng, half):
    return torch.randn(2 * half, generator=rng)


@score_at.values
def k(rng, half):
    return torch.randn(2 * half, generator=rng)


@score_at.values
def m(rng):
    return int(torch.randint(2, 30, (), generator=rng))


@score_at.values
def n(rng, m):
    other = int(torch.randint(1, 30, (), generator=rng))
    return other + (other >= m)


@score_at.values
def frequencies(rng, shape):
    return 10 ** (-1.5 * torch.rand(shape, generator=rng)).sort().values.flip(0)


@score_at.inputs
def _(rng):
    fast_and_slow = torch.tensor([1.0, 0.25, 2**-7])  # times a position they are exact, so that no rounding decides
    q, k = torch.randn(2, 6, generator=rng)
    m = int(torch.randint(3, 9, (), generator=rng))
    yield q, k, m, m + 3, fast_and_slow  # the key is later
    yield q, k, m + 7, m, fast_and_slow
    yield q, k, m, m, fast_and_slow
    yield q, k, 200 + m, 150, fast_and_slow
    yield q, k, 5_000 + m, 5_000, fast_and_slow  # a table of angles has an end, a text may not


def _turn(x, position, frequencies):
    """Right, for the mistakes that go wrong elsewhere."""
    angles = position * frequencies
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@score_at.composed
def _(q, k, m, n, frequencies, *, apply_rope):
    turned_q, turned_k = (
        apply_rope(x[None], (p * frequencies).cos()[None], (p * frequencies).sin()[None]) for x, p in ((q, m), (k, n))
    )
    return (turned_q * turned_k).sum()


@score_at.mistake(hint=1)
def positions_added(q, k, m, n, frequencies):
    """One of the two turns backward, so the score depends on m + n: both turn forward, and the dot product leaves the
    difference."""
    return _turn(q, m, frequencies) @ _turn(k, -n, frequencies)


@score_at.mistake(hint=1)
def positions_exchanged(q, k, m, n, frequencies):
    """The query is turned by n and the key by m, or both turn backward: q is at position m, k at n."""
    return _turn(q, n, frequencies) @ _turn(k, m, frequencies)


@score_at.mistake(hint=2)
def positions_in_degrees(q, k, m, n, frequencies):
    """The angles are taken for degrees: position times frequency is in radians, as `cos` and `sin` expect."""
    return _turn(q, m, frequencies.deg2rad()) @ _turn(k, n, frequencies.deg2rad())


@score_at.mistake(hint=2)
def one_frequency_for_all(q, k, m, n, frequencies):
    """Every pair turns by the first frequency: pair i has its own."""
    return _turn(q, m, frequencies[0]) @ _turn(k, n, frequencies[0])


@score_at.mistake(hint=2)
def frequencies_not_used(q, k, m, n, frequencies):
    """The frequencies are not used, so every pair turns by one radian per token: the angle is position times
    frequency."""
    ones = torch.ones_like(frequencies)
    return _turn(q, m, ones) @ _turn(k, n, ones)


@score_at.mistake(hint=2)
def positions_divided_by_the_frequencies(q, k, m, n, frequencies):
    """The positions are divided by the frequencies: the angle is position times frequency."""
    return _turn(q, m, 1 / frequencies) @ _turn(k, n, 1 / frequencies)


@score_at.mistake(hint=1)
def no_later_keys(q, k, m, n, frequencies):
    """A key that comes after the query is scored as if it stood beside it: the distance m − n may be negative."""
    return _turn(q, max(m - n, 0), frequencies) @ k


@score_at.mistake(hint=1)
def positions_not_used(q, k, m, n, frequencies):
    """This is the score without positions, or with both at the same one: turn q by m and k by n."""
    return (q * k).sum()


@score_at.mistake(hint=1)
def only_the_query_turned(q, k, m, n, frequencies):
    """Only the query is turned: the key is at position n."""
    return _turn(q, m, frequencies) @ k


@score_at.mistake(hint=1)
def only_the_key_turned(q, k, m, n, frequencies):
    """Only the key is turned: the query is at position m."""
    return q @ _turn(k, n, frequencies)


@score_at.mistake
def score_scaled(q, k, m, n, frequencies):
    """The score is divided by √d_head: here it is the bare dot product. The rotation changes no length, so scaling is
    left to attention."""
    return _turn(q, m, frequencies) @ _turn(k, n, frequencies) / q.shape[-1] ** 0.5


@score_at.mistake(hint=2)
def neighbors_paired(q, k, m, n, frequencies):
    """The pairs are neighbors here, (x[2i], x[2i + 1]): in the half-split layout they are (x[i], x[i + d_head/2])."""
    q, k = (torch.cat((x[0::2], x[1::2])) for x in (q, k))
    return _turn(q, m, frequencies) @ _turn(k, n, frequencies)


@score_at.mistake(hint=1)
def distance_without_a_sign(q, k, m, n, frequencies):
    """The distance has lost its sign: a key before the query and one as far behind it have different scores."""
    return _turn(q, abs(m - n), frequencies) @ k


@score_at.mistake(hint=3)
def cosine_alone(q, k, m, n, frequencies):
    """Each product is multiplied by the cosine of the distance's angle: that is half of the rotation. The sine brings
    in the products of one coordinate of a pair with the other."""
    return (q * k * torch.cat([((m - n) * frequencies).cos()] * 2)).sum()


@score_at.mistake
def not_summed(q, k, m, n, frequencies):
    """These are the products, one for each coordinate: add them up."""
    return _turn(q, m, frequencies) * _turn(k, n, frequencies)


@score_at.mistake
def averaged(q, k, m, n, frequencies):
    """This is the mean of the products: a dot product is their sum."""
    return (_turn(q, m, frequencies) * _turn(k, n, frequencies)).mean()


@score_at.mistake
def cosine_similarity(q, k, m, n, frequencies):
    """This is divided by the lengths of q and k: the score is the dot product."""
    return torch.cosine_similarity(_turn(q, m, frequencies), _turn(k, n, frequencies), dim=0)


def _turned(x, position, frequencies, form):
    """A pair becomes what form(first, second, cos, sin) makes of it."""
    angles = position * frequencies
    return torch.cat(form(*x.chunk(2), angles.cos(), angles.sin()))


@score_at.mistake
def minus_missing(q, k, m, n, frequencies):
    """The minus of the rotation is missing: the first half is first · cos − second · sin, the second one second · cos +
    first · sin."""
    q, k = (_turned(x, p, frequencies, _no_minus) for x, p in ((q, m), (k, n)))
    return q @ k


def _no_minus(first, second, cos, sin):
    return first * cos + second * sin, second * cos + first * sin


@score_at.mistake
def one_minus_too_many(q, k, m, n, frequencies):
    """The second half of the rotation has a minus: it is second · cos + first · sin."""
    q, k = (_turned(x, p, frequencies, _two_minuses) for x, p in ((q, m), (k, n)))
    return q @ k


def _two_minuses(first, second, cos, sin):
    return first * cos - second * sin, second * cos - first * sin


@score_at.mistake
def vectors_added(q, k, m, n, frequencies):
    """The two vectors are added: the score is the sum of their products."""
    return (_turn(q, m, frequencies) + _turn(k, n, frequencies)).sum()


@score_at.mistake
def distance_of_the_vectors(q, k, m, n, frequencies):
    """This is the distance of the two vectors: the score is their dot product."""
    return (_turn(q, m, frequencies) - _turn(k, n, frequencies)).norm()


@score_at.mistake(hint=2)
def angles_for_cosines(q, k, m, n, frequencies):
    """The angles themselves are passed for `cos` and `sin`: take the cosine and the sine of m · frequencies."""
    (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
    a, b = m * frequencies, n * frequencies
    return torch.cat((q1 * a - q2 * a, q2 * a + q1 * a)) @ torch.cat((k1 * b - k2 * b, k2 * b + k1 * b))


@score_at.mistake(hint=2)
def position_times_cosine(q, k, m, n, frequencies):
    """The position is multiplied by the cosine and the sine of the frequency: multiply first, cos(m · frequencies)."""
    return m * n * (_turn(q, 1, frequencies) @ _turn(k, 1, frequencies))


@score_at.mistake(hint=2)
def turned_into_degrees(q, k, m, n, frequencies):
    """The frequencies are converted to degrees: `cos` and `sin` take radians, as they are."""
    return _turn(q, m, frequencies.rad2deg()) @ _turn(k, n, frequencies.rad2deg())


@score_at.mistake(hint=2)
def frequencies_of_its_own(q, k, m, n, frequencies):
    """The frequencies are made anew, with a theta of 10,000: use the argument."""
    own = 10_000.0 ** (-torch.arange(0, len(q), 2) / len(q))
    return _turn(q, m, own) @ _turn(k, n, own)


@score_at.mistake
def sign_lost_across(q, k, m, n, frequencies):
    """The products across have one sign: q[i] · k[i + h] and q[i + h] · k[i] are subtracted."""
    (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
    angle = (m - n) * frequencies
    return ((q1 * k1 + q2 * k2) * angle.cos() + (q1 * k2 + q2 * k1) * angle.sin()).sum()


@score_at.mistake
def an_axis_kept(q, k, m, n, frequencies):
    """The score still has axes of size 1: it is a tensor without axes, as `.sum()` of all products gives."""
    return (_turn(q, m, frequencies) @ _turn(k, n, frequencies))[None, None]


@score_at.mistake
def products_in_a_row(q, k, m, n, frequencies):
    """These are the products, one for each coordinate, with an axis in front: add all of them up."""
    return (_turn(q, m, frequencies) * _turn(k, n, frequencies))[None]


@score_at.finished
def both_turned(q, k, m, n, frequencies):
    rotated = []
    for x, position in ((q, m), (k, n)):
        first, second = x.chunk(2)
        cos, sin = (position * frequencies).cos(), (position * frequencies).sin()
        rotated.append(torch.cat((first * cos - second * sin, second * cos + first * sin)))
    return rotated[0] @ rotated[1]


@score_at.accepted
def query_turned_by_the_distance(q, k, m, n, frequencies):
    return _turn(q, m - n, frequencies) @ k


@score_at.accepted
def complex_numbers(q, k, m, n, frequencies):
    q, k = (torch.complex(*x.chunk(2)) for x in (q, k))
    return (q * k.conj() * torch.exp(1j * (m - n) * frequencies)).real.sum()


@score_at.accepted
def pair_by_pair(q, k, m, n, frequencies):
    total, half = torch.tensor(0.0), len(frequencies)
    for i, angle in enumerate(((m - n) * frequencies).unbind()):
        along = q[i] * k[i] + q[i + half] * k[i + half]
        across = q[i] * k[i + half] - q[i + half] * k[i]
        total = total + along * torch.cos(angle) + across * torch.sin(angle)
    return total
