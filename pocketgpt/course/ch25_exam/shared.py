"""The block of the exam, made of PyTorch's operators, and the configs and weights that its exercises draw.

`block` is parallel: attention and feed-forward read the same norm of the stream, and both are added to it (Wang and
Komatsuzaki 2021, GPT-J; Chowdhery et al. 2022, PaLM, arXiv 2204.02311). `attend` normalizes queries and keys (Henry et
al. 2020, arXiv 2010.04245; Dehghani et al. 2023, arXiv 2302.05442) and sees a sliding window (Beltagy et al. 2020,
arXiv 2004.05150). tests/oracles holds both equal to layers of transformers. Their options are the ways in which a
mistake differs from them.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketgpt.course.ch10_the_gpt.shared import Config, FeedForwardPart, Mixer, Rope, turn


@dataclass(frozen=True)
class WindowMixer(Mixer):
    """Fields of `AttentionConfig` that decide shapes and the window."""

    window: int = 1


def config_of(
    *,
    heads: tuple[int, int, int],
    d_model: int,
    d_ff: int,
    n_layers: int,
    vocab_size: int,
    window: int,
    norm_eps: float = 1e-5,
    tied: bool = True,
) -> Config:
    """heads: query heads, key/value heads, width of a head."""
    return Config(
        vocab_size=vocab_size,
        d_model=d_model,
        n_layers=n_layers,
        max_seq_len=32_768,
        mixer=WindowMixer(*heads, window=window),
        feedforward=FeedForwardPart("swiglu", d_ff),
        positions="rope",
        norm="rmsnorm",
        norm_eps=norm_eps,
        rope=Rope(50.0),
        tie_embeddings=tied,
    )


def drawn(rng: torch.Generator, low: int, high: int, times: int = 1) -> int:
    """A multiple of `times` between low and high, both included."""
    return times * int(torch.randint(low // times, high // times + 1, (), generator=rng))


def drawn_budget_config(rng: torch.Generator, tied: bool = True) -> Config:
    """A config of a model of real size, whose sizes have few factors in common."""
    heads = [(14, 2, 72), (10, 5, 88), (18, 6, 56), (22, 2, 40), (15, 3, 104)][drawn(rng, 0, 4)]
    return config_of(
        heads=heads,
        d_model=drawn(rng, 700, 1700, 4),
        d_ff=drawn(rng, 1900, 5300, 6),
        n_layers=drawn(rng, 13, 37),
        vocab_size=drawn(rng, 9_000, 33_000),
        window=drawn(rng, 300, 900),
        tied=tied,
    )


def block_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a block by its name."""
    d, mixer, d_ff = config.d_model, config.mixer, config.feedforward.d_ff
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    return {
        "norm.weight": (d,),
        "mixer.q_proj.weight": (wide, d),
        "mixer.k_proj.weight": (narrow, d),
        "mixer.v_proj.weight": (narrow, d),
        "mixer.q_norm.weight": (mixer.d_head,),
        "mixer.k_norm.weight": (mixer.d_head,),
        "mixer.o_proj.weight": (d, wide),
        "feedforward.gate_proj.weight": (d_ff, d),
        "feedforward.up_proj.weight": (d_ff, d),
        "feedforward.down_proj.weight": (d, d_ff),
    }


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """RMSNorm over the last axis."""
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def seen(seq: int, window: int) -> Tensor:
    """(seq, seq), True where the key is the query's own position or one of the window − 1 before it."""
    ones = torch.ones(seq, seq, dtype=torch.bool)
    return ones.tril() & ones.triu(1 - window)


def attend(q, k, v, q_weight, k_weight, rope, window, eps, norm=rms, turned="qk", late=False, mask=seen, scale=1.0):
    """Attention with QK-norm and a window.

    norm: used for queries and keys. turned: which of q, k and v are rotated. late: the norms come after the rotation.
    mask: from seq and window. scale: a factor of the queries.
    """

    def normed(q, k):
        return norm(q, q_weight, eps), norm(k, k_weight, eps)

    def rotated(q, k, v):
        return (turn(x, rope) if name in turned else x for name, x in zip("qkv", (q, k, v), strict=True))

    if late:
        q, k, v = rotated(q, k, v)
        q, k = normed(q, k)
    else:
        q, k, v = rotated(*normed(q, k), v)
    return F.scaled_dot_product_attention(scale * q, k, v, mask(q.shape[2], window), enable_gqa=True)


def mixed(n, weights, rope, config, attend=attend):
    """Attention of a block, from the normalized stream, projections included."""

    def heads(name):
        return (
            F.linear(n, weights[f"mixer.{name}_proj.weight"]).unflatten(-1, (-1, config.mixer.d_head)).transpose(1, 2)
        )

    q_weight, k_weight = weights["mixer.q_norm.weight"], weights["mixer.k_norm.weight"]
    y = attend(heads("q"), heads("k"), heads("v"), q_weight, k_weight, rope, config.mixer.window, config.norm_eps)
    return F.linear(y.transpose(1, 2).flatten(2), weights["mixer.o_proj.weight"])


def feed(n, weights, config, activation=F.silu):
    """Feed-forward of a block, from the normalized stream."""
    hidden = activation(F.linear(n, weights["feedforward.gate_proj.weight"]))
    return F.linear(
        hidden * F.linear(n, weights["feedforward.up_proj.weight"]), weights["feedforward.down_proj.weight"]
    )


def normed(x, weights, config):
    return rms(x, weights["norm.weight"], config.norm_eps)


def block(x, weights, rope, config, attend=attend, norm=normed, mixed=mixed, feed=feed):
    n = norm(x, weights, config)
    return x + mixed(n, weights, rope, config, attend) + feed(n, weights, config)


def narrower(config: Config, **changes: object) -> Config:
    """The config with other fields of its mixer."""
    return replace(config, mixer=replace(config.mixer, **changes))
