"""Exercise `expand_kv_heads`: a key/value head for every query head."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("expanded",), replaces="expand_kv_heads", sizes={"kv_heads": (2, 3, 4)},
          gradients=("x",), views=True)  # fmt: skip
def expand_kv_heads(
    x: Float[Tensor, "batch kv_heads keys d_head"], n_heads: int
) -> Float[Tensor, "batch heads keys d_head"]:
    """Query head h reads key/value head h // group, taken by its index."""
    group = n_heads // x.shape[1]
    return x.index_select(1, torch.tensor([h // group for h in range(n_heads)]))


@expand_kv_heads.values
def n_heads(rng, kv_heads):
    return kv_heads * (2 + int(torch.randint(4, (), generator=rng)))


@expand_kv_heads.inputs
def _(rng):
    for kv_heads, group in [(2, 3), (3, 2), (4, 3), (2, 4), (1, 6), (5, 1)]:
        yield torch.randn(2, kv_heads, 7, 8, generator=rng), kv_heads * group


def _right(x, n_heads):
    """Right, for the mistakes that go wrong elsewhere."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


@expand_kv_heads.mistake(hint=1)
def whole_row_repeated(x, n_heads):
    """The heads come as a b a b a b: query heads of one group are neighbors, a a a b b b."""
    return x.repeat(1, n_heads // x.shape[1], 1, 1)


@expand_kv_heads.mistake(hint=2)
def each_n_heads_times(x, n_heads):
    """Every head is repeated n_heads times: a group has n_heads / H_kv query heads."""
    return x.repeat_interleave(n_heads, dim=1)


@expand_kv_heads.mistake(hint=2)
def row_n_heads_times(x, n_heads):
    """The whole row of heads is repeated n_heads times: each head is needed n_heads / H_kv times, copies beside each
    other."""
    return x.repeat(1, n_heads, 1, 1)


@expand_kv_heads.mistake(hint=2)
def along_the_keys(x, n_heads):
    """The keys are repeated along the sequence, axis 2: heads are axis 1. Where a library has the axes (B, S, H_kv,
    d_head), axis 2 is the heads."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=2)


@expand_kv_heads.mistake(hint=2)
def keys_spread_over_heads(x, n_heads):
    """The shape is right, and positions are mixed: each key was repeated beside itself, and `reshape` then cut the
    sequence into heads."""
    batch, kv_heads, keys, d_head = x.shape
    return x.repeat_interleave(n_heads // kv_heads, dim=2).reshape(batch, n_heads, keys, d_head)


@expand_kv_heads.mistake(hint=2)
def along_the_batch(x, n_heads):
    """The texts are repeated, axis 0: heads are axis 1."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=0)


@expand_kv_heads.mistake(hint=2)
def along_the_width(x, n_heads):
    """The numbers of a head are repeated, the last axis: heads are axis 1."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=-1)


@expand_kv_heads.mistake(hint=2)
def flattened(x, n_heads):
    """The result has one axis: `repeat_interleave` without `dim` flattens the tensor first."""
    return x.repeat_interleave(n_heads // x.shape[1])


@expand_kv_heads.mistake(hint=1)
def first_head_for_all(x, n_heads):
    """Every query head gets the first key/value head: that is right only where there is a single one."""
    return x[:, :1].expand(-1, n_heads, -1, -1)


@expand_kv_heads.mistake(hint=1)
def groups_in_reverse(x, n_heads):
    """The groups are in reverse order: the first query heads read the first key/value head."""
    return _right(x.flip(1), n_heads)


@expand_kv_heads.mistake(hint=3)
def groups_as_an_axis(x, n_heads):
    """The result has five axes: merge H_kv and the group into one, in this order."""
    return x[:, :, None].expand(-1, -1, n_heads // x.shape[1], -1, -1)


@expand_kv_heads.mistake(hint=2)
def group_of_three(x, n_heads):
    """A group of three is written into the code: that is one model's. Here it is n_heads / H_kv."""
    return x.repeat_interleave(3, dim=1)


@expand_kv_heads.mistake(hint=2)
def two_kv_heads(x, n_heads):
    """Two key/value heads are written into the code: take H_kv from the shape of `x`."""
    return x.repeat_interleave(n_heads // 2, dim=1)


@expand_kv_heads.mistake(hint=2)
def group_upside_down(x, n_heads):
    """The group is H_kv // n_heads, which is 0 where there are fewer key/value heads: it is n_heads // H_kv."""
    return x.repeat_interleave(x.shape[1] // n_heads, dim=1)


@expand_kv_heads.mistake(hint=2)
def group_from_the_keys(x, n_heads):
    """The group is n_heads divided by axis 2, the number of keys: H_kv is axis 1."""
    return x.repeat_interleave(n_heads // x.shape[2], dim=1)


@expand_kv_heads.mistake(hint=1)
def zeros_for_the_others(x, n_heads):
    """Only the first H_kv query heads get keys, and the others zeros: every query head reads one."""
    missing = x.new_zeros(x.shape[0], n_heads - x.shape[1], *x.shape[2:])
    return torch.cat((x, missing), dim=1)


@expand_kv_heads.mistake(hint=1)
def last_head_for_the_others(x, n_heads):
    """The first H_kv query heads get a head each and all others the last one: each head serves a group of the same
    size."""
    last = x[:, -1:].expand(-1, n_heads - x.shape[1], -1, -1)
    return torch.cat((x, last), dim=1)


@expand_kv_heads.mistake(hint=2)
def heads_after_the_keys(x, n_heads):
    """Heads and keys are exchanged in the result: it is (B, n_heads, S, d_head)."""
    return _right(x, n_heads).transpose(1, 2)


@expand_kv_heads.mistake(hint=2)
def shared_out(x, n_heads):
    """The copies are divided by the size of the group: nothing is shared out, every query head reads the whole head."""
    return _right(x, n_heads) / (n_heads // x.shape[1])


@expand_kv_heads.mistake(hint=2)
def h_kv_times(x, n_heads):
    """Every head is repeated H_kv times: a group has n_heads / H_kv query heads."""
    return x.repeat_interleave(x.shape[1], dim=1)


@expand_kv_heads.mistake(hint=2)
def group_from_the_batch(x, n_heads):
    """The group is n_heads divided by axis 0, the number of texts: H_kv is axis 1."""
    return x.repeat_interleave(n_heads // x.shape[0], dim=1)


@expand_kv_heads.mistake(hint=2)
def six_query_heads(x, n_heads):
    """Six query heads are written into the code: take `n_heads`."""
    return x.repeat_interleave(6 // x.shape[1], dim=1)


@expand_kv_heads.mistake(hint=2)
def text_after_itself(x, n_heads):
    """The keys of a head follow each other several times, along axis 2: heads are axis 1."""
    return x.repeat(1, 1, n_heads // x.shape[1], 1)


@expand_kv_heads.mistake(hint=1)
def index_divided_by_kv_heads(x, n_heads):
    """Query head h reads key/value head h // H_kv: it is h // G, with G = n_heads / H_kv heads in a group."""
    return x[:, [h // x.shape[1] for h in range(n_heads)]]


@expand_kv_heads.mistake(hint=1)
def as_it_was(x, n_heads):
    """The heads come back as they were: each of the n_heads query heads needs one."""
    return x.clone()


@expand_kv_heads.mistake(hint=3)
def group_is_a_float(x, n_heads):
    """The group is a float, as `/` makes one: for a count write `//`."""
    return x.repeat_interleave(n_heads / x.shape[1], dim=1)


@expand_kv_heads.mistake(hint=2)
def expanded_from_one_head(x, n_heads):
    """Only an axis of size 1 can be expanded, so this runs with one key/value head alone: put an axis of size 1 behind
    the heads and merge the two, or call a function that repeats."""
    return x.expand(-1, n_heads, -1, -1)


@expand_kv_heads.finished
def repeated_one_by_one(x, n_heads):
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


@expand_kv_heads.accepted
def expanded_and_merged(x, n_heads):
    batch, kv_heads, keys, d_head = x.shape
    wide = x[:, :, None].expand(batch, kv_heads, n_heads // kv_heads, keys, d_head)
    return wide.reshape(batch, n_heads, keys, d_head)


@expand_kv_heads.accepted
def stacked_in_a_loop(x, n_heads):
    group = n_heads // x.shape[1]
    return torch.stack([x[:, h // group] for h in range(n_heads)], dim=1)


@expand_kv_heads.accepted
def taken_by_index(x, n_heads):
    return x[:, torch.arange(n_heads) // (n_heads // x.shape[1])]
