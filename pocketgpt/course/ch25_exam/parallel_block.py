"""Exercise `parallel_block`: attention and feed-forward side by side."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch10_the_gpt.shared import drawn_rope, drawn_weights
from pocketgpt.course.ch25_exam.shared import attend, block, block_shapes, config_of, feed, mixed, normed, rms
from pocketgpt.course.checking.cases import strided
from pocketgpt.course.checking.exercise import exercise


@exercise(points=4, hints=(), returns=("x",), gradients=("x",), sizes={"d_model": (20,)})
def parallel_block(
    x: Float[Tensor, "batch seq d_model"],
    weights: dict[str, Tensor],
    rope: tuple[Tensor, Tensor],
    config: Any,
) -> Float[Tensor, "batch seq d_model"]:
    """A block of PyTorch's operators; tests hold it equal to transformers' parallel Cohere2DecoderLayer with the
    attention, the feed-forward and the norm of its Qwen3."""
    return block(x, weights, rope, config)


@parallel_block.inputs
def _(rng):
    for i, (batch, seq, window, heads) in enumerate(
        [
            (2, 5, 3, (4, 2, 6)),
            (2, 7, 2, (6, 2, 4)),
            (3, 6, 4, (6, 3, 4)),
            (1, 8, 3, (4, 1, 6)),
            (2, 1, 3, (4, 2, 6)),  # one token
            (2, 9, 5, (4, 2, 8)),
            (3, 4, 9, (6, 2, 4)),  # the window is wider than the text
        ]
    ):
        config = config_of(
            heads=heads,
            d_model=(20, 22, 18)[i % 3],
            d_ff=(30, 34)[i % 2],
            n_layers=2,
            vocab_size=29,
            window=window,
            norm_eps=(0.1, 0.2)[i % 2],
        )
        x = torch.randn(batch, seq, config.d_model, generator=rng)
        weights = drawn_weights(rng, block_shapes(config))
        yield strided(x) if i % 2 else x, weights, drawn_rope(config, seq, start=i % 3), config


@parallel_block.composed
def _(x, weights, rope, config, *, window_attention):
    return block(x, weights, rope, config, attend=window_attention)


@parallel_block.mistake
def sequential(x, weights, rope, config):
    """This is the block of chapter 10: the feed-forward reads the stream after attention, normalized again. Here both
    read the same norm of x."""
    x = x + mixed(normed(x, weights, config), weights, rope, config)
    return x + feed(normed(x, weights, config), weights, config)


@parallel_block.mistake
def sequential_without_second_norm(x, weights, rope, config):
    """The feed-forward reads the stream after attention, without a norm: it reads the same norm of x as attention."""
    x = x + mixed(normed(x, weights, config), weights, rope, config)
    return x + feed(x, weights, config)


@parallel_block.mistake
def in_a_chain(x, weights, rope, config):
    """The feed-forward reads what attention returns, and only its own result is added: both read the norm of x, and
    both are added."""
    return x + feed(mixed(normed(x, weights, config), weights, rope, config), weights, config)


@parallel_block.mistake
def in_a_chain_and_both_added(x, weights, rope, config):
    """The feed-forward reads what attention returns: it reads the norm of x."""
    attended = mixed(normed(x, weights, config), weights, rope, config)
    return x + attended + feed(attended, weights, config)


@parallel_block.mistake
def norm_twice(x, weights, rope, config):
    """The norm acts twice: the feed-forward reads a norm of the norm. Compute it once, and let both read it."""
    n = normed(x, weights, config)
    return x + mixed(n, weights, rope, config) + feed(normed(n, weights, config), weights, config)


@parallel_block.mistake
def norm_twice_for_attention(x, weights, rope, config):
    """The norm acts twice: attention reads a norm of the norm. Compute it once, and let both read it."""
    n = normed(x, weights, config)
    return x + mixed(normed(n, weights, config), weights, rope, config) + feed(n, weights, config)


@parallel_block.mistake
def norm_twice_for_both(x, weights, rope, config):
    """The norm acts twice: both layers read a norm of the norm."""
    n = normed(normed(x, weights, config), weights, config)
    return x + mixed(n, weights, rope, config) + feed(n, weights, config)


@parallel_block.mistake
def attention_reads_the_stream(x, weights, rope, config):
    """Attention reads x itself: it reads the norm of x."""
    return x + mixed(x, weights, rope, config) + feed(normed(x, weights, config), weights, config)


@parallel_block.mistake
def feed_forward_reads_the_stream(x, weights, rope, config):
    """The feed-forward reads x itself: it reads the norm of x."""
    return x + mixed(normed(x, weights, config), weights, rope, config) + feed(x, weights, config)


@parallel_block.mistake
def no_norm(x, weights, rope, config):
    """Both layers read x itself: they read the norm of x."""
    return block(x, weights, rope, config, norm=lambda x, weights, config: x)


@parallel_block.mistake
def norm_on_the_stream(x, weights, rope, config):
    """The normalized stream takes the place of x, and the layers are added to that: they are added to x."""
    n = normed(x, weights, config)
    return n + mixed(n, weights, rope, config) + feed(n, weights, config)


@parallel_block.mistake
def norm_after_the_sum(x, weights, rope, config):
    """The norm comes after the sum: the layers read the norm of x, and nothing is normalized afterwards."""
    return normed(x + mixed(x, weights, rope, config) + feed(x, weights, config), weights, config)


@parallel_block.mistake
def norm_of_the_results(x, weights, rope, config):
    """The norm acts on what the layers return: they read the norm of x, and their results are added as they are."""
    attended = normed(mixed(x, weights, rope, config), weights, config)
    return x + attended + normed(feed(x, weights, config), weights, config)


@parallel_block.mistake
def residual_doubled(x, weights, rope, config):
    """The stream is added twice: x, attention and feed-forward are three terms of one sum."""
    return x + block(x, weights, rope, config)


@parallel_block.mistake
def residual_forgotten(x, weights, rope, config):
    """The stream is missing in the sum: add x."""
    return block(x, weights, rope, config) - x


@parallel_block.mistake
def averaged(x, weights, rope, config):
    """The two results are averaged: they are added."""
    return x + (block(x, weights, rope, config) - x) / 2


@parallel_block.mistake
def attention_forgotten(x, weights, rope, config):
    """Attention is missing in the sum."""
    return block(x, weights, rope, config, mixed=lambda *_: 0)


@parallel_block.mistake
def feed_forward_forgotten(x, weights, rope, config):
    """The feed-forward is missing in the sum."""
    return block(x, weights, rope, config, feed=lambda *_: 0)


@parallel_block.mistake
def layer_norm(x, weights, rope, config):
    """The norm of x is LayerNorm, which subtracts the mean: it is RMSNorm."""

    def norm(x, weights, config):
        return F.layer_norm(x, x.shape[-1:], weights["norm.weight"], None, config.norm_eps)

    return block(x, weights, rope, config, norm=norm)


@parallel_block.mistake
def norm_without_weight(x, weights, rope, config):
    """The norm of x is not scaled: multiply by `norm.weight`."""
    return block(x, weights, rope, config, norm=lambda x, weights, config: rms(x, None, config.norm_eps))


@parallel_block.mistake
def eps_written_down(x, weights, rope, config):
    """The eps of the norm of x is written into the code: it is config.norm_eps."""
    return block(x, weights, rope, config, norm=lambda x, weights, config: rms(x, weights["norm.weight"], 1e-6))


@parallel_block.mistake
def eps_of_attention_written_down(x, weights, rope, config):
    """The eps of QK-norm is written into the code: it is config.norm_eps, as for the other norm."""
    return block(x, weights, rope, config, attend=lambda *inputs: attend(*inputs[:-1], 1e-6))


@parallel_block.mistake
def gate_and_up_exchanged(x, weights, rope, config):
    """Gate and up are exchanged: SiLU acts on gate_proj, and up_proj is multiplied as it is."""
    gate, up = (weights[f"feedforward.{name}_proj.weight"] for name in ("gate", "up"))
    exchanged = {"feedforward.gate_proj.weight": up, "feedforward.up_proj.weight": gate}
    return block(x, weights | exchanged, rope, config)


@parallel_block.mistake
def qk_weights_exchanged(x, weights, rope, config):
    """The weights of QK-norm are exchanged: `mixer.q_norm` is for the queries."""
    q, k = weights["mixer.q_norm.weight"], weights["mixer.k_norm.weight"]
    return block(x, weights | {"mixer.q_norm.weight": k, "mixer.k_norm.weight": q}, rope, config)


@parallel_block.mistake
def one_weight_for_queries_and_keys(x, weights, rope, config):
    """The keys are normalized with `mixer.q_norm`: they have a weight of their own, `mixer.k_norm`."""
    return block(x, weights | {"mixer.k_norm.weight": weights["mixer.q_norm.weight"]}, rope, config)


@parallel_block.mistake
def keys_and_values_exchanged(x, weights, rope, config):
    """Keys and values are exchanged: the keys come from k_proj and are normalized, the values from v_proj."""
    k, v = weights["mixer.k_proj.weight"], weights["mixer.v_proj.weight"]
    return block(x, weights | {"mixer.k_proj.weight": v, "mixer.v_proj.weight": k}, rope, config)


@parallel_block.mistake
def keys_taken_as_values(x, weights, rope, config):
    """The keys are used as values: these come from v_proj."""
    return block(x, weights | {"mixer.v_proj.weight": weights["mixer.k_proj.weight"]}, rope, config)


@parallel_block.mistake
def o_proj_forgotten(x, weights, rope, config):
    """The merged heads are added as they are: o_proj comes last in attention."""

    def without(n, weights, rope, config, attend=attend):
        wide = config.mixer.n_heads * config.mixer.d_head
        return mixed(n, weights | {"mixer.o_proj.weight": torch.eye(wide, dtype=n.dtype)}, rope, config)

    return block(x, weights, rope, config, mixed=without)


@parallel_block.mistake
def gelu(x, weights, rope, config):
    """The gate is GELU: it is SiLU, as in your `swiglu`."""
    return block(x, weights, rope, config, feed=lambda n, weights, config: feed(n, weights, config, F.gelu))


@parallel_block.mistake
def no_activation(x, weights, rope, config):
    """The gate has no activation: SiLU acts on gate_proj."""
    return block(x, weights, rope, config, feed=lambda n, weights, config: feed(n, weights, config, lambda x: x))


@parallel_block.mistake
def all_heads_normalized_together(x, weights, rope, config):
    """Queries and keys are normalized before they are split, over all heads together: each head has its own mean
    square, so split first."""

    def norm(x, weight, eps):
        return x * (x.square().mean((1, 3), keepdim=True) + eps).rsqrt() * weight

    return block(x, weights, rope, config, attend=lambda *inputs: attend(*inputs, norm=norm))


@parallel_block.mistake
def heads_cut_out_wrongly(x, weights, rope, config):
    """The heads are cut out by `view` alone, across the positions: split the last axis, then exchange positions and
    heads."""

    def cut(n, weights, rope, config, attend=attend):
        def heads(name):
            projected = F.linear(n, weights[f"mixer.{name}_proj.weight"])
            return projected.reshape(len(n), -1, n.shape[1], config.mixer.d_head)

        norms = weights["mixer.q_norm.weight"], weights["mixer.k_norm.weight"]
        y = attend(heads("q"), heads("k"), heads("v"), *norms, rope, config.mixer.window, config.norm_eps)
        return F.linear(y.transpose(1, 2).flatten(2), weights["mixer.o_proj.weight"])

    return block(x, weights, rope, config, mixed=cut)


@parallel_block.mistake
def heads_merged_wrongly(x, weights, rope, config):
    """The heads are merged by `view` or `reshape` alone, across the positions: exchange heads and positions first."""

    def turned(*inputs):
        y = attend(*inputs)
        return y.reshape(len(y), y.shape[2], y.shape[1], -1).transpose(1, 2)

    return block(x, weights, rope, config, attend=turned)


@parallel_block.finished
def three_terms(
    x: Float[Tensor, "batch seq d_model"],
    weights: dict[str, Tensor],
    rope: tuple[Tensor, Tensor],
    config: Any,
) -> Float[Tensor, "batch seq d_model"]:
    mixer, eps = config.mixer, config.norm_eps
    cos, sin = rope
    n = F.rms_norm(x, x.shape[-1:], weights["norm.weight"], eps)

    def heads(name):
        return F.linear(n, weights[name + ".weight"]).unflatten(-1, (-1, mixer.d_head)).transpose(1, 2)

    def prepared(which):
        each = heads(f"mixer.{which}_proj")
        each = F.rms_norm(each, (mixer.d_head,), weights[f"mixer.{which}_norm.weight"], eps)
        left, right = each.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)

    places = torch.arange(x.shape[1], device=x.device)
    back = places[:, None] - places
    visible = (back >= 0) & (back < mixer.window)
    y = F.scaled_dot_product_attention(prepared("q"), prepared("k"), heads("mixer.v_proj"), visible, enable_gqa=True)
    attended = F.linear(y.transpose(1, 2).flatten(2), weights["mixer.o_proj.weight"])
    hidden = F.silu(F.linear(n, weights["feedforward.gate_proj.weight"]))
    hidden = hidden * F.linear(n, weights["feedforward.up_proj.weight"])
    return x + attended + F.linear(hidden, weights["feedforward.down_proj.weight"])


@parallel_block.accepted
def head_by_head(x, weights, rope, config):
    mixer, seq = config.mixer, x.shape[1]
    scale = weights["norm.weight"]
    n = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.norm_eps) * scale
    hidden = torch.ones(seq, seq).triu(1).bool() | torch.ones(seq, seq).tril(-mixer.window).bool()

    def rotated(head, weight):
        head = head * torch.rsqrt(head.pow(2).mean(-1, keepdim=True) + config.norm_eps) * weight
        half = mixer.d_head // 2
        cos, sin = (torch.cat((each, each), -1).to(x.dtype) for each in rope)
        return head * cos + torch.cat((-head[..., half:], head[..., :half]), -1) * sin

    outputs = []
    for i in range(mixer.n_heads):
        j = i // (mixer.n_heads // mixer.n_kv_heads)
        q = n @ weights["mixer.q_proj.weight"][i * mixer.d_head : (i + 1) * mixer.d_head].T
        k, v = (n @ weights[f"mixer.{name}_proj.weight"][j * mixer.d_head : (j + 1) * mixer.d_head].T for name in "kv")
        q, k = rotated(q, weights["mixer.q_norm.weight"]), rotated(k, weights["mixer.k_norm.weight"])
        scores = (q @ k.mT / mixer.d_head**0.5).masked_fill(hidden, -torch.inf)
        outputs.append(scores.softmax(-1) @ v)
    x = x + feed(n, weights, config)
    return x + torch.cat(outputs, -1) @ weights["mixer.o_proj.weight"].T


@parallel_block.accepted
def text_after_text(x, weights, rope, config):
    return torch.cat([block(text[None], weights, rope, config) for text in x])
