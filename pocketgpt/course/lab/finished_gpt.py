"""A GPT in one file, made of the functions of chapters 2 to 10, which stand in where a learner's own are missing.

`my_gpt.py` is this file with the learner's functions in it (own_model.py). Weights are a dictionary from name to
tensor, named as in model.safetensors; a config is any object with the fields of config.json.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

# Attention: chapters 2, 4, 8 and 9


def attention_scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """q: (..., T, d_head), k: (..., S, d_head). Returns (..., T, S)."""
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """scores: (..., T, S), mask: True where allowed. Returns weights (..., T, S)."""
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1).nan_to_num()


def causal_mask(query_positions: torch.Tensor, key_positions: torch.Tensor) -> torch.Tensor:
    """query_positions: (T,), key_positions: (S,). Returns (T, S), True where allowed."""
    return key_positions[None, :] <= query_positions[:, None]


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q: (..., T, d_head), k, v: (..., S, d_head). Returns the output and the weights."""
    weights = masked_softmax(attention_scores(q, k), mask)
    return weights @ v, weights


def split_heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """x: (B, T, n_heads · d_head). Returns (B, n_heads, T, d_head)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """x: (B, n_heads, T, d_head). Returns (B, T, n_heads · d_head)."""
    return x.transpose(1, 2).flatten(2)


def rope_frequencies(d_head: int, theta: float) -> torch.Tensor:
    """Returns (d_head/2,): radians per token of each pair, fastest first."""
    return theta ** -(torch.arange(0, d_head, 2) / d_head)


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x: (..., T, d_head), cos, sin: (..., T, d_head/2). Returns x with every pair turned."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def expand_kv_heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """x: (B, n_kv_heads, S, d_head). Returns (B, n_heads, S, d_head): neighbors share."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


def grouped_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """q: (B, H, T, d_head), k, v: (B, H_kv, S, d_head). Returns (B, H, T, d_head)."""
    groups = q.unflatten(1, (k.shape[1], -1))  # (B, H_kv, H/H_kv, T, d_head)
    weights = masked_softmax(attention_scores(groups, k[:, :, None]), mask)
    return (weights @ v[:, :, None]).flatten(1, 2)


# Norms and feed-forward: chapters 5 and 6


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x: (..., d_model), weight: (d_model,). Returns shape and dtype of x."""
    wide = x.float()
    root = torch.sqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide / root).to(x.dtype) * weight


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """x: (..., d_model), weight and bias: (d_model,). Returns the shape of x."""
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + eps) * weight + bias


def pre_norm(x: torch.Tensor, norm, layer) -> torch.Tensor:
    """x: (..., T, d_model), norm and layer: functions. Returns the new stream."""
    return x + layer(norm(x))


def gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """x: any shape; approximate: "none" or "tanh". Returns the shape of x."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def relu_squared(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """x: (..., d_model), up: (d_ff, d_model), down: (d_model, d_ff). Returns (..., d_model)."""
    return (x @ up.T).relu().square() @ down.T


def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """x: (..., d_model); gate, up: (d_ff, d_model); down: (d_model, d_ff). Returns as x."""
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


# Positions: chapter 7


def add_positions(x: torch.Tensor, table: torch.Tensor, start: int) -> torch.Tensor:
    """x: (B, T, d_model), table: (N, d_model). Returns (B, T, d_model)."""
    end = start + x.shape[1]
    if end > len(table):
        raise IndexError(f"position {end - 1} is past the end of a table with {len(table)} rows")
    return x + table[start:end]


# The model: chapter 10


def linear(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Multiply by the matrix of that name, and add its bias if there is one."""
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, config) -> torch.Tensor:
    """RMSNorm or LayerNorm, as the config says. Without weights the scale is 1."""
    scale = weights[f"{name}.weight"] if config.norm_weight else x.new_ones(x.shape[-1])
    if config.norm == "rmsnorm":
        return rms_norm(x, scale, config.norm_eps)
    shift = weights.get(f"{name}.bias", x.new_zeros(x.shape[-1]))
    return layer_norm(x, scale, shift, config.norm_eps)


def feed_forward(x: torch.Tensor, weights: dict[str, torch.Tensor], config) -> torch.Tensor:
    """The feed-forward of a block: SwiGLU, ReLU² or GELU, as the config says."""
    kind = config.feedforward.activation
    up, down = weights["feedforward.up_proj.weight"], weights["feedforward.down_proj.weight"]
    if kind == "swiglu":
        return swiglu(x, weights["feedforward.gate_proj.weight"], up, down)
    if kind == "relu2":
        return relu_squared(x, up, down)
    hidden = linear(x, weights, "feedforward.up_proj")
    hidden = gelu(hidden, "tanh" if kind == "gelu_tanh" else "none")
    return linear(hidden, weights, "feedforward.down_proj")


def transformer_block(x: torch.Tensor, weights: dict[str, torch.Tensor], rope, config) -> torch.Tensor:
    """x: (B, T, d_model), rope: (cos, sin) or None. Returns the new stream, (B, T, d_model)."""
    h = norm(x, weights, "mixer_norm", config)
    q = split_heads(linear(h, weights, "mixer.q_proj"), config.mixer.n_heads)
    k = split_heads(linear(h, weights, "mixer.k_proj"), config.mixer.n_kv_heads)
    v = split_heads(linear(h, weights, "mixer.v_proj"), config.mixer.n_kv_heads)
    if rope is not None:
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
    positions = torch.arange(x.shape[1], device=x.device)
    y = grouped_attention(q, k, v, causal_mask(positions, positions))
    x = x + linear(merge_heads(y), weights, "mixer.o_proj")
    return x + feed_forward(norm(x, weights, "feedforward_norm", config), weights, config)


def gpt(tokens: torch.Tensor, weights: dict[str, torch.Tensor], config) -> torch.Tensor:
    """tokens: (B, T). Returns logits (B, T, vocab)."""
    x = weights["embedding.weight"][tokens]
    rope = None
    if config.positions == "learned":
        x = add_positions(x, weights["positions.embedding.weight"], 0)
    else:
        frequencies = rope_frequencies(config.mixer.d_head, config.rope.theta).to(x.device)
        angles = torch.arange(tokens.shape[1], device=x.device)[:, None] * frequencies
        rope = angles.cos(), angles.sin()
    if config.embedding_norm:
        x = norm(x, weights, "embedding_norm", config)
    for i in range(config.n_layers):
        start = f"blocks.{i}."
        block = {name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)}
        x = transformer_block(x, block, rope, config)
    x = norm(x, weights, "final_norm", config)
    head = weights["head.weight"] if "head.weight" in weights else weights["embedding.weight"]
    return x @ head.T


def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """logits: (B, T, vocab), tokens: (B, T). Returns the mean loss in nats, a tensor without axes."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def init_std(name: str, n_layers: int) -> float:
    """Standard deviation of a new tensor of that name; 0.0 for one that is not random."""
    if "norm" in name or name.endswith(".bias"):
        return 0.0
    writes = name.endswith(("o_proj.weight", "down_proj.weight"))  # into the residual stream
    return 0.02 / math.sqrt(2 * n_layers) if writes else 0.02


# Weights: from a folder, or new; and text from a model


def load(folder: str | Path) -> tuple[dict[str, torch.Tensor], SimpleNamespace]:
    """Read the weights and the config of a folder with config.json and model.safetensors."""
    text = (Path(folder) / "config.json").read_text(encoding="utf-8")
    weights = load_file(Path(folder) / "model.safetensors")
    config = json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields))
    return {name: weight.float() for name, weight in weights.items()}, config


def new_weights(like: dict[str, torch.Tensor], n_layers: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights with the names and shapes of others: a model before its training."""
    rng = torch.Generator().manual_seed(seed)
    weights = {}
    for name, each in like.items():
        start = 1.0 if "norm" in name and name.endswith(".weight") else 0.0
        weights[name] = start + init_std(name, n_layers) * torch.randn(each.shape, generator=rng)
    return weights


@torch.no_grad()
def write(tokens: torch.Tensor, weights: dict[str, torch.Tensor], config, new_tokens: int) -> torch.Tensor:
    """Append the most probable token to each text, again and again. tokens: (B, T)."""
    for _ in range(new_tokens):
        logits = gpt(tokens[:, -config.max_seq_len :], weights, config)
        tokens = torch.cat((tokens, logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    return tokens
