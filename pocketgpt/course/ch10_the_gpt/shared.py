"""Configs and weights that the exercises of chapter 10 draw, and the block and the model they are compared with.

`block` and `model` are made of PyTorch's operators; tests/course/ch10_the_gpt holds them equal to transformers' Llama
and GPT-2. Their options are the ways in which a mistake differs from them.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Mixer:
    """Fields of `AttentionConfig` that decide shapes."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    bias: bool = False
    output_bias: bool = False


@dataclass(frozen=True)
class FeedForwardPart:
    """Fields of `FeedForwardConfig`."""

    activation: str
    d_ff: int
    bias: bool = False


@dataclass(frozen=True)
class Rope:
    """The field of `RopeConfig` that plain frequencies need."""

    theta: float


@dataclass(frozen=True)
class Config:
    """A config with the fields of `ModelConfig`, of plain values only, so that the grader can send it anywhere."""

    vocab_size: int
    d_model: int
    n_layers: int
    max_seq_len: int
    mixer: Mixer
    feedforward: FeedForwardPart
    positions: str
    norm: str
    norm_eps: float
    rope: Rope
    norm_weight: bool = True
    norm_bias: bool = False
    embedding_norm: bool = False
    tie_embeddings: bool = True

    def __repr__(self) -> str:
        kind = f"{self.positions}, {self.norm}, {self.feedforward.activation}"
        heads = f"{self.mixer.n_heads}/{self.mixer.n_kv_heads} heads"
        return f"<{kind}, {self.n_layers} layers, d_model {self.d_model}, {heads}>"


KINDS = ("llama", "gpt2", "brain", "pocket")
"""The four columns of the chapter's table."""


def mixed_config(rng: torch.Generator, n_layers: int, positions: str) -> Config:
    """What none of the four has: heads that are together wider or narrower than d_model, weights in the norm after the
    embedding, SwiGLU with biases, and o_proj with a bias where q, k and v have none, or the other way round."""
    learned = positions == "learned"
    config = drawn_config(rng, "llama", n_layers)
    return replace(
        config,
        d_model=config.d_model + (6 if learned else -4),
        mixer=replace(config.mixer, bias=learned, output_bias=not learned),
        feedforward=replace(config.feedforward, bias=True),
        positions=positions,
        norm="layernorm" if learned else "rmsnorm",
        norm_bias=learned,
        embedding_norm=True,
    )


def drawn_config(rng: torch.Generator, kind: str, n_layers: int | None = None, tied: bool | None = None) -> Config:
    """A small config of a kind; all sizes differ."""

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (), generator=rng))]

    heads, kv_heads, d_head = (
        pick((6, 2, 4), (4, 2, 6), (6, 3, 4)) if kind in ("llama", "pocket") else pick((3, 3, 8), (5, 5, 4))
    )
    vocab, longest, d_ff = pick(29, 31, 37), pick(11, 13), pick(34, 42, 50)
    gpt2, brain, pocket = kind == "gpt2", kind == "brain", kind == "pocket"
    activation = {"llama": "swiglu", "gpt2": "gelu_tanh", "brain": "gelu", "pocket": "relu2"}[kind]
    return Config(
        vocab_size=vocab,
        d_model=heads * d_head,
        n_layers=n_layers or pick(2, 3),
        max_seq_len=longest,
        mixer=Mixer(heads, kv_heads, d_head, bias=gpt2, output_bias=gpt2),
        feedforward=FeedForwardPart(activation, d_ff, bias=gpt2 or brain),
        positions="learned" if gpt2 else "rope",
        norm="layernorm" if gpt2 or brain else "rmsnorm",
        norm_eps=pick(0.1, 0.2),
        rope=Rope(pick(50.0, 200.0)),
        norm_weight=not pocket,
        norm_bias=gpt2 or brain,
        embedding_norm=pocket,
        tie_embeddings=not pocket if tied is None else tied,
    )


def block_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a block by its name."""
    d, heads, feedforward = config.d_model, config.mixer, config.feedforward
    wide, narrow = heads.n_heads * heads.d_head, heads.n_kv_heads * heads.d_head
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, n_out: int, n_in: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (n_out, n_in)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)

    for name, width in (("q", wide), ("k", narrow), ("v", narrow)):
        add(f"mixer.{name}_proj", width, d, heads.bias)
    add("mixer.o_proj", d, wide, heads.output_bias)
    for name in ("gate", "up") if feedforward.activation == "swiglu" else ("up",):
        add(f"feedforward.{name}_proj", feedforward.d_ff, d, feedforward.bias)
    add("feedforward.down_proj", d, feedforward.d_ff, feedforward.bias)
    return shapes | norm_shapes("mixer_norm", config) | norm_shapes("feedforward_norm", config)


def norm_shapes(name: str, config: Any) -> dict[str, tuple[int, ...]]:
    parts = ["weight"] * config.norm_weight + ["bias"] * config.norm_bias
    return {f"{name}.{part}": (config.d_model,) for part in parts}


def model_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a model by its name; a tied head once."""
    shapes = {"embedding.weight": (config.vocab_size, config.d_model)}
    if config.positions == "learned":
        shapes["positions.embedding.weight"] = (config.max_seq_len, config.d_model)
    if config.embedding_norm:
        shapes |= norm_shapes("embedding_norm", config)
    for i in range(config.n_layers):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block_shapes(config).items()}
    shapes |= norm_shapes("final_norm", config)
    return shapes if config.tie_embeddings else shapes | {"head.weight": shapes["embedding.weight"]}


def drawn_weights(rng: torch.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights so large that attention is far from even and no bias or norm can be left out."""
    weights = {}
    for name, shape in shapes.items():
        size = 1.2 / shape[1] ** 0.5 if len(shape) == 2 and "embedding" not in name else 0.7
        weights[name] = size * torch.randn(shape, generator=rng) + (len(shape) == 1 and name.endswith("weight"))
    return weights


def drawn_rope(config: Any, seq: int, start: int = 0) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the angles, (seq, d_head/2) each; None for a config that adds its positions."""
    if config.positions != "rope":
        return None
    turns = config.rope.theta ** (-torch.arange(0, config.mixer.d_head, 2) / config.mixer.d_head)
    angles = torch.arange(start, start + seq)[:, None] * turns
    return angles.cos(), angles.sin()


def norm(x: Tensor, weights: dict[str, Tensor], name: str, config: Any) -> Tensor:
    weight, bias = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
    if config.norm == "layernorm":
        return F.layer_norm(x, x.shape[-1:], weight, bias, config.norm_eps)
    return F.rms_norm(x, x.shape[-1:], weight, config.norm_eps)


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def without_biases(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"])


def turn(x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rotation as a product of complex numbers; nothing without angles."""
    if rope is None:
        return x
    cos, sin = (each.to(x.dtype) for each in rope)
    turned = torch.complex(*x.chunk(2, dim=-1)) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag), dim=-1)


def attend(
    x, weights, rope, config, turned="qk", causal=True, output=True, repeat=False, linear=linear, order="qkv", scale=1.0
):
    """Attention of a block.

    turned: which of q, k and v are rotated, Q for a second time. repeat: key heads in the order a b a b. order: what is
    taken as queries, keys and values. scale: a factor of the queries.
    """
    heads = config.mixer
    q, k, v = (
        linear(x, weights, f"mixer.{name}_proj").unflatten(-1, (-1, heads.d_head)).transpose(1, 2) for name in "qkv"
    )
    q, k, v = (turn(each, rope) if name in turned else each for name, each in zip("qkv", (q, k, v), strict=True))
    q = turn(q, rope) * scale if "Q" in turned else q * scale
    q, k, v = (dict(q=q, k=k, v=v)[name] for name in order)
    if repeat:
        k, v = (each.repeat(1, heads.n_heads // heads.n_kv_heads, 1, 1) for each in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True).transpose(1, 2).flatten(2)
    return linear(y, weights, "mixer.o_proj") if output else y


def feed(x, weights, config, linear=linear, activation=None):
    """Feed-forward layer of a block."""
    activation = activation or config.feedforward.activation
    hidden = linear(x, weights, "feedforward.up_proj")
    if activation == "swiglu":
        hidden = F.silu(linear(x, weights, "feedforward.gate_proj")) * hidden
    elif activation == "relu2":
        hidden = F.relu(hidden).square()
    else:
        hidden = F.gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    return linear(hidden, weights, "feedforward.down_proj")


def block(x, weights, rope, config, norm=norm, attend=attend, feed=feed):
    """A pre-norm block."""
    x = x + attend(norm(x, weights, "mixer_norm", config), weights, rope, config)
    return x + feed(norm(x, weights, "feedforward_norm", config), weights, config)


def of_block(weights: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    start = f"blocks.{i}."
    return {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}


def model(
    tokens, weights, config, blocks=None, start=0, rope=None, embed=None, positions=True, first=True, last=True, head=""
):
    """Logits of a model.

    blocks: indices of the blocks in the order they run. rope: angles in place of its own. embed: changes the embedded
    tokens. positions, first, last: add learned positions, normalize the embedding, and normalize before the head.
    head: the name of the matrix that is used as the head.
    """
    seq = tokens.shape[1]
    x = F.embedding(tokens, weights["embedding.weight"])
    x = embed(x) if embed else x
    if config.positions == "learned" and positions:
        x = x + weights["positions.embedding.weight"][start : start + seq]
    if config.embedding_norm and first:
        x = norm(x, weights, "embedding_norm", config)
    rope = rope or drawn_rope(config, seq)
    for i in range(config.n_layers) if blocks is None else blocks:
        x = block(x, of_block(weights, i), rope, config)
    if last:
        x = norm(x, weights, "final_norm", config)
    return F.linear(x, weights[head or ("embedding.weight" if config.tie_embeddings else "head.weight")])


def flops_per_token(
    config: Config,
    seq: int,
    *,
    passes: int = 1,
    kv_heads: int | None = None,
    matrices: int | None = None,
    products: int = 2,
    per_add: int = 2,
    head: int = 1,
    seen: float = 1.0,
    layers: int | None = None,
) -> int:
    """Right, unless something is changed.

    passes: 1 forward, 2 more backward. products: of queries with keys, and of weights with values.
    seen: the share of the keys that a token is multiplied with.
    """
    mixer, d = config.mixer, config.d_model
    if matrices is None:
        matrices = 3 if config.feedforward.activation == "swiglu" else 2
    projections = d * mixer.d_head * 2 * (mixer.n_heads + (kv_heads or mixer.n_kv_heads))
    attention = int(products * mixer.n_heads * mixer.d_head * seq * seen)
    block = projections + attention + matrices * d * config.feedforward.d_ff
    return passes * per_add * ((config.n_layers if layers is None else layers) * block + head * config.vocab_size * d)
