"""The delta rule: a state that replaces what it stores under a key, where linear attention adds to it.

Linear attention adds every value to the state. Two values under one key are read as their sum. DeltaNet first reads the
value stored under the key, and writes a share β of the difference:

    S[t] = S[t−1] + k[t] (β[t] (v[t] − k[t]ᵀ S[t−1]))ᵀ        state, a matrix (d_head, d_head) per head
    y[t] = q[t]ᵀ S[t]

With keys of length 1 and β = 1, reading k[t] then gives exactly v[t]; with β = 0 nothing changes. β is computed from
the token, for each head. The update is one step of gradient descent on |kᵀ S − v|²/2 with learning rate β. There is no
normalizer; an RMSNorm per head brings what was read to unit size.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.context import Context, StateStore
from pocketgpt.layers.linear_attention import CHUNK, LinearAttention, LinearAttentionConfig
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.part import ModelShape, State


class DeltaRule(LinearAttention):
    """Project to queries, keys, values and β; bring queries and keys to length 1; run the recurrence; norm; project.

    Sources: Schlag et al. 2021, Linear Transformers are secretly fast weight programmers (arXiv 2102.11174), section
    4.2; Yang et al. 2024, Parallelizing linear Transformers with the delta rule (arXiv 2406.06484), section 3.
    """

    # β decides how much is overwritten at every token, so a small error in it adds up.
    adamw: ClassVar[tuple[str, ...]] = ("beta_proj.weight",)
    full_precision: ClassVar[tuple[str, ...]] = ("beta_proj",)

    def __init__(self, config: LinearAttentionConfig, model: ModelShape) -> None:
        super().__init__(config, model)
        self.beta_proj = nn.Linear(model.d_model, config.n_heads, bias=False)
        self.o_norm = RMSNorm(config.d_head, model.norm_eps)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q = self.rotate(F.normalize(self.split_heads(self.q_proj(x)), dim=-1), context)  # (B, H, T, d_head)
        k = self.rotate(F.normalize(self.split_heads(self.k_proj(x)), dim=-1), context)  # (B, H, T, d_head)
        v = self.split_heads(self.v_proj(x))  # (B, H, T, d_head)
        beta = self.beta_proj(x).float().sigmoid().transpose(1, 2)  # (B, H, T)
        (state,) = self.empty(x) if cache is None else cache.read()
        if cache is not None:
            beta = beta.masked_fill(~cache.real[:, None], 0.0)  # padding writes nothing
        # in float32, because errors add up over the sequence
        with torch.autocast(x.device.type, enabled=False):
            y, state = delta_reads(q, k, v, beta, state)
        if cache is not None:
            cache.write(state)
        return self.o_proj(self.merge_heads(self.o_norm(y)).to(x.dtype))  # (B, T, d_model)

    def flops_per_token(self, seq: int) -> int:
        """Projections 8 · d_model · n_heads · d_head and 2 · d_model · n_heads for β; products within a chunk and with
        the state 6 · n_heads · d_head · (chunk + d_head). The triangular system, chunk · d_head more per head, is not
        counted, as in FlopCounterMode."""
        width, chunk = self.config.n_heads * self.config.d_head, min(seq, CHUNK)
        projections = 2 * self.o_proj.out_features * (4 * width + self.config.n_heads)
        return projections + 6 * width * (chunk + self.config.d_head)

    def cached(self) -> State:
        """The matrix of each head."""
        return State(((self.config.n_heads, self.config.d_head, self.config.d_head),))


def delta_reads(
    q: Float[Tensor, "batch heads seq d_key"],
    k: Float[Tensor, "batch heads seq d_key"],
    v: Float[Tensor, "batch heads seq d_value"],
    beta: Float[Tensor, "batch heads seq"],
    state: Float[Tensor, "batch heads d_key d_value"],
) -> tuple[Float[Tensor, "batch heads seq d_value"], Float[Tensor, "batch heads d_key d_value"]]:
    """q[t]ᵀ S[t] for every token, and the state after the last one.

    In chunks. A token of the chunk reads the state before the chunk, and what the chunk's earlier tokens wrote:

        written[t] = β[t] (v[t] − k[t]ᵀ S − Σ (k[t] · k[s]) written[s])          over s < t in the chunk

    which is a triangular system of linear equations for all rows of `written` at once (the WY form of Yang et al.).
    """
    reads = []
    parts = (x.split(CHUNK, dim=2) for x in (q, k, v, beta[..., None]))
    for q_chunk, k_chunk, v_chunk, beta_chunk in zip(*parts, strict=True):
        overlap = (beta_chunk * (k_chunk @ k_chunk.mT)).tril(-1)  # (B, H, chunk, chunk)
        missing = beta_chunk * (v_chunk - k_chunk @ state)  # (B, H, chunk, d_value)
        written = torch.linalg.solve_triangular(overlap, missing, upper=False, unitriangular=True)
        reads.append(q_chunk @ state + (q_chunk @ k_chunk.mT).tril() @ written)
        state = state + k_chunk.mT @ written  # (B, H, d_key, d_value)
    return torch.cat(reads, dim=2), state


def build_linear_attention(config: LinearAttentionConfig, model: ModelShape) -> LinearAttention:
    """Linear attention with the configured rule."""
    return (DeltaRule if config.delta_rule else LinearAttention)(config, model)
