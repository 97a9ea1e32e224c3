"""Exercise `training_flops`: floating-point operations of a training step for each token, from the config alone."""

from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.course.ch10_the_gpt.shared import (
    drawn_config,
    flops_per_token,
    mixed_config,
    model,
    model_shapes,
)
from pocketgpt.course.checking.exercise import exercise

TEXTS = 2


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("flops",))
def training_flops(config: Any, seq: int) -> int:
    """Counted by PyTorch's FlopCounterMode during a forward and a backward pass over two texts, as shapes without
    numbers, and divided by the number of tokens."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        weights = {name: torch.empty(shape, requires_grad=True) for name, shape in model_shapes(config).items()}
        model(torch.empty(TEXTS, seq, dtype=torch.long), weights, config).sum().backward()
    return counter.get_total_flops() // (TEXTS * seq)


@training_flops.inputs
def _(rng):
    for kind, layers, tied, seq in [
        ("llama", 2, True, 5),
        ("gpt2", 3, True, 9),
        ("brain", 2, True, 6),
        ("pocket", 3, False, 7),
        ("llama", 3, False, 11),
        ("pocket", 2, True, 4),
    ]:
        yield drawn_config(rng, kind, layers, tied), seq
    yield mixed_config(rng, 2, "learned"), 8  # heads that are together narrower than d_model, and wider
    yield mixed_config(rng, 3, "rope"), 10
    yield replace(drawn_config(rng, "pocket", 2, True), d_model=22), 6  # no number of heads divides it


def _total(config, seq, **changes):
    return flops_per_token(config, seq, **({"passes": 3} | changes))


@training_flops.mistake(hint=1)
def forward_alone(config, seq):
    """This is the forward pass alone: the backward pass costs twice as much, and a step has both."""
    return _total(config, seq, passes=1)


@training_flops.mistake(hint=1)
def backward_alone(config, seq):
    """This is twice the forward pass: either the backward pass alone, or a backward pass that is counted as one product
    a matrix. It needs two, for the gradient of its input and for that of its weights."""
    return _total(config, seq, passes=2)


@training_flops.mistake(hint=1)
def recomputed(config, seq):
    """This is four times the forward pass, as when activations are computed a second time: the model needs three, and
    what is computed twice is not counted."""
    return _total(config, seq, passes=4)


@training_flops.mistake(hint=1)
def six_per_weight(config, seq):
    """This is the rule of 6 FLOPs for each weight: attention's own products, which have no weights, are missing."""
    return _total(config, seq, products=0)


@training_flops.mistake(hint=1)
def attention_without_backward(config, seq):
    """Attention's own products are counted in the forward pass alone: each needs two more in the backward pass."""
    return _total(config, seq, products=0) + _total(config, seq, passes=1) - _total(config, seq, passes=1, products=0)


@training_flops.mistake(hint=2)
def two_per_weight_in_attention(config, seq):
    """Attention's own products are counted half: either one of the two is missing, queries with keys or weights with
    values, or the places that the mask hides are left out. Both count, over the whole square."""
    return _total(config, seq, products=1)


@training_flops.mistake(hint=2)
def whole_text(config, seq):
    """This is for a whole text: count for each token, so divide by seq."""
    return seq * _total(config, seq)


@training_flops.mistake(hint=1)
def multiply_adds(config, seq):
    """This counts multiply-adds: FLOPs count the multiplication and the addition, two."""
    return _total(config, seq, per_add=1)


@training_flops.mistake(hint=2)
def half_of_the_square(config, seq):
    """Only the places that the mask shows are counted: count the whole square, as PyTorch's counter does."""
    return _total(config, seq, seen=(seq + 1) / (2 * seq))


@training_flops.mistake(hint=2)
def attention_of_one_position(config, seq):
    """Attention is counted as if each token looked at one other: it looks at seq of them."""
    return _total(config, seq, seen=1 / seq)


@training_flops.mistake(hint=2)
def attention_squared(config, seq):
    """Attention is counted with seq · seq for each token: that is for the text, a token looks at seq others."""
    return _total(config, seq, seen=seq)


@training_flops.mistake(hint=2)
def attention_of_one_head(config, seq):
    """Attention is counted for one head: there are n_heads."""
    return _total(config, seq, seen=1 / config.mixer.n_heads)


@training_flops.mistake(hint=2)
def projections_of_all_heads(config, seq):
    """The projections k_proj and v_proj are counted with n_heads: they have n_kv_heads · d_head rows."""
    return _total(config, seq, kv_heads=config.mixer.n_heads)


@training_flops.mistake(hint=2)
def two_matrices(config, seq):
    """The feed-forward always has two matrices here: SwiGLU has three."""
    return _total(config, seq, matrices=2)


@training_flops.mistake(hint=2)
def three_matrices(config, seq):
    """The feed-forward always has three matrices here: only SwiGLU has a gate_proj."""
    return _total(config, seq, matrices=3)


@training_flops.mistake(hint=1)
def lookup_counted(config, seq):
    """The embedding is counted as a product: it is a lookup, and its gradient is an addition to the rows that were
    read."""
    return _total(config, seq, head=2)


@training_flops.mistake(hint=1)
def head_left_out(config, seq):
    """The head is missing: its product with vocab_size rows is one of the largest."""
    return _total(config, seq, head=0)


@training_flops.mistake(hint=1)
def tied_head_left_out(config, seq):
    """A tied head is left out: it has no weights of its own, and the multiplication takes place all the same."""
    return _total(config, seq, head=0 if config.tie_embeddings else 1)


@training_flops.mistake(hint=3)
def one_block(config, seq):
    """Only one block is counted: there are n_layers."""
    return _total(config, seq, layers=1)


@training_flops.mistake(hint=3)
def head_in_each_block(config, seq):
    """Are the brackets in the right place? The head is multiplied by n_layers, too: only the blocks are repeated."""
    return config.n_layers * _total(config, seq, layers=1)


@training_flops.mistake(hint=3)
def a_float(config, seq):
    """The number is right, and a float: division with `/` makes one. Return an int."""
    return float(_total(config, seq))


@training_flops.mistake(hint=3)
def six_forwards(config, seq):
    """This is six times the forward pass: the 6 of the rule already contains the 2 of a multiplication and an
    addition."""
    return _total(config, seq, passes=6)


def _attention(config, seq):
    """The part of attention's own products, forward and backward."""
    return _total(config, seq) - _total(config, seq, products=0)


def _as_wide_as(config, seq, queries, keys, attending=None):
    """Right, but for the widths of queries, keys and attention's own products."""
    mixer = config.mixer
    heads = 2 * config.d_model * (mixer.n_heads + mixer.n_kv_heads) * mixer.d_head
    without = _total(config, seq, products=0) - 6 * config.n_layers * heads
    attending = queries if attending is None else attending
    return without + 12 * config.n_layers * (config.d_model * (queries + keys) + attending * seq)


def _widths(config):
    mixer = config.mixer
    return mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head


@training_flops.mistake(hint=1)
def count_flops_unchanged(config, seq):
    """This is the forward pass of a whole text, as `count_flops` counts it: a training step costs three times as much,
    and the number is for each token."""
    return seq * _total(config, seq, passes=1)


@training_flops.mistake(hint=1)
def attention_backward_once(config, seq):
    """Attention's own products are counted with one product in the backward pass: both of their inputs need a gradient,
    so there are two for each."""
    return _total(config, seq) - _attention(config, seq) // 3


@training_flops.mistake(hint=1)
def attention_backward_three_times(config, seq):
    """Attention's own products are counted with three products in the backward pass: each has two inputs, so there are
    two. Queries, keys and values share two products."""
    return _total(config, seq) + _attention(config, seq) // 3


@training_flops.mistake(hint=1)
def head_without_backward(config, seq):
    """The head is counted in the forward pass alone: it needs two products in the backward pass, as any other
    matrix."""
    return _total(config, seq) - 4 * config.d_model * config.vocab_size


@training_flops.mistake(hint=2)
def attention_of_the_kv_heads(config, seq):
    """Attention is counted with n_kv_heads: every query head has its own scores, shared keys or not."""
    wide, narrow = _widths(config)
    return _as_wide_as(config, seq, wide, narrow, attending=narrow)


@training_flops.mistake(hint=2)
def attention_as_wide_as_the_model(config, seq):
    """Attention is counted as d_model wide: its heads together have n_heads · d_head numbers, which another config may
    choose differently."""
    return _as_wide_as(config, seq, *_widths(config), attending=config.d_model)


@training_flops.mistake(hint=2)
def queries_as_wide_as_the_model(config, seq):
    """Queries and attention are counted as d_model wide: the heads together have n_heads · d_head numbers, which a
    config may choose differently."""
    return _as_wide_as(config, seq, config.d_model, _widths(config)[1])


@training_flops.mistake(hint=2)
def d_head_of_the_model(config, seq):
    """The size of a head is taken to be d_model // n_heads: it is a field of its own, `config.mixer.d_head`, and may
    differ."""
    mixer, d_head = config.mixer, config.d_model // config.mixer.n_heads
    return _as_wide_as(config, seq, mixer.n_heads * d_head, mixer.n_kv_heads * d_head)


@training_flops.mistake(hint=2)
def no_d_head(config, seq):
    """All widths are made of d_model: queries have n_heads · d_head numbers and keys n_kv_heads · d_head, which another
    config may choose differently."""
    mixer, d = config.mixer, config.d_model
    return _as_wide_as(config, seq, d, d * mixer.n_kv_heads // mixer.n_heads)


@training_flops.mistake(hint=2)
def projections_of_squares(config, seq):
    """The four projections are counted as d_model · d_model: they have n_heads · d_head or n_kv_heads · d_head rows."""
    return _as_wide_as(config, seq, config.d_model, config.d_model, attending=_widths(config)[0])


@training_flops.mistake(hint=2)
def one_projection_left_out(config, seq):
    """A projection as wide as the queries is missing: q_proj and o_proj both are."""
    return _total(config, seq) - 6 * config.n_layers * config.d_model * _widths(config)[0]


@training_flops.mistake(hint=2)
def keys_or_values_left_out(config, seq):
    """A projection as wide as the keys is missing: k_proj and v_proj both are."""
    return _total(config, seq) - 6 * config.n_layers * config.d_model * _widths(config)[1]


@training_flops.mistake(hint=2)
def keys_and_values_alone(config, seq):
    """The projections q_proj and o_proj are missing: only those of keys and values are counted."""
    return _total(config, seq) - 12 * config.n_layers * config.d_model * _widths(config)[0]


@training_flops.mistake(hint=2)
def d_head_left_out(config, seq):
    """The factor d_head is missing in attention's own products: each head multiplies d_head numbers for each key."""
    return _as_wide_as(config, seq, *_widths(config), attending=config.mixer.n_heads)


@training_flops.mistake(hint=2)
def matrices_exchanged(config, seq):
    """Three matrices and two are exchanged: SwiGLU has three, all others two."""
    return _total(config, seq, matrices=2 if config.feedforward.activation == "swiglu" else 3)


@training_flops.mistake(hint=2)
def gelu_alone_has_two(config, seq):
    """Only the activation "gelu" is counted with two matrices: all have two but "swiglu"."""
    return _total(config, seq, matrices=2 if config.feedforward.activation == "gelu" else 3)


@training_flops.mistake(hint=2)
def four_times_as_wide(config, seq):
    """The feed-forward is counted as 4 · d_model wide: its width is `config.feedforward.d_ff`."""
    matrices = 3 if config.feedforward.activation == "swiglu" else 2
    feed = 6 * config.n_layers * matrices * config.d_model * 4 * config.d_model
    return _total(config, seq, matrices=0) + feed


@training_flops.mistake(hint=2)
def feed_forward_forgotten(config, seq):
    """The feed-forward is missing."""
    return _total(config, seq, matrices=0)


@training_flops.mistake(hint=2)
def longest_text(config, seq):
    """Attention is counted over max_seq_len keys: the text has seq of them."""
    return _total(config, config.max_seq_len)


@training_flops.mistake(hint=2)
def always_1024_keys(config, seq):
    """Attention is counted over 1,024 keys, whatever `seq` is."""
    return _total(config, 1024)


@training_flops.mistake(hint=2)
def half_of_the_keys(config, seq):
    """Half of the keys are counted, as the mask hides the rest: count the whole square, as PyTorch's counter does."""
    return _total(config, (seq + 1) // 2)


@training_flops.mistake(hint=2)
def biases_counted(config, seq):
    """Something small is added in each block, such as biases: only products of matrices count."""
    return _total(config, seq) + 6 * config.n_layers * (2 * config.d_model + config.feedforward.d_ff)


@training_flops.finished
def six_for_each_pair(config: Any, seq: int) -> int:
    mixer, d = config.mixer, config.d_model
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    inward = 2 if config.feedforward.activation == "swiglu" else 1
    weights = 2 * d * (wide + narrow) + (inward + 1) * d * config.feedforward.d_ff
    attention = 2 * wide * seq
    return 6 * (config.n_layers * (weights + attention) + config.vocab_size * d)


@training_flops.accepted
def forward_and_twice_backward(config, seq):
    mixer, d = config.mixer, config.d_model
    forward = 2 * d * config.vocab_size
    for _ in range(config.n_layers):
        for rows in (mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads, mixer.n_heads):
            forward += 2 * d * rows * mixer.d_head
        forward += (6 if config.feedforward.activation == "swiglu" else 4) * d * config.feedforward.d_ff
        forward += 4 * mixer.n_heads * mixer.d_head * seq
    backward = 2 * forward
    return forward + backward


@training_flops.accepted
def counted_as_it_runs(config, seq):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        weights = {name: torch.zeros(shape) for name, shape in model_shapes(config).items()}
        model(torch.zeros(1, seq, dtype=torch.long), weights, config)
    return 3 * counter.get_total_flops() // seq
