"""Exercise `count_parameters`: the size of a model, from its config alone."""

from typing import Any

import torch
from torch import nn

from pocketgpt.course.ch10_the_gpt.shared import drawn_config, mixed_config, model_shapes
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, hints=("a nudge", "the numbers", "pseudocode"), returns=("parameters",))
def count_parameters(config: Any) -> int:
    """Counted on PyTorch's own layers, as shapes without memory; tests hold it equal to the counts of transformers'
    Llama and GPT-2."""
    mixer, feedforward, d = config.mixer, config.feedforward, config.d_model
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head

    def norm() -> nn.Module:
        if config.norm == "rmsnorm":
            return nn.RMSNorm(d, elementwise_affine=config.norm_weight)
        return nn.LayerNorm(d, elementwise_affine=config.norm_weight, bias=config.norm_bias)

    with torch.device("meta"):
        layers: list[nn.Module] = [nn.Embedding(config.vocab_size, d), norm()]
        layers += [nn.Embedding(config.max_seq_len, d)] if config.positions == "learned" else []
        layers += [norm()] if config.embedding_norm else []
        layers += [] if config.tie_embeddings else [nn.Linear(d, config.vocab_size, bias=False)]
        for _ in range(config.n_layers):
            layers += [norm(), norm()]
            layers += [nn.Linear(d, width, bias=mixer.bias) for width in (wide, narrow, narrow)]
            layers += [nn.Linear(wide, d, bias=mixer.output_bias)]
            for _ in range(2 if feedforward.activation == "swiglu" else 1):
                layers += [nn.Linear(d, feedforward.d_ff, bias=feedforward.bias)]
            layers += [nn.Linear(feedforward.d_ff, d, bias=feedforward.bias)]
    return sum(each.numel() for layer in layers for each in layer.parameters())


@count_parameters.inputs
def _(rng):
    for kind, layers, tied in [
        ("llama", 2, True),
        ("gpt2", 3, True),
        ("brain", 2, True),
        ("pocket", 3, False),
        ("llama", 3, False),
        ("gpt2", 2, True),
        ("brain", 3, False),
        ("pocket", 2, True),
    ]:
        yield (drawn_config(rng, kind, layers, tied),)
    yield (mixed_config(rng, 3, "learned"),)
    yield (mixed_config(rng, 2, "rope"),)


def _parts(config):
    """Parameters of each part, by name; those of one block."""
    mixer, feed, d = config.mixer, config.feedforward, config.d_model
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    matrices = 3 if feed.activation == "swiglu" else 2
    norm = d * (config.norm_weight + config.norm_bias)
    return {
        "embedding": config.vocab_size * d,
        "head": 0 if config.tie_embeddings else config.vocab_size * d,
        "positions": config.max_seq_len * d if config.positions == "learned" else 0,
        "embedding norm": norm * config.embedding_norm,
        "final norm": norm,
        "norms": 2 * norm,
        "projections": d * (2 * wide + 2 * narrow),
        "biases": (wide + 2 * narrow) * mixer.bias,
        "output bias": d * mixer.output_bias,
        "matrices": matrices * d * feed.d_ff,
        "feed-forward biases": ((matrices - 1) * feed.d_ff + d) * feed.bias,
    }


BLOCK = ("norms", "projections", "biases", "output bias", "matrices", "feed-forward biases")


def _total(config, layers=None, **changes):
    """Right, with some parts replaced by the numbers given."""
    parts = _parts(config) | {
        name.replace("_", " ").replace("feed forward", "feed-forward"): n for name, n in changes.items()
    }
    layers = config.n_layers if layers is None else layers
    return sum((layers if name in BLOCK else 1) * number for name, number in parts.items())


@count_parameters.mistake(hint=1)
def tied_matrix_twice(config):
    """The head is always counted: where `config.tie_embeddings` is True it is the embedding, one matrix for both."""
    return _total(config, head=config.vocab_size * config.d_model)


@count_parameters.mistake(hint=1)
def head_never_counted(config):
    """The head is never counted: where `config.tie_embeddings` is False it is a matrix of its own."""
    return _total(config, head=0)


@count_parameters.mistake(hint=1)
def tying_upside_down(config):
    """The two cases of the head are exchanged: tied means that there is no second matrix."""
    return _total(config, head=config.vocab_size * config.d_model if config.tie_embeddings else 0)


@count_parameters.mistake(hint=2)
def keys_and_values_of_all_heads(config):
    """The projections k_proj and v_proj are counted with n_heads: they have n_kv_heads · d_head rows."""
    return _total(config, projections=4 * config.d_model * config.mixer.n_heads * config.mixer.d_head)


@count_parameters.mistake(hint=2)
def three_projections(config):
    """One projection of attention is missing: q_proj, k_proj, v_proj and o_proj."""
    mixer = config.mixer
    return _total(config, projections=config.d_model * mixer.d_head * (mixer.n_heads + 2 * mixer.n_kv_heads))


@count_parameters.mistake(hint=2)
def always_two_matrices(config):
    """The feed-forward always has two matrices here: SwiGLU has three, gate_proj, up_proj and down_proj."""
    return _total(config, matrices=2 * config.d_model * config.feedforward.d_ff)


@count_parameters.mistake(hint=2)
def always_three_matrices(config):
    """The feed-forward always has three matrices here: only SwiGLU has a gate_proj."""
    return _total(config, matrices=3 * config.d_model * config.feedforward.d_ff)


@count_parameters.mistake(hint=2)
def one_matrix_for_the_feed_forward(config):
    """The matrix down_proj is missing: the feed-forward also has a way back to d_model."""
    parts = _parts(config)["matrices"] - config.d_model * config.feedforward.d_ff
    return _total(config, matrices=parts)


@count_parameters.mistake(hint=1)
def norms_forgotten(config):
    """The norms are missing: each has d_model weights where `config.norm_weight` is True, two norms a block and one
    before the head."""
    return _total(config, norms=0, final_norm=0, embedding_norm=0)


@count_parameters.mistake(hint=1)
def final_norm_forgotten(config):
    """The norm before the head is missing."""
    return _total(config, final_norm=0)


@count_parameters.mistake(hint=1)
def one_norm_a_block(config):
    """Each block is counted with one norm: it has two, mixer_norm and feedforward_norm."""
    return _total(config, norms=_parts(config)["final norm"])


@count_parameters.mistake(hint=1)
def final_norm_in_each_block(config):
    """The norm before the head is counted in every block: there is one, after the last."""
    return _total(config, norms=3 * _parts(config)["final norm"], final_norm=0)


@count_parameters.mistake(hint=2)
def norms_always_with_weights(config):
    """The norms are counted with weights in every model: where `config.norm_weight` is False they have none."""
    width = config.d_model * (1 + config.norm_bias)
    return _total(config, norms=2 * width, final_norm=width, embedding_norm=width * config.embedding_norm)


@count_parameters.mistake(hint=2)
def shift_of_the_norms_forgotten(config):
    """The norms are counted without their shift: where `config.norm_bias` is True each has d_model more."""
    width = config.d_model * config.norm_weight
    return _total(config, norms=2 * width, final_norm=width, embedding_norm=width * config.embedding_norm)


@count_parameters.mistake(hint=2)
def biases_everywhere(config):
    """Biases are counted for every projection in every model: only where the config says so."""
    mixer, feed = config.mixer, config.feedforward
    matrices = 2 if feed.activation == "swiglu" else 1
    return _total(
        config,
        biases=(mixer.n_heads + 2 * mixer.n_kv_heads) * mixer.d_head,
        output_bias=config.d_model,
        feed_forward_biases=matrices * feed.d_ff + config.d_model,
    )


@count_parameters.mistake(hint=2)
def no_biases(config):
    """The biases are missing: where the config says so, each projection has as many as it has rows."""
    return _total(config, biases=0, output_bias=0, feed_forward_biases=0)


@count_parameters.mistake(hint=2)
def attention_biases_forgotten(config):
    """The biases of attention are missing: `config.mixer.bias` is for q, k and v, `config.mixer.output_bias` for
    o_proj."""
    return _total(config, biases=0, output_bias=0)


@count_parameters.mistake(hint=2)
def feed_forward_biases_forgotten(config):
    """The biases of the feed-forward are missing, `config.feedforward.bias`."""
    return _total(config, feed_forward_biases=0)


@count_parameters.mistake(hint=2)
def output_bias_forgotten(config):
    """The bias of o_proj is missing, `config.mixer.output_bias`."""
    return _total(config, output_bias=0)


@count_parameters.mistake(hint=1)
def table_of_positions_forgotten(config):
    """The table of learned positions is missing: max_seq_len rows where `config.positions` is "learned"."""
    return _total(config, positions=0)


@count_parameters.mistake(hint=1)
def table_of_positions_everywhere(config):
    """A table of positions is counted in every model: RoPE turns by angles and has no parameters."""
    return _total(config, positions=config.max_seq_len * config.d_model)


@count_parameters.mistake(hint=1)
def one_block(config):
    """Only one block is counted: there are n_layers, each with its own weights."""
    return _total(config, layers=1)


@count_parameters.mistake(hint=1)
def embedding_forgotten(config):
    """The embedding is missing: vocab_size rows of d_model numbers."""
    return _total(config, embedding=0)


@count_parameters.mistake(hint=3)
def everything_times_the_layers(config):
    """Are the brackets in the right place? The embedding, or what else occurs once, is multiplied by n_layers, too:
    only the blocks are repeated."""
    return config.n_layers * _total(config, layers=1)


@count_parameters.mistake(hint=2)
def width_of_four(config):
    """The feed-forward is counted with 4 · d_model: its width is config.feedforward.d_ff."""
    matrices = 3 if config.feedforward.activation == "swiglu" else 2
    bias = ((matrices - 1) * 4 * config.d_model + config.d_model) * config.feedforward.bias
    return _total(config, matrices=matrices * config.d_model * 4 * config.d_model, feed_forward_biases=bias)


@count_parameters.mistake(hint=2)
def width_of_the_model(config):
    """The heads are counted as d_model wide: together they have n_heads · d_head rows, which another config may choose
    differently."""
    mixer, d = config.mixer, config.d_model
    narrow = mixer.n_kv_heads * mixer.d_head
    return _total(config, projections=2 * d * (d + narrow), biases=(d + 2 * narrow) * mixer.bias)


@count_parameters.mistake(hint=2)
def biases_of_keys_and_values_forgotten(config):
    """Only the bias of q_proj is counted: k_proj and v_proj have one, too, of n_kv_heads · d_head numbers."""
    return _total(config, biases=config.mixer.n_heads * config.mixer.d_head * config.mixer.bias)


@count_parameters.mistake(hint=2)
def bias_of_down_proj_forgotten(config):
    """The bias of down_proj is missing: d_model numbers."""
    return _total(
        config, feed_forward_biases=_parts(config)["feed-forward biases"] - config.d_model * config.feedforward.bias
    )


@count_parameters.mistake(hint=2)
def bias_of_the_gate_forgotten(config):
    """The bias of gate_proj is missing: with SwiGLU, two matrices have d_ff rows."""
    return _total(config, feed_forward_biases=(config.feedforward.d_ff + config.d_model) * config.feedforward.bias)


@count_parameters.mistake(hint=2)
def output_bias_where_the_others_have_one(config):
    """The bias of o_proj is counted where `config.mixer.bias` is True: it has a switch of its own, output_bias."""
    return _total(config, output_bias=config.d_model * config.mixer.bias)


@count_parameters.mistake(hint=1)
def norm_of_the_embedding_forgotten(config):
    """The norm after the embedding is missing, where `config.embedding_norm` is True."""
    return _total(config, embedding_norm=0)


@count_parameters.mistake(hint=3)
def norms_of_one_block(config):
    """The two norms of a block are counted once: they belong to the block, and there are n_layers."""
    return _total(config, norms=0) + _parts(config)["norms"]


@count_parameters.mistake(hint=2)
def as_many_keys_as_queries(config):
    """Keys and values are counted with n_heads, weights and biases: k_proj and v_proj have n_kv_heads · d_head rows."""
    wide = config.mixer.n_heads * config.mixer.d_head
    return _total(config, projections=4 * config.d_model * wide, biases=3 * wide * config.mixer.bias)


@count_parameters.mistake(hint=2)
def a_gate_in_every_model(config):
    """A gate_proj is counted in every model, with its bias: only SwiGLU has one."""
    return _total(config, **_feed_forward(config, 2))


@count_parameters.mistake(hint=2)
def a_gate_in_no_model(config):
    """No gate_proj is counted, and no bias of it: SwiGLU has one, beside up_proj."""
    return _total(config, **_feed_forward(config, 1))


def _feed_forward(config, inward):
    """Counted with that many matrices on the way in."""
    feed, d = config.feedforward, config.d_model
    return dict(
        matrices=(inward + 1) * d * feed.d_ff,
        feed_forward_biases=(inward * feed.d_ff + d) * feed.bias,
    )


@count_parameters.mistake(hint=2)
def output_bias_as_wide_as_the_queries(config):
    """The bias of o_proj is counted with n_heads · d_head numbers: o_proj returns d_model, so its bias has d_model."""
    mixer = config.mixer
    return _total(config, output_bias=mixer.n_heads * mixer.d_head * mixer.output_bias)


@count_parameters.mistake(hint=1)
def vocabulary_written_down(config):
    """The vocabulary is written down, 4,096 as in the pocket model: it is config.vocab_size."""
    matrix = 4096 * config.d_model
    return _total(config, embedding=matrix, head=0 if config.tie_embeddings else matrix)


@count_parameters.mistake(hint=1)
def bias_of_the_head(config):
    """The head is counted with a bias: these models have none there."""
    return _total(config) + (0 if config.tie_embeddings else config.vocab_size)


@count_parameters.mistake(hint=1)
def counted_on_the_model(config):
    """This builds the model to count what it has, and the configs of the check are plain numbers, not for `GPT`: count
    from the numbers of the config alone."""
    return config.resolved()


@count_parameters.finished
def part_by_part(config):
    mixer, feed, d = config.mixer, config.feedforward, config.d_model
    queries, keys = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    inward = 2 if feed.activation == "swiglu" else 1
    norm = d * (config.norm_weight + config.norm_bias)
    attention = 2 * d * (queries + keys) + mixer.bias * (queries + 2 * keys) + mixer.output_bias * d
    feed_forward = (inward + 1) * d * feed.d_ff + feed.bias * (inward * feed.d_ff + d)
    total = config.vocab_size * d * (1 if config.tie_embeddings else 2)
    if config.positions == "learned":
        total += config.max_seq_len * d
    if config.embedding_norm:
        total += norm
    return total + config.n_layers * (attention + feed_forward + 2 * norm) + norm


@count_parameters.accepted
def from_the_shapes(config):
    return sum(torch.Size(shape).numel() for shape in model_shapes(config).values())


@count_parameters.accepted
def layer_after_layer(config):
    total = 0
    for _ in range(config.n_layers):
        total += sum(number for name, number in _parts(config).items() if name in BLOCK)
    return total + sum(number for name, number in _parts(config).items() if name not in BLOCK)
