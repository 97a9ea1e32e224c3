"""What models cost: parameters, arithmetic and memory of the pocket model and of Llama-3-8B."""

from dataclasses import dataclass

import torch

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

# Grattafiori et al. 2024 (arXiv 2407.21783), table 3, and config.json of meta-llama/Meta-Llama-3-8B.
LLAMA_3_8B = ModelConfig(
    vocab_size=128_256,
    d_model=4096,
    n_layers=32,
    max_seq_len=8192,
    mixer=AttentionConfig(n_heads=32, n_kv_heads=8),
    feedforward=FeedForwardConfig(d_ff=14_336),
    rope=RopeConfig(theta=500_000.0),
    tie_embeddings=False,
)
MODELS = {"pocket model": preset("pocket-shakespeare"), "Llama-3-8B": LLAMA_3_8B}
ADAMW_BYTES = 16
"""Bytes per parameter of weights, gradients and AdamW's averages in float32 (chapter 15)."""


@dataclass(frozen=True)
class Costs:
    """Costs of a model of attention and gated feed-forward layers, in whole numbers."""

    embedding: int
    head: int
    attention: int
    feed_forward: int
    norms: int
    parameters: int
    flops: int
    attention_flops: int
    cache_bytes: int


def costs(config: ModelConfig) -> Costs:
    """Costs of a model: parameters by part (attention and feed-forward of one block), and per token in a full context.

    The totals are those of the library; the parts follow the formulas on the cheat sheet, and a test holds that they
    add up. `flops` is the forward pass; `cache_bytes` is in bfloat16.
    """
    config = config.resolved()
    mixer = config.mixer
    with torch.device("meta"):  # shapes without memory
        model = GPT(config)
    table = config.vocab_size * config.d_model
    return Costs(
        embedding=table,
        head=0 if config.tie_embeddings else table,
        attention=config.d_model * mixer.d_head * (2 * mixer.n_heads + 2 * mixer.n_kv_heads),
        feed_forward=3 * config.d_model * config.feedforward.d_ff,
        norms=(2 * config.n_layers + 1) * config.d_model,
        parameters=model.n_params(),
        flops=model.flops_per_token(config.max_seq_len),
        attention_flops=4 * config.n_layers * mixer.n_heads * mixer.d_head * config.max_seq_len,
        cache_bytes=model.cache_bytes(1, 1, torch.bfloat16),
    )


def cost_table() -> list[tuple[str, ...]]:
    """Rows of what it costs: name, formula (empty for sizes), and the number of each model."""
    columns = [_cost_column(config.resolved()) for config in MODELS.values()]
    return [(*row, *numbers) for row, *numbers in zip(COST_ROWS, *columns, strict=True)]


COST_ROWS = (
    ("blocks, L", ""),
    ("heads, H / H_kv", ""),
    ("d_head", ""),
    ("d_model", ""),
    ("d_ff", ""),
    ("vocabulary, V", ""),
    ("context, T", ""),
    ("embedding", "V d_model"),
    ("head", "V d_model; 0 if tied"),
    ("attention, per block", "d_model d_head (2 H + 2 H_kv)"),
    ("feed-forward, per block", "3 d_model d_ff; without a gate 2 d_model d_ff"),
    ("norms", "(2 L + 1) d_model"),
    ("parameters, N", "embedding + head + L blocks + norms"),
    ("FLOPs per token, forward", "2 · weights multiplied + 4 L H d_head T"),
    ("attention's own share", "4 L H d_head T of it"),
    ("FLOPs per token, training", "3 · forward"),
    ("KV cache per token, bf16", "2 L H_kv d_head · 2 bytes"),
    ("KV cache, full context", "T times that"),
    ("weights, bf16", "2 N bytes"),
    ("training state, float32", "16 N bytes: weights, gradients, AdamW's m and v"),
)


def _cost_column(config: ModelConfig) -> list[str]:
    count, mixer = costs(config), config.mixer
    return [
        str(config.n_layers),
        f"{mixer.n_heads} / {mixer.n_kv_heads}",
        *(f"{size:,}" for size in (mixer.d_head, config.d_model, config.feedforward.d_ff)),
        *(f"{size:,}" for size in (config.vocab_size, config.max_seq_len)),
        *map(with_unit, (count.embedding, count.head, count.attention, count.feed_forward, count.norms)),
        f"{count.parameters:,}",
        with_unit(count.flops),
        f"{count.attention_flops / count.flops:.0%}",
        with_unit(3 * count.flops),
        with_bytes(count.cache_bytes),
        with_bytes(count.cache_bytes * config.max_seq_len),
        with_bytes(2 * count.parameters),
        with_bytes(ADAMW_BYTES * count.parameters),
    ]


def with_unit(number: int) -> str:
    """Format a count with three digits: 786432 → "786 K"."""
    return _scaled(number, 1000, ("", " K", " M", " B", " T"))


def with_bytes(number: int) -> str:
    """Format bytes with three digits: 131072 → "128 KiB"."""
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while number >= base and power < len(units) - 1:
        number, power = number / base, power + 1
    digits = max(0, 3 - len(str(int(number)))) if number != int(number) else 0
    return f"{number:.{digits}f}{units[power]}"
