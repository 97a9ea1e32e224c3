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
