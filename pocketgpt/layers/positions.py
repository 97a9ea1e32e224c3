"""Positions that are added to the embedding, learned or sinusoidal. Without any, attention does not know the order."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.layers.part import ModelShape


class LearnedPositions(nn.Module):
    """Adds a learned vector per position. There is none past max_seq_len.

    Source: Radford et al. 2019 (GPT-2).
    """

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max_seq_len, d_model)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], positions: Int[Tensor, "rows seq"]
    ) -> Float[Tensor, "batch seq d_model"]:
        return x + self.embedding(positions)


def sinusoids(positions: Int[Tensor, "*rows seq"], d_model: int) -> Float[Tensor, "*rows seq d_model"]:
    """sin(position · 10000^(−2i/d_model)) in column 2i and its cosine in column 2i + 1, in float32.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    """
    exponents = torch.arange(0, d_model, 2, device=positions.device, dtype=torch.float32) / d_model
    angles = positions[..., None].float() * 10_000.0**-exponents
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class SinusoidalPositions(nn.Module):
    """Scales the embedding by √d_model and adds `sinusoids`: nothing to learn, defined for every position.

    Sinusoids have size 0.7 and embeddings start at 0.02: without the scale, the position drowns the token.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), sections 3.4 and 3.5.
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], positions: Int[Tensor, "rows seq"]
    ) -> Float[Tensor, "batch seq d_model"]:
        return x * math.sqrt(x.shape[-1]) + self.table(positions, x.shape[-1]).to(x.dtype)

    def table(self, positions: Int[Tensor, "rows seq"], d_model: int) -> Float[Tensor, "rows seq d_model"]:
        return sinusoids(positions, d_model)


def build_positions(config: ModelShape) -> nn.Module | None:
    """The configured positions, which are added to the embedding; None for RoPE, which acts inside attention, and for
    models without positions."""
    if config.positions == "learned":
        return LearnedPositions(config.max_seq_len, config.d_model)
    return SinusoidalPositions() if config.positions == "sinusoidal" else None
