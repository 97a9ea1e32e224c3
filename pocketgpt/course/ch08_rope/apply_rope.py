"""Exercise `apply_rope`: rotate every pair of every head by its position's angle."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("rotated",), replaces="apply_rope", sizes={"d_head": (8,)}, gradients=("x",))
def apply_rope(
    x: Float[Tensor, "*batch seq d_head"],
    cos: Float[Tensor, "*#batch seq half"],
    sin: Float[Tensor, "*#batch seq half"],
) -> Float[Tensor, "*batch seq d_head"]:
    """Each pair (x[i], x[i + d_head/2]) as a complex number, times the complex number of its angle."""
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag), dim=-1)


@apply_rope.values
def x(rng, shape, half):
    return torch.randn(*shape[:-1], 2 * half, generator=rng)


@apply_rope.values
def cos(rng, shape):
    return (6.28 * torch.rand(shape, generator=rng)).cos()


@apply_rope.values
def sin(rng, cos):
    sign = 2.0 * torch.randint(2, cos.shape, generator=rng) - 1
    return sign * (1 - cos.square()).clamp_min(0).sqrt()


@apply_rope.inputs
def _(rng):
    for rows in (1, 2):  # as a model passes them: one axis for the texts, one of size 1 for the heads
        angles = 6.28 * torch.rand(rows, 1, 5, 3, generator=rng)
        yield torch.randn(2, 4, 5, 6, generator=rng), angles.cos(), angles.sin()
    turns = torch.arange(7.0)[:, None] * torch.tensor([1.0, 0.1, 0.01])
    yield torch.randn(2, 3, 7, 6, generator=rng), turns.cos(), turns.sin()


@apply_rope.mistake(hint=1)
def interleaved_pairs(x, cos, sin):
    """The pairs are neighbors here, (x[2i], x[2i + 1]): that is the interleaved layout, and this is the half-split one,
    (x[i], x[i + d_head/2])."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


@apply_rope.mistake(hint=2)
def angles_repeated_side_by_side(x, cos, sin):
    """The pairs are right and get each other's angles: `repeat_interleave` makes a table for interleaved pairs. For
    halves, the table is repeated as a whole, `torch.cat((cos, cos), dim=-1)`."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@apply_rope.mistake(hint=3)
def minus_missing(x, cos, sin):
    """The minus is missing: the new first half is first · cos − second · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def two_minuses(x, cos, sin):
    """Both halves have a minus: the new second half is second · cos + first · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos - first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def turned_backward(x, cos, sin):
    """The sign of sin is flipped: the pairs turn backward. The minus belongs to the first half, first · cos − second ·
    sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def sine_and_cosine_change_places_in_the_first_half(x, cos, sin):
    """In the first half sine and cosine have changed places: it is first · cos − second · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * sin - second * cos, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=1)
def cosine_of_the_cosine(x, cos, sin):
    """This takes the cosine and the sine once more: `cos` and `sin` are already those of the angles."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.cos(), sin.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=1)
def multiplied_by_the_table(x, cos, sin):
    """The first half is multiplied by cos and the second by sin: both halves of the result need both halves of x."""
    return x * torch.cat((cos, sin), dim=-1)


@apply_rope.mistake
def turned_twice(x, cos, sin):
    """Every pair is turned twice by its angle: once."""
    for _ in range(2):
        first, second = x.chunk(2, dim=-1)
        x = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return x


@apply_rope.mistake
def added_to_x(x, cos, sin):
    """The turned x is added to x: return it alone. A rotation changes no length."""
    first, second = x.chunk(2, dim=-1)
    return x + torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def cos_and_sin_exchanged(x, cos, sin):
    """The arguments cos and sin are exchanged: at position 0, where cos is 1 and sin is 0, nothing may turn."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * sin - second * cos, second * sin + first * cos), dim=-1)


@apply_rope.mistake(hint=2)
def first_half_overwritten(x, cos, sin):
    """The second half is made with the new first half: compute both from the old ones."""
    first, second = x.chunk(2, dim=-1)
    first = first * cos - second * sin
    return torch.cat((first, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=1)
def not_turned(x, cos, sin):
    """This is x as it was: turn each pair by its angle."""
    return x.clone()


@apply_rope.mistake(hint=1)
def coordinates_stay_alone(x, cos, sin):
    """Each coordinate is multiplied by cos + sin and meets no other: a rotation mixes the two of a pair."""
    return x * torch.cat((cos, cos), dim=-1) + x * torch.cat((sin, sin), dim=-1)


@apply_rope.mistake(hint=1)
def cosines_only(x, cos, sin):
    """The sines are missing: this shrinks each coordinate instead of turning the pair."""
    return x * torch.cat((cos, cos), dim=-1)


@apply_rope.mistake(hint=2)
def halves_exchanged(x, cos, sin):
    """The two halves of the result are exchanged."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((second * cos + first * sin, first * cos - second * sin), dim=-1)


@apply_rope.mistake(hint=2)
def returned_side_by_side(x, cos, sin):
    """The pairs are turned rightly and returned side by side: the two of a pair are half a head apart in the result,
    too."""
    first, second = x.chunk(2, dim=-1)
    return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)


@apply_rope.mistake(hint=1)
def neighbors_returned_in_halves(x, cos, sin):
    """Neighbors are turned and returned in halves: here the pairs are half a head apart in x as well."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat((even * cos - odd * sin, odd * cos + even * sin), dim=-1)


@apply_rope.mistake(hint=2)
def second_half_stays(x, cos, sin):
    """Only the first half is new: the second one turns as well, second · cos + first · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second), dim=-1)


@apply_rope.mistake(hint=1)
def all_at_the_first_position(x, cos, sin):
    """Every token is turned by the angles of the first: token t has row t of cos and sin."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[..., :1, :], sin[..., :1, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=1)
def angles_in_reverse(x, cos, sin):
    """The second half is paired from its end, (x[i], x[d_head − 1 − i]): the partner of x[i] is x[i + d_head/2]."""
    first, second = x.chunk(2, dim=-1)
    second = second.flip(-1)
    return torch.cat((first * cos - second * sin, (second * cos + first * sin).flip(-1)), dim=-1)


@apply_rope.mistake(hint=3)
def second_half_of_the_first(x, cos, sin):
    """In the second half the two parts of x have changed places: it is second · cos + first · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * cos + second * sin), dim=-1)


@apply_rope.mistake(hint=3)
def second_half_mirrored(x, cos, sin):
    """The second half is first · sin − second · cos, so each pair is mirrored, too: it is second · cos + first ·
    sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin - second * cos), dim=-1)


@apply_rope.mistake(hint=2)
def halves_of_x_exchanged(x, cos, sin):
    """The two halves of x have changed places: the first half of the result is first · cos − second · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((second * cos - first * sin, first * cos + second * sin), dim=-1)


@apply_rope.mistake(hint=3)
def each_half_alone(x, cos, sin):
    """Each half is multiplied by cos ∓ sin and meets no other: the first half needs `second` · sin, the second half
    `first` · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - first * sin, second * cos + second * sin), dim=-1)


@apply_rope.mistake(hint=2)
def second_half_overwritten(x, cos, sin):
    """The first half is made with the new second half: compute both from the old ones."""
    first, second = x.chunk(2, dim=-1)
    second = second * cos + first * sin
    return torch.cat((first * cos - second * sin, second), dim=-1)


@apply_rope.mistake(hint=2)
def first_half_stays(x, cos, sin):
    """Only the second half is new: the first one turns as well, first · cos − second · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def first_negated(x, cos, sin):
    """The first half has a minus too many: it is first · cos − second · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=3)
def signs_of_the_halves(x, cos, sin):
    """The halves are rotated without being exchanged, (first, −second): the part that is multiplied by sin is (−second,
    first)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + first * sin, second * cos - second * sin), dim=-1)


@apply_rope.mistake(hint=1)
def cosine_minus_sine(x, cos, sin):
    """Each coordinate is multiplied by cos − sin and meets no other: a rotation mixes the two of a pair."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * (cos - sin), second * (cos - sin)), dim=-1)


@apply_rope.mistake(hint=1)
def partner_from_the_other_end(x, cos, sin):
    """The part that is multiplied by sin is x in reverse order: it is (−second, first), the halves exchanged."""
    return x * torch.cat((cos, cos), dim=-1) + x.flip(-1) * torch.cat((sin, sin), dim=-1)


@apply_rope.mistake(hint=2)
def stacked(x, cos, sin):
    """The two halves are stacked on a new axis: `torch.cat` along the last axis gives (…, T, d_head) back."""
    first, second = x.chunk(2, dim=-1)
    return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=2)
def joined_along_the_tokens(x, cos, sin):
    """The halves are joined along the tokens: join them along the last axis, `dim=-1`."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-2)


@apply_rope.mistake(hint=2)
def halves_added(x, cos, sin):
    """The two halves are added: put one behind the other, with `torch.cat`."""
    first, second = x.chunk(2, dim=-1)
    return first * cos - second * sin + (second * cos + first * sin)


@apply_rope.mistake(hint=2)
def cut_along_the_tokens(x, cos, sin):
    """The tokens are cut into two halves: cut the last axis, `x.chunk(2, dim=-1)`."""
    first, second = x.chunk(2, dim=-2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-2)


@apply_rope.mistake(hint=2)
def first_row_of_the_table(x, cos, sin):
    """Only the angles of the first token (or text) are used, cos[0] and sin[0]: let all of them broadcast."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[0], sin[0]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(hint=1)
def sum_and_difference(x, cos, sin):
    """Sum and difference of the halves are multiplied by cos and sin: it is first · cos − second · sin, and second ·
    cos + first · sin."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat(((first - second) * cos, (first + second) * sin), dim=-1)


@apply_rope.mistake(hint=1)
def interleaved_and_backward(x, cos, sin):
    """The pairs are neighbors, and turn backward: they are half a head apart, and the minus belongs to the first
    half."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos + odd * sin, odd * cos - even * sin), dim=-1).flatten(-2)


@apply_rope.finished
def half_split(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.accepted
def rotate_half(x, cos, sin):
    half = x.shape[-1] // 2
    other = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * torch.cat((cos, cos), dim=-1) + other * torch.cat((sin, sin), dim=-1)


@apply_rope.accepted
def matrix_for_each_pair(x, cos, sin):
    pairs = torch.stack(x.chunk(2, dim=-1), dim=-1)  # (..., half, 2)
    matrices = torch.stack((torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)), -2)
    return (pairs[..., None, :] @ matrices)[..., 0, :].mT.flatten(-2)


@apply_rope.accepted
def written_into_a_copy(x, cos, sin):
    half, result = x.shape[-1] // 2, x.clone()
    result[..., :half] = x[..., :half] * cos - x[..., half:] * sin
    result[..., half:] = x[..., half:] * cos + x[..., :half] * sin
    return result


@apply_rope.accepted
def angles_added(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    angle = torch.atan2(second, first) + torch.atan2(sin, cos)
    length = torch.hypot(first, second)
    return torch.cat((length * angle.cos(), length * angle.sin()), dim=-1)
