"""Exercise `attention_costs`: parameters, multiply-adds and weights of a layer."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("parameters", "multiply_adds", "weights"))
def attention_costs(d_model: int, n_heads: int, seq: int) -> tuple[int, int, int]:
    """Counted on PyTorch's own layer, which computes shapes only here: parameters, half its FLOPs, numbers in the
    weights."""
    layer = nn.MultiheadAttention(d_model, n_heads, bias=False, batch_first=True, device="meta")
    x = torch.empty(1, seq, d_model, device="meta")
    with FlopCounterMode(display=False) as counter:
        _, weights = layer(x, x, x, average_attn_weights=False)
    return sum(each.numel() for each in layer.parameters()), counter.get_total_flops() // 2, weights.numel()


@attention_costs.values
def n_heads(rng):
    return 2 + int(torch.randint(5, (), generator=rng))


@attention_costs.values
def d_model(rng, n_heads):
    return n_heads * (3 + int(torch.randint(6, (), generator=rng)))


@attention_costs.values
def seq(rng):
    return 7 + int(torch.randint(20, (), generator=rng))


@attention_costs.inputs
def _(rng):
    yield 192, 6, 256  # the shipped model, if it had as many key and value heads
    yield 192, 1, 256
    yield 12, 3, 5
    yield 8, 8, 1


def _projections(d_model, seq, matrices=4):
    return matrices * seq * d_model**2


def _products(d_model, seq):
    """The scores, and the weighted means of the values."""
    return 2 * seq**2 * d_model


def _right(d_model, n_heads, seq):
    """Right, for the mistakes that go wrong elsewhere."""
    return 4 * d_model**2, _projections(d_model, seq) + _products(d_model, seq), n_heads * seq**2


@attention_costs.mistake(hint=1)
def parameters_for_each_head(d_model, n_heads, seq):
    """That is n_heads times too many parameters: the heads share the width, each has d_head = d_model / n_heads rows of
    a matrix."""
    return 4 * n_heads * d_model**2, *_right(d_model, n_heads, seq)[1:]


@attention_costs.mistake(hint=1)
def o_proj_forgotten(d_model, n_heads, seq):
    """There are four matrices, and only three are counted: o_proj is missing."""
    products = _projections(d_model, seq, 3) + _products(d_model, seq)
    return 3 * d_model**2, products, n_heads * seq**2


@attention_costs.mistake(hint=1)
def parameters_of_one_head(d_model, n_heads, seq):
    """These are the parameters of one head: a layer has n_heads of them, 4 · d_model² in all."""
    return 4 * d_model**2 // n_heads, *_right(d_model, n_heads, seq)[1:]


@attention_costs.mistake(hint=3)
def biases_counted(d_model, n_heads, seq):
    """Biases are counted: these projections have none."""
    return 4 * d_model**2 + 4 * d_model, *_right(d_model, n_heads, seq)[1:]


@attention_costs.mistake(hint=1)
def weights_of_one_head(d_model, n_heads, seq):
    """The weights are counted for one head: each head has seq · seq of its own."""
    return *_right(d_model, n_heads, seq)[:2], seq**2


@attention_costs.mistake(hint=1)
def one_weight_a_token(d_model, n_heads, seq):
    """The weights are counted as seq for each head: every query has a weight for
    every key, seq · seq."""
    return *_right(d_model, n_heads, seq)[:2], n_heads * seq


@attention_costs.mistake(hint=1)
def hidden_places_left_out(d_model, n_heads, seq):
    """The places that the mask hides are left out: count the whole square of seq · seq, as it is computed and
    stored."""
    seen = seq * (seq + 1) // 2
    return 4 * d_model**2, _projections(d_model, seq) + 2 * seen * d_model, n_heads * seen


@attention_costs.mistake(hint=3)
def counted_as_two(d_model, n_heads, seq):
    """A multiplication and an addition are counted as two here, as FLOPs are: count each pair once."""
    parameters, products, weights = _right(d_model, n_heads, seq)
    return parameters, 2 * products, weights


@attention_costs.mistake(hint=2)
def projections_only(d_model, n_heads, seq):
    """Only the four projections are counted: the scores and the weighted means are matrix products, too."""
    return 4 * d_model**2, _projections(d_model, seq), n_heads * seq**2


@attention_costs.mistake(hint=2)
def attention_only(d_model, n_heads, seq):
    """Only the scores and the weighted means are counted: the four projections are matrix products, too."""
    return 4 * d_model**2, _products(d_model, seq), n_heads * seq**2


@attention_costs.mistake(hint=2)
def weighted_mean_forgotten(d_model, n_heads, seq):
    """One product of seq · seq · d_model is missing: the scores need one, and the weighted means of the values
    another."""
    return 4 * d_model**2, _projections(d_model, seq) + _products(d_model, seq) // 2, n_heads * seq**2


@attention_costs.mistake(hint=2)
def products_of_full_width(d_model, n_heads, seq):
    """The products of each head are counted with the width d_model: they have d_head = d_model / n_heads, so all heads
    together have d_model."""
    products = _projections(d_model, seq) + n_heads * _products(d_model, seq)
    return 4 * d_model**2, products, n_heads * seq**2


@attention_costs.mistake(hint=2)
def products_of_one_head(d_model, n_heads, seq):
    """The scores and the weighted means are counted for one head: there are n_heads."""
    products = _projections(d_model, seq) + _products(d_model, seq) // n_heads
    return 4 * d_model**2, products, n_heads * seq**2


@attention_costs.mistake(hint=2)
def projections_of_one_token(d_model, n_heads, seq):
    """The projections are counted for one token: each of the seq tokens is multiplied by each matrix."""
    return 4 * d_model**2, _projections(d_model, 1) + _products(d_model, seq), n_heads * seq**2


@attention_costs.mistake(hint=3)
def multiply_adds_first(d_model, n_heads, seq):
    """The numbers are right and in another order: parameters come first, then multiply_adds, then weights."""
    parameters, products, weights = _right(d_model, n_heads, seq)
    return products, parameters, weights


@attention_costs.mistake(hint=3)
def multiply_adds_last(d_model, n_heads, seq):
    """The last two numbers are exchanged: the order is parameters, multiply_adds, weights."""
    parameters, products, weights = _right(d_model, n_heads, seq)
    return parameters, weights, products


@attention_costs.mistake(hint=3)
def the_width_times_four_squared(d_model, n_heads, seq):
    """The 4 is squared, too: four matrices of d_model² numbers are 4 · d_model², in Python `4 * d_model**2`."""
    return (4 * d_model) ** 2, *_right(d_model, n_heads, seq)[1:]


@attention_costs.mistake(hint=3)
def caret_for_power(d_model, n_heads, seq):
    """In Python `^` compares bits: a power is `**`."""
    return 4 * d_model ^ 2, 4 * seq * d_model ^ 2 + 2 * seq ^ 2 * d_model, n_heads * seq ^ 2


@attention_costs.mistake(hint=2)
def three_projections_multiplied(d_model, n_heads, seq):
    """In multiply_adds only three projections are counted: the merged heads are multiplied by o_proj, too."""
    parameters, _, weights = _right(d_model, n_heads, seq)
    return parameters, _projections(d_model, seq, 3) + _products(d_model, seq), weights


@attention_costs.mistake(hint=3)
def softmax_counted(d_model, n_heads, seq):
    """The softmax, the scale or the mask is counted, one operation for each weight: count matrix products only."""
    parameters, products, weights = _right(d_model, n_heads, seq)
    return parameters, products + weights, weights


@attention_costs.mistake(hint=3)
def one_addition_less(d_model, n_heads, seq):
    """For each number of a projection d_model − 1 additions are counted, as by hand. Here each product is added to a
    sum that begins at 0: d_model multiply-adds."""
    parameters, _, weights = _right(d_model, n_heads, seq)
    return parameters, 4 * seq * d_model * (d_model - 1) + _products(d_model, seq), weights


@attention_costs.mistake(hint=2)
def products_with_another_square(d_model, n_heads, seq):
    """The scores and the weighted means are counted as seq · d_model² each: seq · seq pairs of d_model numbers, seq² ·
    d_model."""
    return 4 * d_model**2, _projections(d_model, seq) + 2 * seq * d_model**2, n_heads * seq**2


@attention_costs.mistake(hint=1)
def hidden_weights_left_out(d_model, n_heads, seq):
    """The weights that the mask hides are left out: they come out of the softmax as zeros, so count seq · seq for each
    head."""
    return *_right(d_model, n_heads, seq)[:2], n_heads * seq * (seq + 1) // 2


@attention_costs.mistake(hint=1)
def half_the_weights(d_model, n_heads, seq):
    """Half of the weights are counted: the hidden half comes out of the softmax as zeros, so count seq · seq for each
    head."""
    return *_right(d_model, n_heads, seq)[:2], n_heads * seq**2 // 2


@attention_costs.mistake(hint=1)
def weights_as_wide_as_tokens(d_model, n_heads, seq):
    """The weights are counted as seq · d_model, which is the size of the output: a weight belongs to a query and a key,
    seq · seq for each head."""
    return *_right(d_model, n_heads, seq)[:2], seq * d_model


@attention_costs.mistake(hint=1)
def weights_for_each_number(d_model, n_heads, seq):
    """The weights are counted as d_model · seq²: a head has one weight for each query and key, and not one for each of
    its numbers."""
    return *_right(d_model, n_heads, seq)[:2], d_model * seq**2


@attention_costs.finished
def closed_form(d_model, n_heads, seq):
    return 4 * d_model**2, 4 * seq * d_model**2 + 2 * seq**2 * d_model, n_heads * seq**2


@attention_costs.accepted
def head_by_head(d_model, n_heads, seq):
    d_head = d_model // n_heads
    in_projections, out_projection = 3 * n_heads * d_head * d_model, d_model * n_heads * d_head
    parameters = in_projections + out_projection
    return parameters, seq * parameters + n_heads * 2 * seq * seq * d_head, sum(seq * seq for _ in range(n_heads))


@attention_costs.accepted
def counted_from_tensors(d_model, n_heads, seq):
    layers = [nn.Linear(d_model, d_model, bias=False) for _ in range(4)]
    parameters = sum(layer.weight.numel() for layer in layers)
    weights = torch.zeros(n_heads, seq, seq)
    return parameters, seq * parameters + 2 * weights.numel() * (d_model // n_heads), weights.numel()
