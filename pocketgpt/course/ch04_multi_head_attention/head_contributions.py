"""Exercise `head_contributions`: the part of the output that each head writes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("contributions",), gradients=("heads", "o_weight"))
def head_contributions(
    heads: Float[Tensor, "batch heads seq d_head"], o_weight: Float[Tensor, "d_model width"]
) -> Float[Tensor, "batch heads seq d_model"]:
    """o_proj of the merged heads, once for each head, with all other heads set to zero."""
    batch, n_heads, seq, d_head = heads.shape
    contributions = []
    for h in range(n_heads):
        merged = heads.new_zeros(batch, seq, n_heads * d_head)
        merged[..., h * d_head : (h + 1) * d_head] = heads[:, h]
        contributions.append(F.linear(merged, o_weight))
    return torch.stack(contributions, dim=1)


@head_contributions.values
def o_weight(rng, heads):
    width = heads.shape[1] * heads.shape[3]
    return torch.randn(width, width, generator=rng)


@head_contributions.inputs
def _(rng):
    for batch, n_heads, seq, d_head, d_model in [(2, 3, 5, 4, 12), (3, 2, 4, 3, 12), (2, 1, 3, 1, 1)]:
        heads = torch.randn(batch, n_heads, seq, d_head, generator=rng)
        yield heads, torch.randn(d_model, n_heads * d_head, generator=rng)


def _parts(heads, o_weight):
    """The columns of each head: (d_model, heads, d_head)."""
    return o_weight.unflatten(-1, (heads.shape[1], heads.shape[3]))


def _right(heads, o_weight):
    """Right, for the mistakes that go wrong elsewhere."""
    return torch.einsum("bhtc,mhc->bhtm", heads, _parts(heads, o_weight))


@head_contributions.mistake(hint=1)
def rows_instead_of_columns(heads, o_weight):
    """This cuts the rows of o_weight, and a row belongs to a number of the output. Columns belong to the numbers of the
    merged heads: head h owns those from h · d_head on."""
    d_head = heads.shape[-1]
    cut = [o_weight[h * d_head : (h + 1) * d_head] for h in range(heads.shape[1])]
    return torch.stack([heads[:, h] @ rows for h, rows in enumerate(cut)], dim=1)


@head_contributions.mistake(hint=1)
def every_nth_column(heads, o_weight):
    """Each head gets every H-th column: the columns of a head are neighbors, as its numbers are in the merge."""
    n_heads = heads.shape[1]
    return torch.stack([heads[:, h] @ o_weight[:, h::n_heads].T for h in range(n_heads)], dim=1)


@head_contributions.mistake(hint=1)
def columns_of_the_first_head(heads, o_weight):
    """Every head uses the columns of head 0: head h owns those from h · d_head to (h + 1) · d_head."""
    return heads @ o_weight[:, : heads.shape[-1]].T


@head_contributions.mistake(hint=2)
def product_transposed(heads, o_weight):
    """The last two axes are exchanged: the result has a row for each token, (B, heads, T, d_model)."""
    return _right(heads, o_weight).mT


@head_contributions.mistake(hint=1)
def whole_layer_for_each_head(heads, o_weight):
    """Each "contribution" is the whole layer's output: leave out the other heads, that is, use the columns of one
    head."""
    return F.linear(heads.transpose(1, 2).flatten(2), o_weight)[:, None].repeat(1, heads.shape[1], 1, 1)


@head_contributions.mistake(hint=1)
def all_others(heads, o_weight):
    """This is what all others add: the layer's output without the head. Return what the head alone adds."""
    each = _right(heads, o_weight)
    return each.sum(dim=1, keepdim=True) - each


@head_contributions.mistake(hint=1)
def added_up(heads, o_weight):
    """The contributions are added up, which gives the layer's output: keep one for each head."""
    return _right(heads, o_weight).sum(dim=1)


@head_contributions.mistake(hint=1)
def shared_among_the_heads(heads, o_weight):
    """Each contribution is divided by the number of heads: they are added up in the layer, not averaged."""
    return _right(heads, o_weight) / heads.shape[1]


@head_contributions.mistake(hint=1)
def heads_averaged_first(heads, o_weight):
    """The heads are averaged before the projection: each has numbers of its own, which meet columns of its own."""
    return _right(heads.mean(dim=1, keepdim=True).expand_as(heads), o_weight)


@head_contributions.mistake(hint=2)
def heads_behind_tokens(heads, o_weight):
    """The heads stand behind the tokens: the order is (B, heads, T, d_model)."""
    return _right(heads, o_weight).transpose(1, 2)


@head_contributions.mistake(hint=2)
def lengths_only(heads, o_weight):
    """These are the lengths of the contributions: return the vectors, (B, heads, T, d_model)."""
    return _right(heads, o_weight).norm(dim=-1)


@head_contributions.mistake(hint=1)
def running_sums(heads, o_weight):
    """These are running sums, the contributions of all heads up to h: return those of head h alone."""
    return _right(heads, o_weight).cumsum(dim=1)


@head_contributions.mistake(hint=1)
def weight_viewed_as_rows(heads, o_weight):
    """With `view(H, d_head, …)` you cut the rows of o_weight, which belong to numbers of the output: head h owns
    columns, those from h · d_head on."""
    return heads @ o_weight.reshape(heads.shape[1], heads.shape[-1], -1)


@head_contributions.mistake(hint=1)
def weight_in_chunks_of_rows(heads, o_weight):
    """With `chunk(H, 0)` you cut the rows of o_weight, which belong to numbers of the output: head h owns
    columns, so cut along axis 1."""
    parts = o_weight.chunk(heads.shape[1], 0)
    return torch.stack([h @ w for h, w in zip(heads.unbind(1), parts, strict=False)], 1)


@head_contributions.mistake(hint=1)
def weight_viewed_and_turned(heads, o_weight):
    """With `view(H, …, d_head)` you cut the numbers of o_weight in the order of memory, so that a head gets pieces of
    all columns: unflatten the last axis alone, as (H, d_head)."""
    return heads @ o_weight.reshape(heads.shape[1], -1, heads.shape[-1]).mT


@head_contributions.mistake(hint=2)
def slices_begin_at_the_head(heads, o_weight):
    """The slice of head h begins at column h, so that neighbors overlap: it begins at h · d_head."""
    d_head = heads.shape[-1]
    return torch.stack([heads[:, h] @ o_weight[:, h : h + d_head].T for h in range(heads.shape[1])], 1)


@head_contributions.mistake(hint=1)
def columns_in_reverse(heads, o_weight):
    """The heads meet each other's columns, the first those of the last: head h owns the columns from h · d_head on."""
    return torch.einsum("bhtc,mhc->bhtm", heads, _parts(heads, o_weight).flip(1))


@head_contributions.mistake(hint=1)
def columns_of_all_heads_added(heads, o_weight):
    """Each head meets the columns of all heads, added up: in the `einsum` the columns need the head's own letter."""
    return torch.einsum("bhtc,mkc->bhtm", heads, _parts(heads, o_weight))


@head_contributions.mistake(hint=2)
def stacked_in_front(heads, o_weight):
    """The heads come before the batch: stack along axis 1, (B, heads, T, d_model)."""
    return _right(heads, o_weight).transpose(0, 1)


@head_contributions.mistake(hint=2)
def joined_along_the_tokens(heads, o_weight):
    """The contributions are joined along the tokens: `torch.stack(…, dim=1)` makes an axis for the heads, `cat` does
    not."""
    return _right(heads, o_weight).flatten(1, 2)


@head_contributions.mistake(hint=3)
def first_head_alone(heads, o_weight):
    """This is what the first head adds, and nothing else: `return` may stand inside the loop."""
    return _right(heads, o_weight)[:, 0]


@head_contributions.mistake(hint=1)
def layer_in_equal_shares(heads, o_weight):
    """Each head gets an equal share of the layer's output: what a head adds comes from its own numbers and columns."""
    return whole_layer_for_each_head(heads, o_weight) / heads.shape[1]


@head_contributions.mistake(hint=1)
def layer_in_the_first_head(heads, o_weight):
    """Head 0 gets the whole output of the layer and the others nothing: each adds what its own columns give."""
    whole = _right(heads, o_weight).sum(dim=1)
    return torch.stack([whole] + [torch.zeros_like(whole)] * (heads.shape[1] - 1), dim=1)


@head_contributions.mistake(hint=1)
def output_split_into_heads(heads, o_weight):
    """This splits the output into heads: o_proj has mixed them, so a piece of the output belongs to no head. Cut
    o_weight, before the sum."""
    return _right(heads, o_weight).sum(dim=1).unflatten(-1, (heads.shape[1], -1)).transpose(1, 2)


@head_contributions.mistake(hint=2)
def columns_not_transposed(heads, o_weight):
    """The columns of a head are (d_model, d_head), and its rows have d_head numbers: transpose the columns."""
    d_head = heads.shape[-1]
    parts = [o_weight[:, h * d_head : (h + 1) * d_head] for h in range(heads.shape[1])]
    return torch.stack([heads[:, h] @ part for h, part in enumerate(parts)], dim=1)


@head_contributions.mistake(hint=1)
def rows_transposed(heads, o_weight):
    """This cuts rows of o_weight, `o_weight[a:b]`: columns are `o_weight[:, a:b]`."""
    d_head = heads.shape[-1]
    parts = [o_weight[h * d_head : (h + 1) * d_head].T for h in range(heads.shape[1])]
    return torch.stack([heads[:, h] @ part for h, part in enumerate(parts)], dim=1)


@head_contributions.mistake(hint=2)
def width_of_a_head_from_the_output(heads, o_weight):
    """The width of a head is made from d_model, the rows of o_weight: it is `heads.shape[-1]`, and the columns are
    H · d_head, which may be another number."""
    d_head = o_weight.shape[0] // heads.shape[1]
    parts = [o_weight[:, h * d_head : (h + 1) * d_head].T for h in range(heads.shape[1])]
    return torch.stack([heads[:, h] @ part for h, part in enumerate(parts)], dim=1)


@head_contributions.mistake(hint=2)
def loop_over_the_tokens(heads, o_weight):
    """The axes are taken in another order: `heads` is (B, H, T, d_head), so head h is `heads[:, h]`."""
    d_head = heads.shape[-1]
    parts = [o_weight[:, h * d_head : (h + 1) * d_head].T for h in range(heads.shape[1])]
    return torch.stack([heads[:, :, h] @ part for h, part in enumerate(parts)], dim=1)


@head_contributions.finished
def columns_cut(heads, o_weight):
    d_head = heads.shape[-1]
    columns = [o_weight[:, h * d_head : (h + 1) * d_head] for h in range(heads.shape[1])]
    return torch.stack([heads[:, h] @ part.T for h, part in enumerate(columns)], dim=1)


@head_contributions.accepted
def columns_with_einsum(heads, o_weight):
    return torch.einsum("bhtc,mhc->bhtm", heads, o_weight.view(-1, heads.shape[1], heads.shape[-1]))


@head_contributions.accepted
def columns_turned_to_rows(heads, o_weight):
    return heads @ o_weight.T.reshape(heads.shape[1], heads.shape[-1], -1)


@head_contributions.accepted
def differences(heads, o_weight):
    d_head = heads.shape[-1]
    merged = heads.transpose(1, 2).flatten(2).double()
    whole, each = merged @ o_weight.double().T, []
    for h in range(heads.shape[1]):
        without = merged.clone()
        without[..., h * d_head : (h + 1) * d_head] = 0
        each.append(whole - without @ o_weight.double().T)
    return torch.stack(each, dim=1).to(heads.dtype)
