"""Exercise `split_heads`: cut the width into heads."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1, returns=("heads",), replaces="split_heads", sizes={"width": (12, 18, 20)}, gradients=("x",), views=True
)
def split_heads(x: Float[Tensor, "batch seq width"], n_heads: int) -> Float[Tensor, "batch heads seq d_head"]:
    """Number c of head h at token t is number h · d_head + c of the token: the index formula, written down."""
    batch, seq, width = x.shape
    d_head = width // n_heads
    b, h, t, c = torch.meshgrid(*map(torch.arange, (batch, n_heads, seq, d_head)), indexing="ij")
    return x[b, t, h * d_head + c]


@split_heads.values
def n_heads(rng, width):
    divisors = [n for n in range(2, width) if width % n == 0]
    return divisors[int(torch.randint(len(divisors), (), generator=rng))]


@split_heads.inputs
def _(rng):
    for batch, seq, heads, d_head in [(3, 4, 2, 5), (2, 6, 4, 3), (2, 4, 1, 3), (2, 4, 3, 1)]:
        yield torch.randn(batch, seq, heads * d_head, generator=rng), heads
    # Tokens that are not neighbors in memory, and not as many as heads: `view` cannot rearrange them.
    yield torch.randn(4, 2, 12, generator=rng).transpose(0, 1), 3
    # Numbers that spell their own place: 1000 · batch + 100 · token + number.
    b, t, c = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(8), indexing="ij")
    yield (1000 * b + 100 * t + c).float(), 2


def _split(x, n_heads):
    """Right, for the mistakes that go wrong elsewhere."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


@split_heads.mistake(hint=1)
def view_straight_to_the_shape(x, n_heads):
    """The shape is right and the numbers are in the wrong heads: `view` keeps the order in memory, where the two
    neighbors of a number belong to its own token. Split the last axis alone, then exchange tokens and heads."""
    return x.view(x.shape[0], n_heads, x.shape[1], x.shape[2] // n_heads)


@split_heads.mistake(hint=1)
def reshape_straight_to_the_shape(x, n_heads):
    """The shape is right and the numbers are in the wrong heads: `reshape` never exchanges axes, so pieces of one token
    pose as several tokens. Split the last axis alone, then exchange tokens and heads."""
    return x.reshape(x.shape[0], n_heads, x.shape[1], x.shape[2] // n_heads)


@split_heads.mistake(hint=2)
def every_nth_number(x, n_heads):
    """Each head gets every H-th number: a head is a run of d_head neighbors, so unflatten the width as (n_heads,
    d_head), not as (d_head, n_heads)."""
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


@split_heads.mistake(hint=2)
def tokens_and_width_exchanged(x, n_heads):
    """Tokens and d_head are exchanged: the order is (B, heads, T, d_head)."""
    return _split(x, n_heads).mT


@split_heads.mistake(hint=2)
def n_heads_for_d_head(x, n_heads):
    """The number n_heads is taken for the width of a head, so that there are d_head heads of n_heads numbers."""
    return _split(x, x.shape[-1] // n_heads)


@split_heads.mistake(hint=2)
def heads_behind_tokens(x, n_heads):
    """The heads stand behind the tokens: exchange axes 1 and 2, so that each head holds all tokens, (B, heads, T,
    d_head)."""
    return x.unflatten(-1, (n_heads, -1))


@split_heads.mistake(hint=2)
def batch_and_heads_exchanged(x, n_heads):
    """Heads come first, before the batch: the order is (B, heads, T, d_head)."""
    return _split(x, n_heads).transpose(0, 1)


@split_heads.mistake(hint=2)
def first_axes_swapped(x, n_heads):
    """With transpose(0, 1) you exchange batch and tokens: the axes of tokens and heads are 1 and 2."""
    return x.unflatten(-1, (n_heads, -1)).transpose(0, 1)


@split_heads.mistake(hint=2)
def batch_folded_into_heads(x, n_heads):
    """Batch and heads are one axis here: keep them apart, (B, heads, T, d_head)."""
    return _split(x, n_heads).flatten(0, 1)


@split_heads.mistake(hint=1)
def for_tokens_first(x, n_heads):
    """This folds the batch into the heads before anything is exchanged, which is right for the layout (T, B, width) of
    older PyTorch code. Here the batch comes first, and texts of the batch are mixed."""
    batch, seq, width = x.shape
    d_head = width // n_heads
    return x.reshape(seq, batch * n_heads, d_head).transpose(0, 1).reshape(batch, n_heads, seq, d_head)


@split_heads.mistake(hint=1)
def whole_width_for_each_head(x, n_heads):
    """Each head holds the whole width: cut it into n_heads pieces of d_head numbers."""
    return x[:, None].repeat(1, n_heads, 1, 1)


@split_heads.mistake(hint=1)
def first_piece_for_each_head(x, n_heads):
    """Each head holds the same piece, the first d_head numbers: head h begins at number h · d_head."""
    return x[:, None, :, : x.shape[-1] // n_heads].repeat(1, n_heads, 1, 1)


@split_heads.mistake(hint=2)
def pieces_in_a_tuple(x, n_heads):
    """These are the right pieces, in a tuple: return one tensor, with the heads as axis 1 (`torch.stack(…, dim=1)`)."""
    return x.chunk(n_heads, dim=-1)


@split_heads.mistake(hint=2)
def pieces_stacked_last(x, n_heads):
    """The heads are the last axis: stack the pieces along axis 1, for (B, heads, T, d_head)."""
    return torch.stack(x.chunk(n_heads, dim=-1), dim=-1)


@split_heads.mistake(hint=2)
def pieces_in_a_list(x, n_heads):
    """These are the right pieces, in a list: return one tensor, with the heads as axis 1 (`torch.stack(…, dim=1)`)."""
    return list(x.chunk(n_heads, dim=-1))


@split_heads.mistake(hint=2)
def pieces_joined_along_the_tokens(x, n_heads):
    """With `torch.cat` the pieces are joined along the tokens, and heads have no axis of their own:
    `torch.stack(…, dim=1)` makes one."""
    return torch.cat(x.chunk(n_heads, dim=-1), dim=1)


@split_heads.mistake(hint=1)
def view_with_the_batch_folded_in(x, n_heads):
    """Batch and heads are one axis, and a bare `view` or `reshape` made it, so that pieces of one token pose as several
    tokens. Split the last axis alone, then exchange tokens and heads: (B, heads, T, d_head)."""
    return x.view(x.shape[0] * n_heads, x.shape[1], x.shape[2] // n_heads)


@split_heads.mistake(hint=2)
def slices_begin_at_the_head(x, n_heads):
    """The slice of head h begins at number h, so that neighbors overlap: it begins at h · d_head."""
    d_head = x.shape[-1] // n_heads
    return torch.stack([x[..., h : h + d_head] for h in range(n_heads)], dim=1)


@split_heads.mistake(hint=2)
def first_text_alone(x, n_heads):
    """Only the first text is split: keep the batch, which is the first axis."""
    return _split(x[:1], n_heads)


@split_heads.finished
def unflatten_then_transpose(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


@split_heads.accepted
def view_then_permute(x, n_heads):
    batch, seq, width = x.shape
    return x.view(batch, seq, n_heads, width // n_heads).permute(0, 2, 1, 3).contiguous()


@split_heads.accepted
def pieces_stacked(x, n_heads):
    return torch.stack(torch.chunk(x, n_heads, dim=-1), dim=1)


@split_heads.accepted
def head_by_head(x, n_heads):
    d_head = x.shape[-1] // n_heads
    heads = torch.empty(x.shape[0], n_heads, x.shape[1], d_head, dtype=x.dtype)
    for h in range(n_heads):
        heads[:, h] = x[:, :, h * d_head : (h + 1) * d_head]
    return heads
