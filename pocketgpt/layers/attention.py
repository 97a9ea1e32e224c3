"""Attention: every position looks at the positions it may see and takes a weighted mean of their values.

`attention` is the readable form; `fused_attention` computes the same with PyTorch's fused operator, and is what the
model runs. Multi-head, grouped-query and multi-query attention are one code path: n_kv_heads equal to n_heads,
between, or 1.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.config import ModelConfig
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.rope import Rotation, apply_rope


def causal_mask(
    query_positions: Int[Tensor, "*rows seq"], key_positions: Int[Tensor, "*rows keys"], window: int | None = None
) -> Bool[Tensor, "*rows seq keys"]:
    """True where a query may look at a key: at itself and earlier, and with a window not more than window − 1 back."""
    distance = query_positions[..., :, None] - key_positions[..., None, :]
    visible = distance >= 0
    return visible if window is None else visible & (distance < window)


def expand_kv_heads(
    x: Float[Tensor, "batch kv_heads keys d_head"], n_heads: int
) -> Float[Tensor, "batch heads keys d_head"]:
    """Give every query head its key/value head: 0 0 0 1 1 1, not 0 1 0 1 0 1.

    Source: Ainslie et al. 2023, GQA (arXiv 2305.13245).
    """
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


def attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Bool[Tensor, "*#batch seq keys"] | None = None,
) -> tuple[Float[Tensor, "batch heads seq d_head"], Float[Tensor, "batch heads seq keys"]]:
    """softmax(QKᵀ/√d_head + M) V, step by step; returns the output and the weights. True in the mask: may look.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1.
    """
    k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


def fused_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Bool[Tensor, "*#batch seq keys"] | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_head"]:
    """`attention` through PyTorch's fused operator (FlashAttention and its kin), which never stores the weights.

    is_causal aligns to the top left corner: right only when queries and keys start at the same position.
    Source: Dao et al. 2022, FlashAttention (arXiv 2205.14135).
    """
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, enable_gqa=q.shape[1] != k.shape[1])


@runtime_checkable
class LayerCache(Protocol):
    """What attention asks of a cache: keep these keys and values, and give back all that may be looked at, with a mask
    unless it is the causal one of a sequence that begins."""

    def update(
        self, k: Float[Tensor, "batch kv_heads seq d_head"], v: Float[Tensor, "batch kv_heads seq d_head"]
    ) -> tuple[
        Float[Tensor, "batch kv_heads keys d_head"],
        Float[Tensor, "batch kv_heads keys d_head"],
        Bool[Tensor, "rows 1 seq keys"] | None,
    ]: ...


class Attention(nn.Module):
    """Project to queries, keys and values; rotate; attend; project back.

    `core` and `rotate` are the two steps in the middle, kept as attributes so that another function can take their
    place.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.d_head, self.causal, self.window, self.dropout = (
            config.d_head,
            config.causal,
            config.window,
            config.dropout,
        )
        q_width, kv_width = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q_proj = nn.Linear(config.d_model, q_width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.d_model, kv_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.d_model, kv_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(q_width, config.d_model, bias=config.output_bias)
        # QK-norm: Dehghani et al. 2023 (arXiv 2302.05442), with RMSNorm as in Qwen 3 (arXiv 2505.09388).
        self.q_norm = RMSNorm(config.d_head, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.d_head, config.norm_eps) if config.qk_norm else nn.Identity()
        self.core = fused_attention
        self.rotate = apply_rope

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], rope: Rotation | None, cache: LayerCache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q = self.q_norm(self.split_heads(self.q_proj(x)))  # (B, H, T, d_head)
        k = self.k_norm(self.split_heads(self.k_proj(x)))  # (B, H_kv, T, d_head)
        v = self.split_heads(self.v_proj(x))
        if rope is not None:
            q, k = self.rotate(q, *rope), self.rotate(k, *rope)
        if cache is None:
            mask = self.window_mask(x)
        else:
            k, v, mask = cache.update(k, v)  # keys are rotated once, at their own position, before they are kept
        is_causal = self.causal and mask is None
        y = self.core(q, k, v, mask=mask, is_causal=is_causal, dropout=self.dropout if self.training else 0.0)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def split_heads(self, x: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch heads seq d_head"]:
        """(B, T, H · d_head) → (B, H, T, d_head)."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)

    def window_mask(self, x: Float[Tensor, "batch seq d_model"]) -> Bool[Tensor, "seq seq"] | None:
        """The mask of a sliding window, or None where the sequence fits into it (is_causal is faster than a mask)."""
        seq = x.shape[1]
        if self.window is None or seq <= self.window:
            return None
        positions = torch.arange(seq, device=x.device)
        return causal_mask(positions, positions, self.window)
