"""Exercise `gpt`: the whole model, from its weights by name."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch10_the_gpt.shared import (
    Config,
    FeedForwardPart,
    Mixer,
    Rope,
    block,
    drawn_config,
    drawn_rope,
    drawn_weights,
    linear,
    mixed_config,
    model,
    model_shapes,
    norm,
    of_block,
)
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.course.lab import finished_gpt as parts


@exercise(
    points=3,
    returns=("logits",),
    replaces="whole_model",
    seconds=20.0,
    tolerance=1e-3,
    dtype=torch.float32,
    gradients=("weights",),
)
def gpt(tokens: Tensor, weights: dict[str, Tensor], config: Any) -> Float[Tensor, "batch seq vocab"]:
    """A model of PyTorch's operators; tests hold it equal to transformers' LlamaForCausalLM and GPT2LMHeadModel."""
    return model(tokens, weights, config)


@gpt.inputs
def _(rng):
    for kind, tied, batch, seq in [
        ("llama", True, 2, 5),
        ("gpt2", True, 2, 6),
        ("brain", True, 3, 4),
        ("pocket", False, 2, 7),
        ("llama", False, 3, 5),
        ("gpt2", True, 1, 4),
        ("llama", True, 2, 1),
        ("pocket", True, 2, 8),
    ]:
        config = drawn_config(rng, kind, tied=tied)
        tokens = torch.randint(config.vocab_size, (batch, seq), generator=rng)
        yield tokens, drawn_weights(rng, model_shapes(config)), config
    for positions, batch, seq in [("learned", 2, 5), ("rope", 3, 6)]:
        config = mixed_config(rng, 2, positions)
        config = replace(config, feedforward=replace(config.feedforward, bias=False))  # as `feed_forward` has it
        tokens = torch.randint(config.vocab_size, (batch, seq), generator=rng)
        yield tokens, drawn_weights(rng, model_shapes(config)), config
    many = Config(  # blocks.1 and blocks.10
        vocab_size=7,
        d_model=4,
        n_layers=12,
        max_seq_len=9,
        mixer=Mixer(2, 1, 2),
        feedforward=FeedForwardPart("swiglu", 6),
        positions="rope",
        norm="rmsnorm",
        norm_eps=0.1,
        rope=Rope(50.0),
    )
    weights = drawn_weights(rng, model_shapes(many))
    # Smaller ones: through twelve layers rounding errors would grow as differences do.
    weights = {
        name: weight / 2 if ".mixer." in name or ".feedforward." in name else weight for name, weight in weights.items()
    }
    yield torch.randint(7, (2, 5), generator=rng), weights, many


@gpt.mistake(hint=1)
def final_norm_forgotten(tokens, weights, config):
    """The norm before the head is missing: final_norm comes after the last block."""
    return model(tokens, weights, config, last=False)


@gpt.mistake(hint=2)
def first_block_again_and_again(tokens, weights, config):
    """Every block computes with the weights of blocks.0: each has its own, blocks.0, blocks.1 and so on."""
    return model(tokens, weights, config, blocks=[0] * config.n_layers)


@gpt.mistake(hint=2)
def last_block_again_and_again(tokens, weights, config):
    """Every block computes with the weights of the last one: each has its own, blocks.0, blocks.1 and so on."""
    return model(tokens, weights, config, blocks=[config.n_layers - 1] * config.n_layers)


@gpt.mistake(hint=2)
def blocks_backward(tokens, weights, config):
    """The blocks run from the last to the first: blocks.0 comes first."""
    return model(tokens, weights, config, blocks=list(range(config.n_layers))[::-1])


@gpt.mistake(hint=3)
def last_block_left_out(tokens, weights, config):
    """The last block is left out: there are n_layers, and `range(n_layers)` ends before n_layers by itself."""
    return model(tokens, weights, config, blocks=range(config.n_layers - 1))


@gpt.mistake(hint=3)
def first_block_left_out(tokens, weights, config):
    """The first block is left out: they count from 0."""
    return model(tokens, weights, config, blocks=range(1, config.n_layers))


@gpt.mistake(hint=1)
def only_one_block(tokens, weights, config):
    """Only blocks.0 runs: a `return` inside the loop ends it after the first block."""
    return model(tokens, weights, config, blocks=[0])


@gpt.mistake(hint=2)
def prefix_without_the_dot(tokens, weights, config):
    """With twelve blocks, blocks.1 gets tensors of blocks.10 and blocks.11: end the prefix with a dot, "blocks.1."."""
    return _by_prefix(tokens, weights, config)


def _by_prefix(tokens, weights, config):
    mixed = dict(weights)
    for i in range(config.n_layers):
        found = {name: weight for name, weight in weights.items() if name.startswith(f"blocks.{i}")}
        mixed |= {f"blocks.{i}.{name.split('.', 2)[2]}": weight for name, weight in found.items()}
    return model(tokens, mixed, config)


@gpt.mistake(hint=1)
def positions_forgotten(tokens, weights, config):
    """Learned positions are not added: where `config.positions` is "learned", add the table to the embedding."""
    return model(tokens, weights, config, positions=False)


@gpt.mistake(hint=1)
def rotated_although_learned(tokens, weights, config):
    """Queries and keys are rotated in every model: where `config.positions` is "learned", positions are added, and
    the block gets `None` for `rope`."""
    seq, heads = tokens.shape[1], config.mixer
    turns = config.rope.theta ** (-torch.arange(0, heads.d_head, 2) / heads.d_head)
    angles = torch.arange(seq)[:, None] * turns
    return model(tokens, weights, config, rope=(angles.cos(), angles.sin()))


@gpt.mistake(hint=1)
def never_rotated(tokens, weights, config):
    """Nothing is rotated: where `config.positions` is "rope", the blocks need the cosines and sines."""
    zeros = torch.zeros(tokens.shape[1], config.mixer.d_head // 2)
    return model(tokens, weights, config, rope=(zeros.cos(), zeros) if config.positions == "rope" else None)


@gpt.mistake(hint=2)
def theta_written_down(tokens, weights, config):
    """The angles have the theta 10,000 whatever the config says: it is config.rope.theta."""
    return _rotating(tokens, weights, config, theta=10_000.0)


@gpt.mistake(hint=2)
def frequencies_of_the_model_width(tokens, weights, config):
    """The frequencies belong to d_model: they are made for the width of a head, config.mixer.d_head, and you cut
    them."""
    return _rotating(tokens, weights, config, width=config.d_model)


@gpt.mistake(hint=2)
def positions_backward(tokens, weights, config):
    """The angles count backward: token t is at position t."""
    return _rotating(tokens, weights, config, sign=-1)


def _rotating(tokens, weights, config, theta=None, width=None, sign=1):
    """Right, with other angles where the config rotates."""
    if config.positions != "rope":
        return model(tokens, weights, config)
    half, width = config.mixer.d_head // 2, width or config.mixer.d_head
    turns = (theta or config.rope.theta) ** (-torch.arange(0, width, 2)[:half] / width)
    angles = sign * torch.arange(tokens.shape[1])[:, None] * turns
    return model(tokens, weights, config, rope=(angles.cos(), angles.sin()))


@gpt.mistake(hint=1)
def learned_positions_from_one(tokens, weights, config):
    """Learned positions begin at 1: the first token is at position 0."""
    return model(tokens, weights, config, start=1)


@gpt.mistake(hint=1)
def embedding_norm_forgotten(tokens, weights, config):
    """The norm after the embedding is missing: where `config.embedding_norm` is True, it comes before the blocks."""
    return model(tokens, weights, config, first=False)


@gpt.mistake(hint=1)
def embedding_always_normalized(tokens, weights, config):
    """The embedding is normalized in every model: only where `config.embedding_norm` is True."""

    def embed(x):
        return x if config.embedding_norm else norm(x, {}, "embedding_norm", config)

    return model(tokens, weights, config, embed=embed)


@gpt.mistake(hint=1)
def embedding_multiplied(tokens, weights, config):
    """The embedding is multiplied by √d_model, as in 2017: these models take it as it is."""
    return model(tokens, weights, config, embed=lambda x: x * math.sqrt(config.d_model))


@gpt.mistake(hint=3)
def always_tied(tokens, weights, config):
    """The embedding is used as the head in every model: where there is a "head.weight", that is the head."""
    return model(tokens, weights, config, head="embedding.weight")


@gpt.mistake(hint=1)
def last_token_only(tokens, weights, config):
    """These are the logits of the last token alone: return those of all, (B, T, vocab)."""
    return model(tokens, weights, config)[:, -1]


@gpt.mistake(hint=1)
def first_text_only(tokens, weights, config):
    """These are the logits of the first text alone, without its axis: `tokens` is (B, T)."""
    return model(tokens, weights, config)[0]


@gpt.mistake(hint=1)
def without_the_last_token(tokens, weights, config):
    """The logits of the last token are cut off: the shift belongs to the loss, and the last one writes."""
    return model(tokens, weights, config)[:, :-1]


@gpt.mistake(hint=3)
def probabilities(tokens, weights, config):
    """These are probabilities: return the logits, without a softmax."""
    return model(tokens, weights, config).softmax(-1)


@gpt.mistake(hint=3)
def log_probabilities(tokens, weights, config):
    """These are log-probabilities: return the logits, without a log_softmax."""
    return model(tokens, weights, config).log_softmax(-1)


def _blocks(tokens, weights, config, *, ropes=None, late=False, again=False, head=True):
    """Right, unless: ropes gives each block its own, late moves embedding_norm behind the blocks, again applies
    final_norm after each of them, and head leaves out the head."""
    rope = drawn_rope(config, tokens.shape[1])
    x = weights["embedding.weight"][tokens]
    if config.positions == "learned":
        x = x + weights["positions.embedding.weight"][: tokens.shape[1]]
    if config.embedding_norm and not late:
        x = norm(x, weights, "embedding_norm", config)
    for i in range(config.n_layers):
        x = block(x, of_block(weights, i), ropes(i) if ropes else rope, config)
        x = norm(x, weights, "final_norm", config) if again else x
    if config.embedding_norm and late:
        x = norm(x, weights, "embedding_norm", config)
    x = x if again else norm(x, weights, "final_norm", config)
    matrix = weights.get("head.weight", weights["embedding.weight"])
    return linear(x, {"head.weight": matrix}, "head") if head else x


@gpt.mistake(hint=3)
def head_forgotten(tokens, weights, config):
    """This is the stream after final_norm: the head makes logits of it, (B, T, vocab)."""
    return _blocks(tokens, weights, config, head=False)


@gpt.mistake(hint=2)
def blocks_side_by_side(tokens, weights, config):
    """Every block reads the embedding, and the last one's result is kept: each reads what the block before returned,
    `x = transformer_block(x, …)`."""
    return model(tokens, weights, config, blocks=[config.n_layers - 1])


@gpt.mistake(hint=1)
def final_norm_after_each_block(tokens, weights, config):
    """The norm before the head, final_norm, is applied after every block: once, after the last."""
    return _blocks(tokens, weights, config, again=True)


def _lost(config):
    """The error of a block that does not find its tensors."""
    return KeyError("mixer_norm.weight" if config.norm_weight else "mixer.q_proj.weight")


@gpt.mistake(hint=2)
def names_not_cut(tokens, weights, config):
    """A block does not find its tensors. It looks for names such as "mixer.q_proj.weight", so cut "blocks.0." off, the
    dot included, and pass this dictionary and not `weights`."""
    raise _lost(config)


@gpt.mistake(hint=3)
def four_blocks(tokens, weights, config):
    """There are always four blocks here: their number is config.n_layers."""
    if config.n_layers < 4:
        raise _lost(config)
    return model(tokens, weights, config, blocks=range(4))


@gpt.mistake(hint=1)
def norm_that_is_not_there(tokens, weights, config):
    """The norm after the embedding is looked up in every model: only where `config.embedding_norm` is True."""
    if not config.embedding_norm:
        raise KeyError("embedding_norm.weight")
    return model(tokens, weights, config)


@gpt.mistake(hint=1)
def embedding_norm_before_the_positions(tokens, weights, config):
    """The norm after the embedding comes before the learned positions: add the positions first."""
    if not (config.embedding_norm and config.positions == "learned"):
        return model(tokens, weights, config)
    table = weights["positions.embedding.weight"][: tokens.shape[1]]
    return model(
        tokens,
        weights,
        config,
        embed=lambda x: norm(x, weights, "embedding_norm", config) + table,
        positions=False,
        first=False,
    )


def _as_written(tokens, weights, config, *, width=None, seq=None, cut=True, final="final_norm", head=True):
    """Put together of the finished functions, as in the text: for mistakes that raise what these raise."""
    x, rope = weights["embedding.weight"][tokens], None
    if config.positions == "learned":
        table = weights["positions.embedding.weight"]
        x = parts.add_positions(x, table, 0) if cut else x + table
    else:
        turns = parts.rope_frequencies(width or config.mixer.d_head, config.rope.theta)
        angles = torch.arange(seq or tokens.shape[1])[:, None] * turns
        rope = angles.cos(), angles.sin()
    if config.embedding_norm:
        x = parts.norm(x, weights, "embedding_norm", config)
    for i in range(config.n_layers):
        x = parts.transformer_block(x, of_block(weights, i), rope, config)
    x = parts.norm(x, weights if final else {}, final or "final_norm", config)
    matrix = weights.get("head.weight", weights["embedding.weight"])
    return x @ (matrix.T if head else matrix)


@gpt.mistake(hint=2)
def positions_of_the_longest_text(tokens, weights, config):
    """There are angles for max_seq_len positions: this text has T tokens, `tokens.shape[1]`."""
    return _as_written(tokens, weights, config, seq=config.max_seq_len)


@gpt.mistake(hint=2)
def frequencies_of_a_share_of_the_width(tokens, weights, config):
    """The frequencies are made for d_model // n_heads: a head is config.mixer.d_head wide, which another config may
    choose differently."""
    return _as_written(tokens, weights, config, width=config.d_model // config.mixer.n_heads)


@gpt.mistake(hint=2)
def frequencies_of_few_heads(tokens, weights, config):
    """The frequencies are made for d_model // n_kv_heads: they belong to the width of a head, config.mixer.d_head."""
    return _as_written(tokens, weights, config, width=config.d_model // config.mixer.n_kv_heads)


@gpt.mistake(hint=1)
def whole_table_of_positions(tokens, weights, config):
    """The whole table of positions is added: only its first T rows, one for each token. `add_positions` cuts it."""
    return _as_written(tokens, weights, config, cut=False)


@gpt.mistake(hint=2)
def name_with_its_ending(tokens, weights, config):
    """The norm is given the name "final_norm.weight": it adds ".weight" by itself, so leave the ending out."""
    return _as_written(tokens, weights, config, final="final_norm.weight")


@gpt.mistake(hint=3)
def final_norm_without_weights(tokens, weights, config):
    """The norm before the head does not find "final_norm.weight": give it the dictionary of the whole model."""
    return _as_written(tokens, weights, config, final="")


@gpt.mistake(hint=3)
def head_not_transposed(tokens, weights, config):
    """The head is not transposed: it is (vocab, d_model), and the stream is multiplied by (d_model, vocab)."""
    return _as_written(tokens, weights, config, head=False)


@gpt.mistake(hint=1)
def embedding_norm_after_the_blocks(tokens, weights, config):
    """The norm "embedding_norm" comes after the blocks: it comes before them."""
    return _blocks(tokens, weights, config, late=True)


@gpt.mistake(hint=1)
def embedding_norm_only_with_weights(tokens, weights, config):
    """The norm after the embedding is left out where it has no weights: a norm without them still divides. Ask
    `config.embedding_norm`."""
    return model(tokens, weights, config, first="embedding_norm.weight" in weights)


@gpt.mistake(hint=1)
def rotated_with_another_theta(tokens, weights, config):
    """Models with learned positions are rotated, too: their blocks get `None` for `rope`."""
    if config.positions == "rope":
        return model(tokens, weights, config)
    turns = parts.rope_frequencies(config.mixer.d_head, 10_000.0)
    angles = torch.arange(tokens.shape[1])[:, None] * turns
    return model(tokens, weights, config, rope=(angles.cos(), angles.sin()))


@gpt.mistake(hint=2)
def first_block_not_rotated(tokens, weights, config):
    """The first block is not rotated: all blocks get the same `rope`."""
    rope = drawn_rope(config, tokens.shape[1])
    return _blocks(tokens, weights, config, ropes=lambda i: rope if i else None)


@gpt.finished
def from_operators(tokens, weights, config):
    mixer, learned, activation = config.mixer, config.positions == "learned", config.feedforward.activation
    angles = torch.arange(tokens.shape[1])[:, None] * config.rope.theta ** (
        -torch.arange(0, mixer.d_head, 2) / mixer.d_head
    )
    cos, sin = angles.cos().to(tokens.device), angles.sin().to(tokens.device)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    later = places > places[:, None]

    def normed(x, name):
        weight, bias = weights.get(name + ".weight"), weights.get(name + ".bias")
        if config.norm == "rmsnorm":
            return F.rms_norm(x, x.shape[-1:], weight, config.norm_eps)
        return F.layer_norm(x, x.shape[-1:], weight, bias, config.norm_eps)

    def projected(x, name):
        return F.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))

    def heads(x, name):
        return projected(x, name).unflatten(-1, (-1, mixer.d_head)).transpose(1, 2)

    def turned(x):
        if learned:
            return x
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def feed_forward(x, name):
        hidden = projected(x, name + ".up_proj")
        if activation == "swiglu":
            hidden = F.silu(projected(x, name + ".gate_proj")) * hidden
        elif activation == "relu2":
            hidden = F.relu(hidden) ** 2
        else:
            hidden = F.gelu(hidden, approximate="tanh" if "tanh" in activation else "none")
        return projected(hidden, name + ".down_proj")

    x = weights["embedding.weight"][tokens]
    if learned:
        x = x + weights["positions.embedding.weight"][: tokens.shape[1]]
    if config.embedding_norm:
        x = normed(x, "embedding_norm")
    for i in range(config.n_layers):
        name = f"blocks.{i}."
        h = normed(x, name + "mixer_norm")
        q, k, v = (heads(h, f"{name}mixer.{each}_proj") for each in "qkv")
        groups = turned(q).unflatten(1, (mixer.n_kv_heads, -1))  # (B, H_kv, H/H_kv, T, d_head)
        scores = groups @ turned(k)[:, :, None].mT / math.sqrt(mixer.d_head)
        y = (scores.masked_fill(later, -math.inf).softmax(-1) @ v[:, :, None]).flatten(1, 2)
        x = x + projected(y.transpose(1, 2).flatten(2), name + "mixer.o_proj")
        x = x + feed_forward(normed(x, name + "feedforward_norm"), name + "feedforward")
    head = weights["head.weight"] if "head.weight" in weights else weights["embedding.weight"]
    return normed(x, "final_norm") @ head.T


@gpt.accepted
def as_the_config_says(tokens, weights, config):
    own = dict(weights)
    if config.tie_embeddings:
        own["head.weight"] = own["embedding.weight"]
    own["embedding.weight"] = own["embedding.weight"].clone()
    x = F.one_hot(tokens, config.vocab_size).float() @ own["embedding.weight"]
    if "positions.embedding.weight" in own:
        x = x + own["positions.embedding.weight"][torch.arange(tokens.shape[1])]
    x = norm(x, own, "embedding_norm", config) if config.embedding_norm else x
    for i in range(config.n_layers):
        of_this = {
            name.split(".", 2)[2]: each for name, each in own.items() if name.split(".")[:2] == ["blocks", f"{i}"]
        }
        x = block(x, of_this, drawn_rope(config, tokens.shape[1]), config)
    return linear(norm(x, own, "final_norm", config), own, "head")


@gpt.accepted
def far_along_the_text(tokens, weights, config):
    """Scores depend on the distance only: where RoPE starts counting does not matter."""
    return model(tokens, weights, config, rope=drawn_rope(config, tokens.shape[1], start=3))
