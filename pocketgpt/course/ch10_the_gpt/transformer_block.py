"""Exercise `transformer_block`: one block of the model, from its weights by name."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch10_the_gpt.shared import (
    attend,
    block,
    block_shapes,
    drawn_config,
    drawn_rope,
    drawn_weights,
    feed,
    norm,
    without_biases,
)
from pocketgpt.course.checking.cases import strided
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.course.lab import finished_gpt as parts


@exercise(points=2, returns=("x",), gradients=("x",), replaces="block", sizes={"d_model": (24,)})
def transformer_block(
    x: Float[Tensor, "batch seq d_model"],
    weights: dict[str, Tensor],
    rope: tuple[Tensor, Tensor] | None,
    config: Any,
) -> Float[Tensor, "batch seq d_model"]:
    """A pre-norm block of PyTorch's operators; tests hold it equal to transformers' LlamaDecoderLayer and GPT2Block."""
    return block(x, weights, rope, config)


@transformer_block.inputs
def _(rng):
    for i, (kind, batch, seq) in enumerate(
        [
            ("llama", 2, 5),
            ("gpt2", 2, 5),
            ("brain", 3, 4),
            ("pocket", 2, 7),
            ("llama", 1, 6),
            ("gpt2", 3, 7),
            ("llama", 2, 1),
            ("pocket", 3, 5),
        ]
    ):
        config = drawn_config(rng, kind)
        x = torch.randn(batch, seq, config.d_model, generator=rng)
        weights = drawn_weights(rng, block_shapes(config))
        yield strided(x) if i > 3 else x, weights, drawn_rope(config, seq, start=i % 3), config


@transformer_block.mistake(hint=3)
def norms_exchanged(x, weights, rope, config):
    """The two norms are exchanged: mixer_norm comes before attention, feedforward_norm before the feed-forward."""
    x = x + attend(norm(x, weights, "feedforward_norm", config), weights, rope, config)
    return x + feed(norm(x, weights, "mixer_norm", config), weights, config)


@transformer_block.mistake(hint=3)
def one_norm_for_both(x, weights, rope, config):
    """Both layers read through mixer_norm: the feed-forward has a norm of its own, feedforward_norm."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + feed(norm(x, weights, "mixer_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def second_addition_forgotten(x, weights, rope, config):
    """The feed-forward replaces the stream: add its result to x, as you do after attention."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def first_addition_forgotten(x, weights, rope, config):
    """Attention replaces the stream: add its result to x, as you do after the feed-forward."""
    x = attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def no_additions(x, weights, rope, config):
    """Nothing is added to x: both layers replace the stream. Each adds to it."""
    x = attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def parallel(x, weights, rope, config):
    """The feed-forward reads the stream as it was before attention, as in GPT-J: here it reads the sum of x and the
    attention."""
    attended = attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + attended + feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def added_to_the_old_stream(x, weights, rope, config):
    """The feed-forward is added to the stream as it was before attention, so that attention's own sum is lost: add it
    to the new one."""
    after = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + feed(norm(after, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def norm_on_the_stream(x, weights, rope, config):
    """The stream itself is normalized, `x = norm(x)`, and the layers are added to that: the norm is for the layer to
    read through, and x stays as it is."""
    x = norm(x, weights, "mixer_norm", config)
    x = x + attend(x, weights, rope, config)
    x = norm(x, weights, "feedforward_norm", config)
    return x + feed(x, weights, config)


@transformer_block.mistake(hint=1)
def second_norm_on_the_stream(x, weights, rope, config):
    """In the second half the normalized stream takes the place of x, `x = norm(x)`, and the feed-forward is added to
    that: add it to x."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    x = norm(x, weights, "feedforward_norm", config)
    return x + feed(x, weights, config)


@transformer_block.mistake(hint=1)
def first_norm_on_the_stream(x, weights, rope, config):
    """In the first half the normalized stream takes the place of x, `x = norm(x)`, and attention is added to that: add
    it to x."""
    x = norm(x, weights, "mixer_norm", config)
    x = x + attend(x, weights, rope, config)
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def post_norm(x, weights, rope, config):
    """The norms come after the additions, as in 2017: this block is pre-norm, x + layer(norm(x))."""
    x = norm(x + attend(x, weights, rope, config), weights, "mixer_norm", config)
    return norm(x + feed(x, weights, config), weights, "feedforward_norm", config)


@transformer_block.mistake(hint=1)
def norms_after_the_layers(x, weights, rope, config):
    """The norms act on what the layers return, x + norm(layer(x)): they come before the layers, x + layer(norm(x))."""
    x = x + norm(attend(x, weights, rope, config), weights, "mixer_norm", config)
    return x + norm(feed(x, weights, config), weights, "feedforward_norm", config)


@transformer_block.mistake(hint=3)
def first_norm_forgotten(x, weights, rope, config):
    """Attention reads x itself: it reads through mixer_norm."""
    x = x + attend(x, weights, rope, config)
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=3)
def second_norm_forgotten(x, weights, rope, config):
    """The feed-forward reads x itself: it reads through feedforward_norm."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + feed(x, weights, config)


@transformer_block.mistake(hint=1)
def feed_forward_first(x, weights, rope, config):
    """The feed-forward comes first and attention second: it is the other way round."""
    x = x + feed(norm(x, weights, "feedforward_norm", config), weights, config)
    return x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)


@transformer_block.mistake(hint=1)
def feed_forward_forgotten(x, weights, rope, config):
    """The block ends after attention: the feed-forward is missing."""
    return x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)


@transformer_block.mistake(hint=1)
def attention_forgotten(x, weights, rope, config):
    """Attention is missing: no token learns anything of the others."""
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


def _attending(**changes):
    """Right, with an attention that differs."""

    def changed(x, weights, rope, config):
        return attend(x, weights, rope, config, **changes)

    return lambda x, weights, rope, config: block(x, weights, rope, config, attend=changed)


@transformer_block.mistake(hint=2)
def not_causal(x, weights, rope, config):
    """Every token sees the whole text: the mask must be causal."""
    return _attending(causal=False)(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def not_rotated(x, weights, rope, config):
    """Queries and keys are not rotated: where `rope` is given, apply it to both."""
    return block(x, weights, None, config)


@transformer_block.mistake(hint=2)
def values_rotated(x, weights, rope, config):
    """The values are rotated, too: RoPE turns queries and keys, and values stay as they are."""
    return _attending(turned="qkv")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def only_queries_rotated(x, weights, rope, config):
    """The queries are rotated and the keys are not: a score then depends on where the query is, not on the
    distance."""
    return _attending(turned="q")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def only_keys_rotated(x, weights, rope, config):
    """The keys are rotated and the queries are not: turn both."""
    return _attending(turned="k")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def sine_and_cosine_exchanged(x, weights, rope, config):
    """The angles are passed as (sin, cos): `rope` is (cos, sin), in the order that `apply_rope` takes."""
    return block(x, weights, rope and rope[::-1], config)


@transformer_block.mistake(hint=2)
def o_proj_forgotten(x, weights, rope, config):
    """The merged heads are added as they are: o_proj comes last in attention, and mixes them."""
    return _attending(output=False)(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def kv_heads_in_another_order(x, weights, rope, config):
    """Key and value heads are repeated as a b a b: neighbors share one, a a b b."""
    return _attending(repeat=True)(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def biases_forgotten(x, weights, rope, config):
    """The biases are left out: `linear` adds one where the dictionary has it."""

    def attending(x, weights, rope, config):
        return attend(x, weights, rope, config, linear=without_biases)

    def feeding(x, weights, config):
        return feed(x, weights, config, linear=without_biases)

    return block(x, weights, rope, config, attend=attending, feed=feeding)


@transformer_block.mistake(hint=2)
def biases_of_attention_forgotten(x, weights, rope, config):
    """The biases of the four projections of attention are left out: `linear` adds one where the dictionary has it."""
    return _attending(linear=without_biases)(x, weights, rope, config)


def _norming(kind: str | None = None, eps: float | None = None):
    """Right, with norms that differ."""

    def changed(x, weights, name, config):
        weight, bias = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
        if (kind or config.norm) == "rmsnorm":
            return F.rms_norm(x, x.shape[-1:], weight, eps or config.norm_eps)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps or config.norm_eps)

    return lambda x, weights, rope, config: block(x, weights, rope, config, norm=changed)


@transformer_block.mistake(hint=2)
def always_rms_norm(x, weights, rope, config):
    """This is RMSNorm whatever the config says: where `config.norm` is "layernorm" it is LayerNorm. `norm` looks."""
    return _norming("rmsnorm")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def always_layer_norm(x, weights, rope, config):
    """This is LayerNorm whatever the config says: where `config.norm` is "rmsnorm" it is RMSNorm. `norm` looks."""
    return _norming("layernorm")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def eps_written_down(x, weights, rope, config):
    """The eps of the norms is 1e-5 whatever the config says: it is config.norm_eps."""
    return _norming(eps=1e-5)(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def exact_gelu_everywhere(x, weights, rope, config):
    """GELU is always the exact one: with "gelu_tanh", as in GPT-2, it is the form with tanh. `feed_forward` looks."""
    kind = config.feedforward.activation.removesuffix("_tanh")
    return block(x, weights, rope, config, feed=lambda h, weights, config: feed(h, weights, config, activation=kind))


@transformer_block.mistake(hint=1)
def feed_forward_reads_the_normed(x, weights, rope, config):
    """The feed-forward reads what attention has read, normalized again: it reads the norm of the new x."""
    h = norm(x, weights, "mixer_norm", config)
    x = x + attend(h, weights, rope, config)
    return x + feed(norm(h, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=1)
def post_norm_in_the_second_half(x, weights, rope, config):
    """In the second half the norm comes after the addition: the feed-forward reads through it, and x is added."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return norm(x + feed(x, weights, config), weights, "feedforward_norm", config)


@transformer_block.mistake(hint=2)
def keys_and_values_exchanged(x, weights, rope, config):
    """Keys and values are exchanged in the call: `grouped_attention(q, k, v, mask)`."""
    return _attending(order="qvk")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def queries_rotated_twice(x, weights, rope, config):
    """The queries are rotated twice."""
    return _attending(turned="qkQ")(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def scaled_twice(x, weights, rope, config):
    """The queries are divided by √d_head once more: `grouped_attention` does it already."""
    return _attending(scale=config.mixer.d_head**-0.5)(x, weights, rope, config)


def _as_written(
    x,
    weights,
    rope,
    config,
    *,
    heads=None,
    kv_heads=None,
    values=None,
    first_turned=False,
    always_turned=False,
    mask=None,
    merge=parts.merge_heads,
    queries=parts.linear,
):
    """Put together of the finished functions, as in the text: for mistakes that raise what these raise."""
    mixer, h = config.mixer, parts.norm(x, weights, "mixer_norm", config)
    q = queries(h, weights, "mixer.q_proj")
    k, v = (parts.linear(each, weights, f"mixer.{i}_proj") for i, each in (("k", h), ("v", x if values else h)))
    apply_rope = parts.apply_rope
    if first_turned and rope is not None:
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
    heads, kv_heads = heads or mixer.n_heads, kv_heads or mixer.n_kv_heads
    q, k, v = parts.split_heads(q, heads), parts.split_heads(k, kv_heads), parts.split_heads(v, kv_heads)
    if (rope is not None or always_turned) and not first_turned:
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
    here = torch.arange(x.shape[1])
    y = parts.grouped_attention(q, k, v, parts.causal_mask(here, here) if mask is None else mask)
    x = x + parts.linear(merge(y), weights, "mixer.o_proj")
    return x + parts.feed_forward(parts.norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.mistake(hint=2)
def as_many_keys_as_queries(x, weights, rope, config):
    """Keys and values are split into n_heads heads: they have config.mixer.n_kv_heads."""
    return _as_written(x, weights, rope, config, kv_heads=config.mixer.n_heads)


@transformer_block.mistake(hint=2)
def heads_written_down(x, weights, rope, config):
    """The numbers of heads are written down, 6 and 2 as in the pocket model: take those of config.mixer."""
    return _as_written(x, weights, rope, config, heads=6, kv_heads=2)


@transformer_block.mistake(hint=2)
def rotated_before_the_split(x, weights, rope, config):
    """Queries and keys are rotated before they are split: the angles are those of one head, so split first."""
    return _as_written(x, weights, rope, config, first_turned=True)


@transformer_block.mistake(hint=3)
def rotated_without_angles(x, weights, rope, config):
    """This rotates where `rope` is None, too: ask first, `if rope is not None`."""
    return _as_written(x, weights, rope, config, always_turned=True)


@transformer_block.mistake(hint=2)
def values_of_the_stream(x, weights, rope, config):
    """The values are made of x: queries, keys and values are all made of what the norm returns."""
    return _as_written(x, weights, rope, config, values=True)


@transformer_block.mistake(hint=2)
def mask_transposed(x, weights, rope, config):
    """The mask is transposed, so a token sees the later ones and not the earlier ones: queries are its rows."""
    here = torch.arange(x.shape[1])
    return _as_written(x, weights, rope, config, mask=here >= here[:, None])


@transformer_block.mistake(hint=2)
def itself_hidden(x, weights, rope, config):
    """A token does not see itself: it sees all positions up to its own."""
    here = torch.arange(x.shape[1])
    return _as_written(x, weights, rope, config, mask=here < here[:, None])


@transformer_block.mistake(hint=2)
def mask_of_the_batch(x, weights, rope, config):
    """The mask is as large as the batch: the positions count the tokens of a text, `torch.arange(x.shape[1])`."""
    here = torch.arange(x.shape[0])
    return _as_written(x, weights, rope, config, mask=here <= here[:, None])


@transformer_block.mistake(hint=2)
def rotated_and_not_causal(x, weights, rope, config):
    """Where there is rope, every token sees the whole text: the mask is causal in every model."""
    return _attending(causal=rope is None)(x, weights, rope, config)


@transformer_block.mistake(hint=2)
def heads_not_transposed_back(x, weights, rope, config):
    """The heads are merged by a `reshape` alone, which mixes heads and positions: `merge_heads` transposes first."""
    return _as_written(x, weights, rope, config, merge=lambda y: y.reshape(y.shape[0], y.shape[2], -1))


@transformer_block.mistake(hint=2)
def query_matrix_not_transposed(x, weights, rope, config):
    """The queries are multiplied by a matrix that is not transposed: it is stored as (out, in). `linear` does it."""
    return _as_written(x, weights, rope, config, queries=lambda h, weights, name: h @ weights[f"{name}.weight"])


@transformer_block.mistake(hint=2)
def biases_of_queries_forgotten(x, weights, rope, config):
    """The bias of q_proj is left out: `linear` adds one where the dictionary has it."""
    return _as_written(x, weights, rope, config, queries=without_biases)


@transformer_block.mistake(hint=1)
def norm_added_too(x, weights, rope, config):
    """What the norm returns is added to the stream, too: only what attention makes of it is."""
    return block(x, weights, rope, config) + norm(x, weights, "mixer_norm", config)


@transformer_block.mistake(hint=2)
def names_of_the_whole_model(x, weights, rope, config):
    """The names begin with "blocks.0." here: `weights` has the tensors of this block, without that."""
    return block(x, {f"blocks.0.{name}": weight for name, weight in weights.items()}, rope, config, norm=_named)


def _named(x, weights, name, config):
    return parts.norm(x, weights, f"blocks.0.{name}", config)


@transformer_block.finished
def from_operators(x, weights, rope, config):
    def normed(x, name):
        weight, bias = weights.get(name + ".weight"), weights.get(name + ".bias")
        if config.norm == "rmsnorm":
            return F.rms_norm(x, x.shape[-1:], weight, config.norm_eps)
        return F.layer_norm(x, x.shape[-1:], weight, bias, config.norm_eps)

    def projected(x, name):
        return F.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))

    def heads(x, name):
        return projected(x, name).unflatten(-1, (-1, config.mixer.d_head)).transpose(1, 2)

    def turned(x):
        if rope is None:
            return x
        (first, second), (cos, sin) = x.chunk(2, dim=-1), rope
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

    h = normed(x, "mixer_norm")
    q, k, v = turned(heads(h, "mixer.q_proj")), turned(heads(h, "mixer.k_proj")), heads(h, "mixer.v_proj")
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    x = x + projected(y.transpose(1, 2).flatten(2), "mixer.o_proj")
    h = normed(x, "feedforward_norm")
    hidden, kind = projected(h, "feedforward.up_proj"), config.feedforward.activation
    if kind == "swiglu":
        hidden = F.silu(projected(h, "feedforward.gate_proj")) * hidden
    elif kind == "relu2":
        hidden = F.relu(hidden) ** 2
    else:
        hidden = F.gelu(hidden, approximate="tanh" if "tanh" in kind else "none")
    return x + projected(hidden, "feedforward.down_proj")


@transformer_block.accepted
def with_expanded_heads(x, weights, rope, config):
    mixer, seq = config.mixer, x.shape[1]
    h = norm(x, weights, "mixer_norm", config)
    projected = []
    for name, count in (("q", mixer.n_heads), ("k", mixer.n_kv_heads), ("v", mixer.n_kv_heads)):
        each = h @ weights[f"mixer.{name}_proj.weight"].T
        if mixer.bias:
            each = each + weights[f"mixer.{name}_proj.bias"]
        projected.append(each.reshape(*x.shape[:2], count, mixer.d_head).permute(0, 2, 1, 3))
    q, k, v = projected
    if rope:
        half = mixer.d_head // 2
        signs = torch.ones(mixer.d_head).index_fill(0, torch.arange(half), -1)
        cos, sin = (torch.cat((each, each), -1) for each in rope)
        q, k = (each * cos + each.roll(half, -1) * signs * sin for each in (q, k))
    k, v = (each.repeat_interleave(mixer.n_heads // mixer.n_kv_heads, 1) for each in (k, v))
    scores = (q @ k.mT / mixer.d_head**0.5).masked_fill(torch.ones(seq, seq).triu(1).bool(), -torch.inf)
    y = (scores.softmax(-1) @ v).permute(0, 2, 1, 3).reshape(x.shape[0], seq, -1) @ weights["mixer.o_proj.weight"].T
    x = x + (y + weights["mixer.o_proj.bias"] if mixer.output_bias else y)
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


@transformer_block.accepted
def text_after_text(x, weights, rope, config):
    return torch.cat([block(text[None], weights, rope, config) for text in x])
