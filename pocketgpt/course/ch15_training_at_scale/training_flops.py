"""Exercise `training_flops`: floating-point operations of a training step for each token, from the config alone."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.course.ch10_the_gpt.shared import drawn_config, flops_per_token, model, model_shapes
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
    """One of attention's own products is missing: there are two, queries with keys, and weights with values."""
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
