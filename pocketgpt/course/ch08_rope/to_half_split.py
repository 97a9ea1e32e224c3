"""Exercise `to_half_split`: the rows of a projection from interleaved pairs to halves."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("weight",), sizes={"rows": (8,)}, choices={"n_heads": (2, 3, 1, 4)})
def to_half_split(weight: Float[Tensor, "rows d_model"], n_heads: int) -> Float[Tensor, "rows d_model"]:
    """Row h · d_head + 2i + part of the weight becomes row h · d_head + part · d_head/2 + i."""
    d_head = len(weight) // n_heads
    order = [h * d_head + 2 * i + part for h in range(n_heads) for part in (0, 1) for i in range(d_head // 2)]
    return weight[torch.tensor(order)]


@to_half_split.values
def weight(rng, shape, n_heads):
    half = (3, 5, 6)[int(torch.randint(3, (), generator=rng))]
    return torch.randn(n_heads * 2 * half, shape[1], generator=rng)


@to_half_split.inputs
def _(rng):
    yield torch.randn(12, 5, generator=rng), 2
    yield torch.randn(24, 24, generator=rng), 3  # square: rows and columns cannot be told apart by their number
    yield torch.randn(40, 16, generator=rng), 4


def _heads(weight, n_heads):
    return weight.unflatten(0, (n_heads, -1))


def _halves(weight, n_heads):
    """Right, for the mistakes that go wrong elsewhere."""
    heads = _heads(weight, n_heads)
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1)


@to_half_split.mistake(hint=1)
def nothing_permuted(weight, n_heads):
    """The rows are as they were: reorder them within each head."""
    return weight.clone()


@to_half_split.mistake(hint=1)
def permuted_twice(weight, n_heads):
    """The rows are permuted twice: even rows first, then odd ones, and that once."""
    return _halves(_halves(weight, n_heads), n_heads)


@to_half_split.mistake(hint=3)
def permuted_backward(weight, n_heads):
    """This is the inverse, from halves to interleaved pairs: rows 0, 2, 4, … of each head come first."""
    return _heads(weight, n_heads).unflatten(1, (2, -1)).transpose(1, 2).flatten(0, 2)


@to_half_split.mistake(hint=2)
def across_the_heads(weight, n_heads):
    """The even rows of the whole matrix come first, so heads get rows of each other: reorder within each head."""
    return torch.cat((weight[0::2], weight[1::2]))


@to_half_split.mistake(hint=2)
def columns_permuted(weight, n_heads):
    """The columns are reordered: the coordinates of q and k come out of the rows, (out, in)."""
    return torch.cat((weight[:, 0::2], weight[:, 1::2]), dim=1)


@to_half_split.mistake(hint=3)
def odd_rows_first(weight, n_heads):
    """The odd rows of each head come first: the first of each pair, the even row, belongs to the first half."""
    heads = _heads(weight, n_heads)
    return torch.cat((heads[:, 1::2], heads[:, 0::2]), dim=1).flatten(0, 1)


@to_half_split.mistake(hint=2)
def heads_last(weight, n_heads):
    """The rows are taken as (pairs, 2, heads): a head's rows are next to each other, (heads, pairs, 2)."""
    return weight.unflatten(0, (-1, 2, n_heads)).transpose(0, 1).flatten(0, 2)


@to_half_split.mistake(hint=1)
def heads_of_the_pocket_model(weight, n_heads):
    """The argument `n_heads` is not used: six query heads are one model's, and its keys have two."""
    return _halves(weight, 6)


@to_half_split.mistake
def only_the_first_head(weight, n_heads):
    """Only the first head is reordered: every head is."""
    d_head = len(weight) // n_heads
    return torch.cat((weight[:d_head][0::2], weight[:d_head][1::2], weight[d_head:]))


@to_half_split.mistake
def second_half_negated(weight, n_heads):
    """The second half is negated: a permutation changes no sign."""
    heads = _heads(weight, n_heads)
    return torch.cat((heads[:, 0::2], -heads[:, 1::2]), dim=1).flatten(0, 1)


@to_half_split.mistake
def transposed(weight, n_heads):
    """The result is transposed: it is (out, in), as the weight was."""
    return _halves(weight, n_heads).T.contiguous()


@to_half_split.mistake(hint=3)
def not_flattened(weight, n_heads):
    """The heads, pairs and halves still have axes of their own: flatten the first three, `.flatten(0, 2)`."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).contiguous()


@to_half_split.mistake(hint=3)
def heads_not_joined(weight, n_heads):
    """The heads still have an axis of their own: `.flatten(0, 1)` joins them."""
    return _halves(weight, n_heads).unflatten(0, (n_heads, -1))


@to_half_split.mistake(hint=2)
def pairs_before_heads(weight, n_heads):
    """The heads and the pairs have changed places: rows of different heads must not mix."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(0, 1).flatten(0, 2)


@to_half_split.mistake(hint=2)
def halves_before_heads(weight, n_heads):
    """The halves come before the heads: within each head come its even rows, then its odd ones."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(0, 2).flatten(0, 2)


@to_half_split.mistake(hint=2)
def columns_and_pairs_exchanged(weight, n_heads):
    """The last axis, d_model, is exchanged with the two of a pair: exchange pairs and the two, axes 1 and 2."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(2, 3).flatten(0, 2)


@to_half_split.mistake(hint=1)
def halves_exchanged(weight, n_heads):
    """The two halves of each head are exchanged, and the pairs stay neighbors: rows 0, 2, 4, … come first, then 1,
    3, …."""
    first, second = _heads(weight, n_heads).chunk(2, dim=1)
    return torch.cat((second, first), dim=1).flatten(0, 1)


@to_half_split.mistake(hint=1)
def reversed_rows(weight, n_heads):
    """The rows of each head are in reverse order: rows 0, 2, 4, … come first, then rows 1, 3, 5, …."""
    return _heads(weight, n_heads).flip(1).flatten(0, 1)


@to_half_split.mistake(hint=2)
def heads_split_evenly(weight, n_heads):
    """It is the heads that are taken in turns: take the rows in each head, `[:, 0::2]` and `[:, 1::2]`."""
    heads = _heads(weight, n_heads)
    return torch.cat((heads[0::2], heads[1::2])).flatten(0, 1)


@to_half_split.mistake(hint=3)
def even_rows_twice(weight, n_heads):
    """The even rows are there twice, and the odd ones are missing."""
    heads = _heads(weight, n_heads)
    return torch.cat((heads[:, 0::2], heads[:, 0::2]), dim=1).flatten(0, 1)


@to_half_split.mistake(hint=3)
def odd_rows_missing(weight, n_heads):
    """The odd rows are missing: they follow the even ones of their head."""
    return _heads(weight, n_heads)[:, 0::2].flatten(0, 1)


@to_half_split.mistake(hint=3)
def returned_after_the_first_head(weight, n_heads):
    """Only the first head is there: `return` stands inside the loop."""
    return _halves(weight, n_heads)[: len(weight) // n_heads]


@to_half_split.finished
def unflatten_and_transpose(weight, n_heads):
    pairs = weight.unflatten(0, (n_heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)


@to_half_split.accepted
def even_then_odd(weight, n_heads):
    return torch.cat([torch.cat((head[0::2], head[1::2])) for head in weight.chunk(n_heads)])


@to_half_split.accepted
def view_and_reshape(weight, n_heads):
    rows, d_model = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, d_model).transpose(1, 2).reshape(rows, d_model)
