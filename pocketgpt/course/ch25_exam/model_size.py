"""Exercise `model_size`: parameters of a model of parallel blocks."""

from typing import Any

import torch
from torch import nn

from pocketgpt.course.ch25_exam.shared import drawn_budget_config
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, hints=(), returns=("parameters",), tolerance=1e-9)
def model_size(config: Any) -> int:
    """Counted on PyTorch's own layers, as shapes without memory."""
    mixer, d, d_ff = config.mixer, config.d_model, config.feedforward.d_ff
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    with torch.device("meta"):
        layers: list[nn.Module] = [nn.Embedding(config.vocab_size, d), nn.RMSNorm(d)]
        layers += [] if config.tie_embeddings else [nn.Linear(d, config.vocab_size, bias=False)]
        for _ in range(config.n_layers):
            layers += [nn.RMSNorm(d), nn.RMSNorm(mixer.d_head), nn.RMSNorm(mixer.d_head)]
            layers += [nn.Linear(d, width, bias=False) for width in (wide, narrow, narrow, d_ff, d_ff)]
            layers += [nn.Linear(width, d, bias=False) for width in (wide, d_ff)]
    return sum(each.numel() for layer in layers for each in layer.parameters())


@model_size.inputs
def _(rng):
    for i in range(6):
        yield (drawn_budget_config(rng, tied=bool(i % 2)),)


def _total(config, layers=None, embeddings=None, final=1, **changes):
    """Right, unless something is changed: parameters of a part of a block by its name, or how often it is there."""
    mixer, d, d_ff = config.mixer, config.d_model, config.feedforward.d_ff
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    parts = {
        "norm": d,
        "qk": 2 * mixer.d_head,
        "projections": d * (2 * wide + 2 * narrow),
        "feedforward": 3 * d * d_ff,
    }
    if embeddings is None:
        embeddings = 1 if config.tie_embeddings else 2
    block = sum((parts | changes).values())
    return embeddings * config.vocab_size * d + final * d + (config.n_layers if layers is None else layers) * block


@model_size.mistake
def two_norms(config):
    """A second norm of d_model is counted in each block: the parallel block has one."""
    return _total(config, norm=2 * config.d_model)


@model_size.mistake
def block_norm_forgotten(config):
    """The norm of each block is missing: d_model weights."""
    return _total(config, norm=0)


@model_size.mistake
def qk_norms_forgotten(config):
    """The weights of QK-norm are missing: d_head for the queries and d_head for the keys in each block."""
    return _total(config, qk=0)


@model_size.mistake
def one_qk_norm(config):
    """QK-norm is counted once in each block: queries and keys have a weight each."""
    return _total(config, qk=config.mixer.d_head)


@model_size.mistake
def qk_norm_of_each_head(config):
    """QK-norm is counted for each head: all heads share one weight of d_head numbers."""
    return _total(config, qk=(config.mixer.n_heads + config.mixer.n_kv_heads) * config.mixer.d_head)


@model_size.mistake
def qk_norms_as_wide_as_the_model(config):
    """QK-norm is counted with d_model numbers: it acts on one head, so it has d_head."""
    return _total(config, qk=2 * config.d_model)


@model_size.mistake
def final_norm_forgotten(config):
    """The norm before the head is missing."""
    return _total(config, final=0)


@model_size.mistake
def all_norms_forgotten(config):
    """All norms are missing: a norm has a weight for each number that it normalizes."""
    return _total(config, norm=0, qk=0, final=0)


@model_size.mistake
def tied_counted_twice(config):
    """The embedding is counted twice where the head is tied: then one matrix serves both."""
    return _total(config, embeddings=2)


@model_size.mistake
def untied_counted_once(config):
    """Embedding and head are counted once where the head is not tied: then there are two matrices."""
    return _total(config, embeddings=1)


@model_size.mistake
def tied_the_other_way_round(config):
    """The condition is the wrong way round: a tied head is the embedding, one matrix, and an untied one is a second."""
    return _total(config, embeddings=2 if config.tie_embeddings else 1)


@model_size.mistake
def embeddings_forgotten(config):
    """The embedding is missing: vocab_size · d_model."""
    return _total(config, embeddings=0 if config.tie_embeddings else 1)


@model_size.mistake
def all_heads_have_keys(config):
    """The projections k_proj and v_proj are counted with n_heads: they have n_kv_heads · d_head rows."""
    mixer = config.mixer
    return _total(config, projections=4 * config.d_model * mixer.n_heads * mixer.d_head)


@model_size.mistake
def all_projections_are_narrow(config):
    """All projections are counted with n_kv_heads: q_proj and o_proj have n_heads."""
    mixer = config.mixer
    return _total(config, projections=4 * config.d_model * mixer.n_kv_heads * mixer.d_head)


@model_size.mistake
def heads_as_wide_as_the_model(config):
    """The projections q_proj and o_proj are counted as d_model · d_model: the heads together are n_heads · d_head
    wide, which may differ."""
    narrow = config.mixer.n_kv_heads * config.mixer.d_head
    return _total(config, projections=2 * config.d_model * (config.d_model + narrow))


@model_size.mistake
def o_proj_as_wide_as_the_model(config):
    """The projection o_proj is counted as d_model · d_model: it has n_heads · d_head columns."""
    d, mixer = config.d_model, config.mixer
    return _total(config, projections=d * (d + mixer.d_head * (mixer.n_heads + 2 * mixer.n_kv_heads)))


@model_size.mistake
def final_norm_in_each_block(config):
    """The norm before the head is counted in each block: it is there once, behind the last one."""
    return _total(config, norm=2 * config.d_model, final=0)


@model_size.mistake
def embedding_and_head_forgotten(config):
    """Embedding and head are missing: vocab_size · d_model for each matrix."""
    return _total(config, embeddings=0)


@model_size.mistake
def one_of_keys_and_values(config):
    """One of k_proj and v_proj is missing."""
    mixer = config.mixer
    return _total(config, projections=config.d_model * mixer.d_head * (2 * mixer.n_heads + mixer.n_kv_heads))


@model_size.mistake
def o_proj_forgotten(config):
    """One projection of n_heads · d_head is missing: there are q_proj and o_proj."""
    mixer = config.mixer
    return _total(config, projections=config.d_model * mixer.d_head * (mixer.n_heads + 2 * mixer.n_kv_heads))


@model_size.mistake
def two_matrices(config):
    """The feed-forward is counted with two matrices: SwiGLU has three."""
    return _total(config, feedforward=2 * config.d_model * config.feedforward.d_ff)


@model_size.mistake
def four_times_as_wide(config):
    """The feed-forward is counted as 4 · d_model wide: it is d_ff."""
    return _total(config, feedforward=12 * config.d_model**2)


@model_size.mistake
def one_block(config):
    """Only one block is counted: there are n_layers."""
    return _total(config, layers=1)


@model_size.mistake
def window_counted(config):
    """The window is counted as weights: a mask has none."""
    return _total(config) + config.n_layers * config.mixer.window


@model_size.mistake
def positions_counted(config):
    """A table of positions is counted: RoPE has no weights."""
    return _total(config) + config.max_seq_len * config.d_model


@model_size.mistake
def a_float(config):
    """The number is right, and a float: division with `/` makes one. Return an int."""
    return float(_total(config))


@model_size.finished
def part_by_part(config: Any) -> int:
    mixer, d = config.mixer, config.d_model
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    attention = 2 * d * (wide + narrow) + 2 * mixer.d_head
    feedforward = 3 * d * config.feedforward.d_ff
    matrices = 1 if config.tie_embeddings else 2
    return config.n_layers * (d + attention + feedforward) + d + matrices * config.vocab_size * d


@model_size.accepted
def block_after_block(config):
    mixer, d = config.mixer, config.d_model
    total = config.vocab_size * d + d
    if not config.tie_embeddings:
        total += config.vocab_size * d
    for _ in range(config.n_layers):
        total += d
        for heads in (mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads, mixer.n_heads):
            total += d * heads * mixer.d_head
        total += mixer.d_head + mixer.d_head
        total += d * config.feedforward.d_ff * 3
    return total


@model_size.accepted
def of_the_shapes(config):
    mixer, d, d_ff = config.mixer, config.d_model, config.feedforward.d_ff
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    vectors = [(d,), (mixer.d_head,), (mixer.d_head,)]
    matrices = [(wide, d), (narrow, d), (narrow, d), (d, wide), (d_ff, d), (d_ff, d), (d, d_ff)]
    block = sum(torch.Size(shape).numel() for shape in vectors + matrices)
    vocab = config.vocab_size
    return config.n_layers * block + d * (1 + vocab + vocab * (not config.tie_embeddings))
