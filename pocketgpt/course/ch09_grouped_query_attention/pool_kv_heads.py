"""Exercise `pool_kv_heads`: a key or value projection with fewer heads, by averaging neighbors."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("weight",),
    sizes={"rows": (8,)},
    choices={"n_kv_heads": (2, 3, 4, 2), "d_head": (5, 4, 3, 6)},
)
def pool_kv_heads(
    weight: Float[Tensor, "rows d_model"], n_kv_heads: int, d_head: int
) -> Float[Tensor, "fewer_rows d_model"]:
    """A product with the matrix that takes means: 1/G where a row of a group's head meets the same row of the group."""
    group = weight.shape[0] // (n_kv_heads * d_head)
    heads = torch.kron(torch.eye(n_kv_heads), torch.ones(1, group) / group)
    return torch.kron(heads, torch.eye(d_head)).to(weight.dtype) @ weight


@pool_kv_heads.values
def weight(rng, shape, n_kv_heads, d_head):
    group = (3, 4, 5)[int(torch.randint(3, (), generator=rng))]
    return torch.randn(n_kv_heads * group * d_head, shape[1], generator=rng)


@pool_kv_heads.inputs
def _(rng):
    yield torch.randn(24, 24, generator=rng), 2, 4  # square: rows and columns cannot be told apart by their number
    yield torch.randn(48, 48, generator=rng), 4, 6
    yield torch.randn(30, 7, generator=rng), 1, 5
    yield torch.randn(36, 5, generator=rng), 3, 2


def _grouped(weight, n_kv_heads, d_head):
    """(n_kv_heads, group, d_head, d_model)"""
    return weight.unflatten(0, (n_kv_heads, -1, d_head))


def _pooled(weight, n_kv_heads, d_head):
    """Right, for the mistakes that go wrong elsewhere."""
    return _grouped(weight, n_kv_heads, d_head).mean(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=1)
def far_apart(weight, n_kv_heads, d_head):
    """Heads far apart are averaged, 0 with 2 and 4: those of one group are neighbors, 0 with 1 and 2."""
    return weight.unflatten(0, (-1, n_kv_heads, d_head)).mean(0).flatten(0, 1)


@pool_kv_heads.mistake(hint=3)
def summed(weight, n_kv_heads, d_head):
    """The heads of a group are summed: take their mean."""
    return _grouped(weight, n_kv_heads, d_head).sum(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=3)
def divided_by_the_number_of_groups(weight, n_kv_heads, d_head):
    """The sum of a group is divided by n_kv_heads: divide by the heads in a group."""
    return _grouped(weight, n_kv_heads, d_head).sum(1).flatten(0, 1) / n_kv_heads


@pool_kv_heads.mistake(hint=3)
def divided_by_the_root(weight, n_kv_heads, d_head):
    """The sum of a group is divided by the root of its size, which keeps the size of random numbers: the mean divides
    by the size itself."""
    heads = _grouped(weight, n_kv_heads, d_head)
    return heads.sum(1).flatten(0, 1) / heads.shape[1] ** 0.5


@pool_kv_heads.mistake(hint=2)
def neighboring_rows(weight, n_kv_heads, d_head):
    """Neighboring rows are averaged, which are coordinates of one head: average the same coordinate of neighboring
    heads."""
    return weight.unflatten(0, (n_kv_heads * d_head, -1)).mean(1)


@pool_kv_heads.mistake(hint=1)
def first_of_each_group(weight, n_kv_heads, d_head):
    """The first head of each group is kept, and the others are dropped: take their mean."""
    return _grouped(weight, n_kv_heads, d_head)[:, 0].flatten(0, 1).clone()


@pool_kv_heads.mistake(hint=1)
def last_of_each_group(weight, n_kv_heads, d_head):
    """The last head of each group is kept, and the others are dropped: take their mean."""
    return _grouped(weight, n_kv_heads, d_head)[:, -1].flatten(0, 1).clone()


@pool_kv_heads.mistake(hint=1)
def first_heads(weight, n_kv_heads, d_head):
    """The first n_kv_heads heads are kept, and all others are dropped: each new head is the mean of a group."""
    return weight[: n_kv_heads * d_head].clone()


@pool_kv_heads.mistake(hint=2)
def every_so_many_rows(weight, n_kv_heads, d_head):
    """Every G-th row is kept: that takes single coordinates out of each head. Average whole heads."""
    return weight[:: len(weight) // (n_kv_heads * d_head)].clone()


@pool_kv_heads.mistake(hint=2)
def over_the_coordinates(weight, n_kv_heads, d_head):
    """The mean runs over the d_head rows of each head: it runs over the heads of a group."""
    return _grouped(weight, n_kv_heads, d_head).mean(2).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def over_the_groups(weight, n_kv_heads, d_head):
    """The mean runs over the groups: it runs over the heads within each group."""
    return _grouped(weight, n_kv_heads, d_head).mean(0).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def sizes_exchanged(weight, n_kv_heads, d_head):
    """The sizes n_kv_heads and d_head are exchanged: the rows are (n_kv_heads, G, d_head)."""
    return _pooled(weight, d_head, n_kv_heads)


@pool_kv_heads.mistake(hint=1)
def same_mean_for_all(weight, n_kv_heads, d_head):
    """All heads are averaged into one, which is then repeated: every group has a mean of its own."""
    return weight.unflatten(0, (-1, d_head)).mean(0).repeat(n_kv_heads, 1)


@pool_kv_heads.mistake(hint=2)
def heads_replaced_by_their_mean(weight, n_kv_heads, d_head):
    """The means stand in place of every head, so that there are as many rows as before: each is needed once."""
    heads = _grouped(weight, n_kv_heads, d_head)
    return heads.mean(1, keepdim=True).expand_as(heads).flatten(0, 2)


@pool_kv_heads.mistake(hint=2)
def columns_averaged(weight, n_kv_heads, d_head):
    """The columns are averaged: the numbers of a key come out of the rows, (out, in)."""
    group = len(weight) // (n_kv_heads * d_head)
    return weight.T[: len(weight.T) // group * group].unflatten(0, (-1, group)).mean(1).T.contiguous()


@pool_kv_heads.mistake(hint=3)
def heads_left_as_an_axis(weight, n_kv_heads, d_head):
    """The result still has the heads as an axis: a weight is (n_kv_heads · d_head, d_model)."""
    return _grouped(weight, n_kv_heads, d_head).mean(1)


@pool_kv_heads.mistake(hint=3)
def transposed(weight, n_kv_heads, d_head):
    """The result is transposed: it is (out, in), as the weight was."""
    return _pooled(weight, n_kv_heads, d_head).T.contiguous()


@pool_kv_heads.mistake(hint=3)
def median(weight, n_kv_heads, d_head):
    """This is the median of a group: take the mean."""
    return _grouped(weight, n_kv_heads, d_head).median(1).values.flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def groups_of_three(weight, n_kv_heads, d_head):
    """A group of three is written into the code: its size follows from the rows, n_kv_heads and d_head."""
    return weight.unflatten(0, (-1, 3, d_head)).mean(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def heads_of_the_pocket_model(weight, n_kv_heads, d_head):
    """A d_head of 32 is written into the code: take the argument."""
    return _pooled(weight, n_kv_heads, 32)


def _windows(weight, n_kv_heads, d_head, first, last):
    """The means of the heads first(j, G), …, last(j, G) - 1 for each new head j."""
    heads = weight.unflatten(0, (-1, d_head))
    group = len(heads) // n_kv_heads
    return torch.cat([heads[first(j, group) : last(j, group)].mean(0) for j in range(n_kv_heads)])


@pool_kv_heads.mistake(hint=1)
def overlapping(weight, n_kv_heads, d_head):
    """The groups overlap: group j begins at head j · G, not at head j."""
    return _windows(weight, n_kv_heads, d_head, lambda j, group: j, lambda j, group: j + group)


@pool_kv_heads.mistake(hint=2)
def one_head_too_few(weight, n_kv_heads, d_head):
    """The last head of each group is left out: the end of a slice does not count."""
    return _windows(weight, n_kv_heads, d_head, lambda j, group: j * group, lambda j, group: (j + 1) * group - 1)


@pool_kv_heads.mistake(hint=2)
def as_many_heads_as_groups(weight, n_kv_heads, d_head):
    """Each group has n_kv_heads heads here: that is the number of groups, and a group has G."""
    return _windows(weight, n_kv_heads, d_head, lambda j, group: j * n_kv_heads, lambda j, group: (j + 1) * n_kv_heads)


@pool_kv_heads.mistake(hint=1)
def first_and_last(weight, n_kv_heads, d_head):
    """Only the first and the last head of each group are averaged: take all of them."""
    heads = _grouped(weight, n_kv_heads, d_head)
    return (heads[:, 0] + heads[:, -1]).flatten(0, 1) / 2


@pool_kv_heads.mistake(hint=1)
def groups_in_reverse(weight, n_kv_heads, d_head):
    """The groups are in reverse order: new head 0 is the mean of the first G heads."""
    return _grouped(weight, n_kv_heads, d_head).flip(0).mean(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def three_in_a_group(weight, n_kv_heads, d_head):
    """Three heads in a group are written into the code: let −1 stand for G."""
    return weight.unflatten(0, (n_kv_heads, 3, d_head)).mean(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def two_in_a_group(weight, n_kv_heads, d_head):
    """Two heads in a group are written into the code: let −1 stand for G."""
    return weight.unflatten(0, (n_kv_heads, 2, d_head)).mean(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=2)
def coordinates_first(weight, n_kv_heads, d_head):
    """The rows are cut with the coordinates in front: they lie head after head, (n_kv_heads, G, d_head)."""
    return weight.unflatten(0, (d_head, n_kv_heads, -1)).mean(2).transpose(0, 1).flatten(0, 1)


@pool_kv_heads.mistake(hint=3)
def heads_beside_each_other(weight, n_kv_heads, d_head):
    """The new heads are put beside each other, along axis 1: their rows follow each other, along axis 0."""
    return torch.cat(tuple(_grouped(weight, n_kv_heads, d_head).mean(1)), dim=1)


@pool_kv_heads.mistake(hint=3)
def largest(weight, n_kv_heads, d_head):
    """This is the largest of a group: take the mean."""
    return _grouped(weight, n_kv_heads, d_head).amax(1).flatten(0, 1)


@pool_kv_heads.mistake(hint=3)
def merged_in_the_wrong_order(weight, n_kv_heads, d_head):
    """Heads and coordinates are exchanged before they are merged: the rows of a head stay together."""
    return _grouped(weight, n_kv_heads, d_head).mean(1).transpose(0, 1).flatten(0, 1)


@pool_kv_heads.finished
def mean_over_the_group(weight, n_kv_heads, d_head):
    groups = weight.unflatten(0, (n_kv_heads, -1, d_head))
    return groups.mean(dim=1).flatten(0, 1)


@pool_kv_heads.accepted
def without_gradients(weight, n_kv_heads, d_head):
    with torch.no_grad():
        return weight.unflatten(0, (n_kv_heads, -1, d_head)).mean(1).flatten(0, 1)


@pool_kv_heads.accepted
def group_by_group(weight, n_kv_heads, d_head):
    pooled = []
    for group in weight.chunk(n_kv_heads):
        heads = group.split(d_head)
        pooled.append(sum(heads) / len(heads))
    return torch.cat(pooled)


@pool_kv_heads.accepted
def viewed_and_summed(weight, n_kv_heads, d_head):
    rows, d_model = weight.shape
    group = rows // (n_kv_heads * d_head)
    heads = weight.reshape(n_kv_heads, group, d_head, d_model)
    return torch.einsum("hgdm->hdm", heads).reshape(-1, d_model) / group
