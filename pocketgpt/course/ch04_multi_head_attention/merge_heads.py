"""Exercise `merge_heads`: the heads of a token side by side again."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("merged",), replaces="merge_heads", views=True, gradients=("x",))
def merge_heads(x: Float[Tensor, "batch heads seq d_head"]) -> Float[Tensor, "batch seq width"]:
    """Number j of token t is number j mod d_head of head j // d_head: the index formula, written down."""
    batch, heads, seq, d_head = x.shape
    b, t, j = torch.meshgrid(*map(torch.arange, (batch, seq, heads * d_head)), indexing="ij")
    return x[b, j // d_head, t, j % d_head]


@merge_heads.inputs
def _(rng):
    yield (torch.randn(2, 3, 5, 4, generator=rng),)
    yield (torch.randn(3, 2, 4, 6, generator=rng),)
    # Numbers that spell their own place: 1000 · batch + 100 · head + 10 · token + number.
    b, h, t, c = torch.meshgrid(*map(torch.arange, (2, 2, 3, 4)), indexing="ij")
    yield ((1000 * b + 100 * h + 10 * t + c).float(),)


@merge_heads.mistake(hint=1)
def reshape_without_transposing(x):
    """The shape is right and the rows are not: without exchanging heads and tokens first, `reshape` fills the row of a
    token with pieces of other tokens, later ones included."""
    return x.reshape(x.shape[0], x.shape[2], -1)


@merge_heads.mistake(hint=1)
def view_without_transposing(x):
    """The shape is right and the rows are not: without exchanging heads and tokens first, `view` fills the row of a
    token with pieces of other tokens, later ones included."""
    return x.view(x.shape[0], x.shape[2], -1)


@merge_heads.mistake(hint=2)
def view_of_a_transposed_tensor(x):
    """After `transpose` the axes are no neighbors in memory, and `view` cannot join them: use `flatten` or `reshape`,
    which copy."""
    return x.transpose(1, 2).view(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


@merge_heads.mistake(hint=1)
def heads_averaged(x):
    """The heads are averaged: put them side by side, so that nothing of them is lost."""
    return x.mean(dim=1)


@merge_heads.mistake(hint=1)
def heads_summed(x):
    """The heads are added up: put them side by side. Adding is the business of o_proj, which comes next."""
    return x.sum(dim=1)


@merge_heads.mistake(hint=2)
def heads_interleaved(x):
    """The numbers of the heads alternate: head 0 comes first with all of its numbers, then head 1."""
    return x.permute(0, 2, 3, 1).flatten(2)


@merge_heads.mistake(hint=2)
def heads_below_each_other(x):
    """The heads come one after another along the tokens: put them side by side along the width."""
    return x.flatten(1, 2)


@merge_heads.mistake(hint=2)
def tokens_and_heads_joined(x):
    """The axes that are joined are tokens and heads: after the exchange, join the last two, heads and d_head."""
    return x.transpose(1, 2).flatten(1, 2)


@merge_heads.mistake(hint=2)
def not_joined(x):
    """Heads and tokens are exchanged, and that is right; now join the last two axes, (B, T, heads, d_head) → (B, T,
    heads · d_head)."""
    return x.transpose(1, 2)


@merge_heads.mistake(hint=2)
def last_axes_swapped(x):
    """The last two axes are exchanged, tokens and d_head: exchange axes 1 and 2, heads and tokens."""
    return x.transpose(-1, -2).reshape(x.shape[0], x.shape[2], -1)


@merge_heads.mistake(hint=2)
def outer_axes_swapped(x):
    """The axes of heads and d_head are exchanged: exchange axes 1 and 2, heads and tokens."""
    return x.transpose(1, 3).reshape(x.shape[0], x.shape[2], -1)


@merge_heads.mistake(hint=2)
def tokens_first(x):
    """Tokens come before the batch here, the layout of older PyTorch code: return (B, T, heads · d_head)."""
    return x.permute(2, 0, 1, 3).flatten(2)


@merge_heads.mistake(hint=1)
def first_head_alone(x):
    """This is head 0 alone: all heads go side by side."""
    return x[:, 0].clone()


@merge_heads.mistake(hint=2)
def texts_side_by_side(x):
    """A loop over `x`, or `torch.cat(list(x))`, goes through the batch, so that texts are put side by side: go through
    the heads, `x.unbind(1)`."""
    return torch.cat(list(x), dim=-1)


@merge_heads.mistake(hint=1)
def not_exchanged(x):
    """Tokens and d_head are joined, with the heads still in front: exchange heads and tokens first, and keep the
    result, since `x.transpose(1, 2)` on a line of its own changes nothing."""
    return x.flatten(2)


@merge_heads.mistake(hint=2)
def joined_then_exchanged(x):
    """Heads and tokens are joined, and d_head stands before them: exchange axes 1 and 2 first, then join the last two,
    heads and d_head."""
    return x.flatten(1, 2).transpose(1, 2)


@merge_heads.mistake(hint=2)
def heads_taken_for_tokens(x):
    """The rows of the result are as many as heads: `x` is (B, heads, T, d_head), so T is `x.shape[2]` before the
    exchange and `x.shape[1]` after it."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1)


@merge_heads.mistake(hint=2)
def heads_and_numbers_exchanged(x):
    """The axes 1 and 3 are exchanged, heads and d_head: exchange 1 and 2, so that a row belongs to a token."""
    return x.permute(0, 3, 2, 1).flatten(2)


@merge_heads.mistake(hint=2)
def squeezed(x):
    """With `squeeze` nothing is joined, it drops axes of size 1: join the last two axes with `flatten(2)`."""
    return x.transpose(1, 2).squeeze()


@merge_heads.mistake(hint=2)
def a_row_for_each_text(x):
    """All tokens of a text are one row: keep T, and join the last two axes alone, `flatten(2)`."""
    return x.transpose(1, 2).flatten(1)


@merge_heads.mistake(hint=2)
def batch_and_tokens_joined(x):
    """The axes that are joined are batch and tokens: join the last two, heads and d_head."""
    return x.transpose(1, 2).flatten(0, 1)


@merge_heads.mistake(hint=2)
def as_many_heads_as_texts(x):
    """The loop over the heads runs to `x.shape[0]`, the number of texts: there are `x.shape[1]` heads."""
    return torch.cat([x[:, h] for h in range(x.shape[0])], dim=-1)


@merge_heads.mistake(hint=2)
def first_text_alone(x):
    """Only the first text is merged: keep the batch, which is the first axis."""
    return x[:1].transpose(1, 2).flatten(2)


@merge_heads.mistake(hint=2)
def first_text_without_its_axis(x):
    """This is the first text, without a batch: `x.unbind(1)` goes through the heads of all texts."""
    return x[0].transpose(0, 1).flatten(1)


@merge_heads.finished
def transpose_then_flatten(x):
    return x.transpose(1, 2).flatten(2)


@merge_heads.accepted
def permute_then_view(x):
    batch, heads, seq, d_head = x.shape
    return x.permute(0, 2, 1, 3).contiguous().view(batch, seq, heads * d_head)


@merge_heads.accepted
def heads_concatenated(x):
    return torch.cat(x.unbind(1), dim=-1)


@merge_heads.accepted
def head_by_head(x):
    batch, heads, seq, d_head = x.shape
    merged = x.new_empty(batch, seq, heads * d_head)
    for h in range(heads):
        merged[:, :, h * d_head : (h + 1) * d_head] = x[:, h]
    return merged
