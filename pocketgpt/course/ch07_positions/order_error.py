"""Exercise `order_error`: the difference that the order of the tokens makes to a layer."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.course.checking.exercise import exercise

# Each layer stands alone, because the grader sends its source to the answer. Random weights are the same at every call.


def encoder_layer(x: Float[Tensor, "batch seq 8"]) -> Float[Tensor, "batch seq 8"]:
    """PyTorch's own attention, feed-forward and norms. Blind to order: there is no mask."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    return layer(x)


def causal_encoder_layer(x: Float[Tensor, "batch seq 8"]) -> Float[Tensor, "batch seq 8"]:
    """Not blind: the mask gives each token another set."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    return layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]), is_causal=True)


def attention_layer(x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
    """Attention without a mask, whose queries, keys and values are the tokens themselves."""
    return torch.softmax(x @ x.mT, dim=-1) @ x


def causal_attention_layer(x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
    """The same with a causal mask."""
    hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    return torch.softmax((x @ x.mT).masked_fill(hidden, -torch.inf), dim=-1) @ x


def squared_positions_layer(x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
    """Adds the square of the position to every coordinate, so that changes upward and downward differ."""
    return x + torch.arange(x.shape[1])[:, None] ** 2


@exercise(
    points=1,
    returns=("error",),
    choices={"layer": (attention_layer, causal_attention_layer, squared_positions_layer)},
    sizes={"seq": (4, 5, 6)},
)
def order_error(
    layer: Callable[[Tensor], Tensor], x: Float[Tensor, "batch seq d_model"], order: Int[Tensor, " seq"]
) -> float:
    """The largest change, in size, between layer(x[order]) and layer(x)[order]; the order is one of positions."""
    before = layer(x).index_select(1, order)
    after = layer(x.index_select(1, order))
    return torch.dist(after, before, p=torch.inf).item()


@order_error.values
def order(rng, shape):
    """One cycle through all positions, so that no position stays and the inverse is another order."""
    through = torch.randperm(shape[0], generator=rng)
    return torch.empty_like(through).scatter(0, through, through.roll(1))


@order_error.inputs
def _(rng):
    # With the squares, one token moves far and all others by one: in one direction, and in the other.
    for shift in (1, -1):
        yield squared_positions_layer, torch.randn(2, 5, 3, generator=rng), torch.arange(5).roll(shift)
    x = torch.randn(3, 5, 4, generator=rng)
    x[0] = x[0, 0]  # one text whose tokens are all the same: its order makes no difference
    for texts in (x, x.flip(0)):
        yield causal_attention_layer, texts, torch.tensor([1, 2, 3, 4, 0])
    for layer in (encoder_layer, causal_encoder_layer):
        yield layer, torch.randn(2, 5, 8, generator=rng), torch.tensor([2, 0, 4, 1, 3])


@order_error.mistake(hint=2)
def features_permuted(layer, x, order):
    """The features are permuted: `order` is one of positions, the axis in the middle."""
    return (layer(x[..., order]) - layer(x)[..., order]).abs().max().item()


@order_error.mistake(hint=2)
def texts_permuted(layer, x, order):
    """The texts of the batch are permuted: `order` is one of positions, the second axis. Write `x[:, order]`."""
    return (layer(x[order]) - layer(x)[order]).abs().max().item()


@order_error.mistake(hint=1)
def output_not_permuted(layer, x, order):
    """The output for x is not permuted, so different tokens are compared: it is layer(x)[:, order]."""
    return (layer(x[:, order]) - layer(x)).abs().max().item()


@order_error.mistake(hint=1)
def input_not_permuted(layer, x, order):
    """The layer never sees the tokens in the other order: one of its two inputs is x[:, order]."""
    return (layer(x) - layer(x)[:, order]).abs().max().item()


@order_error.mistake(hint=3)
def inverse_order(layer, x, order):
    """The output is permuted by the inverse order, so different tokens are compared: use the same `order` twice."""
    return (layer(x[:, order]) - layer(x)[:, order.argsort()]).abs().max().item()


@order_error.mistake(hint=3)
def largest_without_size(layer, x, order):
    """This is the largest change upward: a change downward counts as much. Take the absolute value first."""
    return (layer(x[:, order]) - layer(x)[:, order]).max().item()


@order_error.mistake(hint=3)
def signed_mean(layer, x, order):
    """This is the mean of changes with their signs, and they cancel: take the largest absolute value."""
    return (layer(x[:, order]) - layer(x)[:, order]).mean().item()


@order_error.mistake(hint=3)
def mean_size(layer, x, order):
    """This is the mean size of the changes: return the largest."""
    return (layer(x[:, order]) - layer(x)[:, order]).abs().mean().item()


@order_error.mistake(hint=3)
def length_of_the_change(layer, x, order):
    """This is the length of the whole change, the root of the sum of its squares: return the largest entry in size."""
    return (layer(x[:, order]) - layer(x)[:, order]).norm().item()


@order_error.mistake
def compared_with_the_input(layer, x, order):
    """The output is compared with the layer's input: compare it with the other output, layer(x)[:, order]."""
    return (layer(x[:, order]) - x[:, order]).abs().max().item()


@order_error.mistake
def relative_to_the_output(layer, x, order):
    """The change is divided by the size of the output: return the change itself."""
    before = layer(x)[:, order]
    return ((layer(x[:, order]) - before).abs().max() / before.abs().max()).item()


@order_error.mistake
def first_text_only(layer, x, order):
    """Only the first text of the batch counts here: take the largest change of all texts."""
    return (layer(x[:, order]) - layer(x)[:, order])[0].abs().max().item()


@order_error.mistake(hint=3)
def a_tensor(layer, x, order):
    """The number is right, and it is a tensor: `.item()` makes a float of it."""
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max()


@order_error.mistake(hint=3)
def verdict_only(layer, x, order):
    """This says whether there is a change: return its size, a float."""
    return torch.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-4)


def _changes(layer, x, order):
    """Right, for the mistakes that go wrong elsewhere."""
    return layer(x[:, order]) - layer(x)[:, order]


@order_error.mistake(hint=3)
def added_up(layer, x, order):
    """The changes are added up: return the largest, in size."""
    return _changes(layer, x, order).abs().sum().item()


@order_error.mistake(hint=3)
def smallest(layer, x, order):
    """This is the largest change downward, with its sign: take the absolute value first, then the largest."""
    return _changes(layer, x, order).min().item()


@order_error.mistake(hint=3)
def mean_square(layer, x, order):
    """This is the mean of the squared changes: return the largest change in size."""
    return _changes(layer, x, order).square().mean().item()


@order_error.mistake(hint=3)
def root_mean_square(layer, x, order):
    """This is the root mean square of the changes: return the largest in size."""
    return _changes(layer, x, order).square().mean().sqrt().item()


@order_error.mistake(hint=3)
def largest_square(layer, x, order):
    """This is the square of the largest change: return its size."""
    return _changes(layer, x, order).square().max().item()


@order_error.mistake(hint=3)
def largest_length(layer, x, order):
    """This is the length of the largest change of a token's vector: return the largest of all numbers, in size."""
    return _changes(layer, x, order).norm(dim=-1).max().item()


@order_error.mistake(hint=3)
def largest_ratio(layer, x, order):
    """Each change is divided by the number it changes: return the largest change itself."""
    return (_changes(layer, x, order) / layer(x)[:, order]).abs().max().item()


@order_error.mistake(hint=3)
def from_the_lowest_to_the_highest(layer, x, order):
    """This is the distance from the smallest change to the largest: return the largest in size."""
    return (_changes(layer, x, order).max() - _changes(layer, x, order).min()).item()


@order_error.mistake(hint=3)
def largest_numbers_compared(layer, x, order):
    """The largest number of one output is compared with that of the other: subtract number by number first."""
    return (layer(x[:, order]).abs().max() - layer(x)[:, order].abs().max()).abs().item()


@order_error.mistake(hint=1)
def layer_without_order(layer, x, order):
    """The order is not used: this measures how much the layer changes its input."""
    return (layer(x) - x).abs().max().item()


@order_error.mistake(hint=1)
def order_without_layer(layer, x, order):
    """The layer is not called: this measures how far the input is from itself in another order."""
    return (x[:, order] - x).abs().max().item()


@order_error.mistake(hint=1)
def input_overwritten(layer, x, order):
    """The reordered tokens have taken the place of x, so both ways begin with them: keep the x that came in."""
    x = x[:, order]
    return (layer(x) - layer(x)[:, order]).abs().max().item()


@order_error.mistake(hint=3)
def verdict_as_a_number(layer, x, order):
    """This is 1 where there is no change and 0 elsewhere: return the size of the largest change."""
    return float(torch.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-5))


@order_error.mistake(hint=3)
def whole_number(layer, x, order):
    """The change is cut to a whole number: `int` drops the fraction, `float` keeps it."""
    return int(_changes(layer, x, order).abs().max())


@order_error.mistake(hint=3)
def size_of_the_sum(layer, x, order):
    """The changes are added up with their signs, and cancel: take the absolute value of each, and the largest of
    them."""
    return _changes(layer, x, order).sum().abs().item()


@order_error.mistake(hint=3)
def lengths_compared(layer, x, order):
    """The lengths of the two outputs are subtracted: subtract number by number, and return the largest size."""
    return (layer(x[:, order]).norm() - layer(x)[:, order].norm()).item()


@order_error.mistake(hint=3)
def mean_of_the_largest(layer, x, order):
    """The largest change of each token is averaged: return the largest of all."""
    return _changes(layer, x, order).abs().amax(-1).mean().item()


@order_error.finished
def by_indexing(layer, x, order):
    reordered_first, layer_first = layer(x[:, order]), layer(x)[:, order]
    return float((reordered_first - layer_first).abs().max())


@order_error.accepted
def both_put_back(layer, x, order):
    back = order.argsort()
    return float((layer(x[:, order])[:, back] - layer(x)).abs().amax())


@order_error.accepted
def with_a_permutation_matrix(layer, x, order):
    matrix = torch.eye(len(order), dtype=x.dtype)[order]
    changes = layer(matrix @ x) - matrix @ layer(x)
    return max(changes.max().item(), -changes.min().item())


@order_error.accepted
def in_loops(layer, x, order):
    before, after, largest = layer(x), layer(torch.stack([x[:, t] for t in order.tolist()], dim=1)), 0.0
    for t, place in enumerate(order.tolist()):
        for old, new in zip(before[:, place].flatten().tolist(), after[:, t].flatten().tolist(), strict=True):
            largest = max(largest, abs(new - old))
    return largest
