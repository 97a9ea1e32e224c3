"""Attention as decoding needs it: one query against all that the cache holds."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.layers.attention import fused_attention


def decode_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Bool[Tensor, "*#batch seq keys"] | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_head"]:
    """`fused_attention` for keys and values of another dtype than the queries; a single query, when compiled, in
    plain sums.

    With one query nothing is used twice, so there is no product of matrices to speed up: the sums run at the speed of
    reading keys and values, which the query heads of a group share. In float32 whatever the cache is stored in.
    """
    if q.shape[2] > 1 or mask is None or not torch.compiler.is_compiling():
        return fused_attention(q.to(k.dtype), k, v, mask, is_causal, dropout).to(q.dtype)
    group = q.shape[1] // k.shape[1]
    q = q.unflatten(1, (-1, group))  # (B, H_kv, G, 1, d_head)
    scores = (q * k.float()[:, :, None]).sum(dim=-1) / math.sqrt(q.shape[-1])  # (B, H_kv, G, S)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return (weights[..., None] * v.float()[:, :, None]).sum(dim=-2).flatten(1, 2)[:, :, None]
