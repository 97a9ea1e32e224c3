"""Exercise `count_flops`: floating-point operations of a forward pass, from the config alone."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.course.ch10_the_gpt.shared import drawn_config, flops_per_token, mixed_config, model, model_shapes
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("flops",))
def count_flops(config: Any, seq: int) -> int:
    """Counted by PyTorch's FlopCounterMode while a model of its operators runs, as shapes without numbers."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        weights = {name: torch.empty(shape) for name, shape in model_shapes(config).items()}
        model(torch.empty(1, seq, dtype=torch.long), weights, config)
    return counter.get_total_flops()


@count_flops.inputs
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
    yield mixed_config(rng, 2, "learned"), 8
    yield mixed_config(rng, 3, "rope"), 10


def _total(config, seq, **changes):
    return seq * flops_per_token(config, seq, **changes)


def _parameters(config):
    """Of the matrices that something is multiplied by, the embedding as head included."""
    return _total(config, 1, products=0, per_add=1)


@count_flops.mistake(hint=1)
def multiply_adds(config, seq):
    """This counts multiply-adds: FLOPs count the multiplication and the addition, two."""
    return _total(config, seq, per_add=1)


@count_flops.mistake(hint=1)
def attention_left_out(config, seq):
    """The products of queries with keys, and of weights with values, are missing: only the matrices are counted, as in
    the rule 2N per token."""
    return _total(config, seq, products=0)


@count_flops.mistake(hint=2)
def values_left_out(config, seq):
    """Half of the attention is missing: there are two products, queries with keys and weights with values, and each is
    counted with the whole square of seq · seq, as PyTorch's counter does."""
    return _total(config, seq, products=1)


@count_flops.mistake(hint=2)
def one_token(config, seq):
    """These are the FLOPs of one token: the text has seq of them."""
    return _total(config, seq) // seq


@count_flops.mistake(hint=2)
def attention_of_one_token(config, seq):
    """Attention is counted for one query: seq queries look at seq keys."""
    return _total(config, seq, products=0) + _total(config, seq, products=2) // seq - _total(config, 1, products=0)


@count_flops.mistake(hint=2)
def hidden_places_left_out(config, seq):
    """The places that the mask hides are left out: PyTorch's counter, like most, counts the whole square of seq · seq,
    and this exercise does."""
    return _total(config, seq, seen=(seq + 1) / (2 * seq))


@count_flops.mistake(hint=2)
def keys_and_values_of_all_heads(config, seq):
    """The projections k_proj and v_proj are counted with n_heads: they have n_kv_heads · d_head rows."""
    return _total(config, seq, kv_heads=config.mixer.n_heads)


@count_flops.mistake(hint=2)
def attention_of_the_kv_heads(config, seq):
    """Attention is counted with n_kv_heads: every query head has its own scores, shared keys or not."""
    share = config.mixer.n_kv_heads / config.mixer.n_heads
    return _total(config, seq, seen=share)


@count_flops.mistake(hint=2)
def always_two_matrices(config, seq):
    """The feed-forward always has two matrices here: SwiGLU has three."""
    return _total(config, seq, matrices=2)


@count_flops.mistake(hint=2)
def always_three_matrices(config, seq):
    """The feed-forward always has three matrices here: only SwiGLU has a gate_proj."""
    return _total(config, seq, matrices=3)


@count_flops.mistake(hint=1)
def head_forgotten(config, seq):
    """The head is missing: tied or not, the stream is multiplied by a matrix of vocab_size rows."""
    return _total(config, seq, head=0)


@count_flops.mistake(hint=1)
def head_only_if_untied(config, seq):
    """A tied head is left out: it has no parameters of its own, and the multiplication takes place all the same."""
    return _total(config, seq, head=0 if config.tie_embeddings else 1)


@count_flops.mistake(hint=1)
def embedding_multiplied(config, seq):
    """The embedding is counted as a product: it is a lookup and costs none."""
    return _total(config, seq, head=2)


@count_flops.mistake(hint=1)
def every_matrix_of_an_untied_model(config, seq):
    """Both the embedding and the head are counted where there are two: the embedding is a lookup and costs none."""
    return _total(config, seq, head=1 if config.tie_embeddings else 2)


@count_flops.mistake(hint=3)
def one_block(config, seq):
    """Only one block is counted: there are n_layers."""
    return _total(config, seq, layers=1)


@count_flops.mistake(hint=3)
def head_in_each_block(config, seq):
    """Are the brackets in the right place? The head is multiplied by n_layers, too: only the blocks are repeated."""
    return config.n_layers * _total(config, seq, layers=1)


@count_flops.mistake(hint=1)
def training(config, seq):
    """This is three times too much, forward and backward: count the forward pass."""
    return 3 * _total(config, seq)


@count_flops.mistake(hint=1)
def six_per_parameter(config, seq):
    """This is 6 FLOPs for each parameter and token, a rule for training that leaves attention out: count the products
    of the forward pass."""
    return 6 * seq * _parameters(config)


@count_flops.mistake(hint=2)
def one_projection_left_out(config, seq):
    """One projection of attention is missing: q_proj, k_proj, v_proj and o_proj."""
    return _total(config, seq) - 2 * seq * config.n_layers * config.d_model * config.mixer.n_heads * config.mixer.d_head


@count_flops.mistake(hint=2)
def width_of_one_head(config, seq):
    """Attention is counted for one head: there are n_heads, together as wide as q_proj."""
    return _total(config, seq, seen=1 / config.mixer.n_heads)


@count_flops.mistake(hint=3)
def a_float(config, seq):
    """The number is right, and a float: division with `/` makes one. Return an int."""
    return float(_total(config, seq))


@count_flops.mistake(hint=2)
def attention_as_wide_as_the_model(config, seq):
    """Attention is counted as d_model wide: its heads together have n_heads · d_head numbers, which another config may
    choose differently."""
    return _total(config, seq, seen=config.d_model / (config.mixer.n_heads * config.mixer.d_head))


@count_flops.mistake(hint=1)
def head_of_the_last_token(config, seq):
    """The head is multiplied for the last token only: it gives logits at every position."""
    return _total(config, seq, head=0) + 2 * config.vocab_size * config.d_model


@count_flops.mistake(hint=2)
def longest_text(config, seq):
    """Attention is counted over max_seq_len keys: the text has seq of them."""
    without = _total(config, seq, products=0)
    return without + (_total(config, seq) - without) * config.max_seq_len // seq


@count_flops.mistake(hint=2)
def feed_forward_forgotten(config, seq):
    """The feed-forward is missing."""
    return _total(config, seq, matrices=0)


@count_flops.mistake(hint=1)
def two_per_parameter(config, seq):
    """This is the rule of thumb, 2 FLOPs for each parameter and token, norms and embedding included: it leaves
    attention out. Count the products."""
    own = model_shapes(config).values()
    return 2 * seq * sum(torch.Size(shape).numel() for shape in own)


@count_flops.mistake(hint=2)
def attention_of_the_width(config, seq):
    """Attention is counted with the square of the width: it multiplies seq queries with seq keys, so one of the two is
    seq."""
    without = _total(config, seq, products=0)
    return without + (_total(config, seq) - without) * config.mixer.n_heads * config.mixer.d_head // seq


@count_flops.mistake(hint=1)
def biases_counted(config, seq):
    """The biases of q, k and v are counted: additions of biases are not, only matrix products."""
    mixer = config.mixer
    biases = mixer.bias * (mixer.n_heads + 2 * mixer.n_kv_heads) * mixer.d_head
    return _total(config, seq) + 2 * seq * config.n_layers * biases


@count_flops.mistake(hint=1)
def counted_on_the_model(config, seq):
    """This runs the model to count, and the configs of the check are plain numbers, not for `GPT`: count from the
    numbers of the config alone."""
    return config.resolved()


@count_flops.finished
def closed_form(config, seq):
    mixer, feed, d = config.mixer, config.feedforward, config.d_model
    queries, keys = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    matrices = 3 if feed.activation == "swiglu" else 2
    block = 2 * d * (queries + keys) + 2 * queries * seq + matrices * d * feed.d_ff
    return 2 * seq * (config.n_layers * block + d * config.vocab_size)


@count_flops.accepted
def product_after_product(config, seq):
    mixer, feed, d = config.mixer, config.feedforward, config.d_model
    flops = 0
    for _ in range(config.n_layers):
        for rows in (mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads, mixer.n_heads):
            flops += 2 * seq * d * rows * mixer.d_head
        for _ in range(mixer.n_heads):
            flops += 2 * (2 * seq * seq * mixer.d_head)
        flops += (6 if feed.activation == "swiglu" else 4) * seq * d * feed.d_ff
    return flops + 2 * seq * d * config.vocab_size


@count_flops.accepted
def counted_as_it_runs(config, seq):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        weights = {name: torch.zeros(shape) for name, shape in model_shapes(config).items()}
        model(torch.zeros(1, seq, dtype=torch.long), weights, config)
    return counter.get_total_flops()
