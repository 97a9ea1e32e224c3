"""softmax(QKᵀ/√d + M) V, computed in several ways: the same up to rounding, with different speed and memory.

| backend      | how                                                | use it for                                       |
|--------------|----------------------------------------------------|--------------------------------------------------|
| step_by_step | scores, softmax, weighted sum, each a tensor       | reading, looking at weights                      |
| fused        | PyTorch's fused operator, FlashAttention and its   | everything else, and always on a GPU             |
|              | kin; weights are never stored                      |                                                  |
| short        | whole matrix products, for causal sequences of up  | training in bf16 on CPUs that multiply it in     |
|              | to 512 tokens; otherwise fused                     | hardware: 2 to 6 times as fast up to 512 tokens, |
|              |                                                    | with 2 to 8 times the rounding error             |
| decode       | plain sums for a single query in compiled code;    | writing with weights or cache in another dtype   |
|              | otherwise fused                                    | than the queries                                 |

All have the same signature (`Backend`), and `model.use_attention(name or function)` puts one into a model. A mask of
booleans is True where a query may attend to a key; a mask of numbers, such as a relative bias, is added to the scores,
and −inf hides. Multi-head, grouped-query and multi-query attention are one code path: as many key/value heads as query
heads, fewer, or one.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

Backend = Callable[..., Tensor]
"""backend(q, k, v, mask=None, is_causal=False, dropout=0.0) -> output."""

Mask = Bool[Tensor, "*#batch seq keys"] | Float[Tensor, "*#batch seq keys"]
"""True: may attend; a number: added to the score."""

LONGEST_SHORT = 512
"""Longest sequence for which `short_attention` multiplies whole matrices; their size grows with its square."""


def causal_mask(
    query_positions: Int[Tensor, "*rows seq"],
    key_positions: Int[Tensor, "*rows keys"],
    window: int | None = None,
    n_anchors: int = 0,
) -> Bool[Tensor, "*rows seq keys"]:
    """True where a query may attend to a key: to itself and earlier, with a window at most window − 1 back, or to one
    of the first n_anchors tokens."""
    distance = query_positions[..., :, None] - key_positions[..., None, :]
    visible = distance >= 0
    if window is None:
        return visible
    return visible & ((distance < window) | (key_positions < n_anchors)[..., None, :])


def expand_kv_heads(
    x: Float[Tensor, "batch kv_heads keys d_head"], n_heads: int
) -> Float[Tensor, "batch heads keys d_head"]:
    """Repeat each key/value head for the query heads of its group: 0 0 0 1 1 1, not 0 1 0 1 0 1.

    Source: Ainslie et al. 2023, GQA (arXiv 2305.13245).
    """
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


def attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "batch heads seq d_value"], Float[Tensor, "batch heads seq keys"]]:
    """softmax(QKᵀ/√d_head + M) V, step by step; returns the output and the weights.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1.
    """
    weights = attention_weights(q, k, mask)
    return weights @ expand_kv_heads(v, q.shape[1]), weights


def attention_weights(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Mask | None = None,
) -> Float[Tensor, "batch heads seq keys"]:
    """softmax(QKᵀ/√d_head + M): for each query, weights over the keys that sum to 1.

    A query that may attend to no key has weights 0, as in PyTorch's fused operator.
    """
    scores = q @ expand_kv_heads(k, q.shape[1]).transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.is_floating_point():
        scores, mask = scores + mask, mask > -math.inf
    lowest = torch.finfo(scores.dtype).min  # and not −inf: the softmax of nothing but −inf is NaN
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)


def step_by_step_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_value"]:
    """`attention` as a backend: without the weights, with dropout on them."""
    if is_causal:
        mask = causal_mask(*(torch.arange(x.shape[2], device=x.device) for x in (q, k)))
    weights = F.dropout(attention_weights(q, k, mask), dropout)
    return weights @ expand_kv_heads(v, q.shape[1])


def fused_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_value"]:
    """`attention` through PyTorch's fused operator (FlashAttention and its kin), which never stores the weights.

    is_causal aligns to the top left corner: right only when queries and keys start at the same position.
    Source: Dao et al. 2022, FlashAttention (arXiv 2205.14135).
    """
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, enable_gqa=q.shape[1] != k.shape[1])


def short_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_value"]:
    """`fused_attention`, with short causal sequences as two matrix products and a softmax between.

    On CPUs that multiply bf16 in hardware, products of whole matrices run at full speed, and the fused operator, which
    works through small tiles, does not: its forward and backward pass took 2 to 6 times as long at 128 to 512 tokens,
    as long at 1,024, and less beyond. Nor does it store what these products do, heads · T² weights for each sequence
    and layer (0.8 MB with 6 heads, 256 tokens and bf16): hence LONGEST_SHORT.

    Query heads that share a key/value head are one taller matrix: no key or value is repeated. In bf16 scores and
    weights are bf16 too, where the fused operator computes them in float32: 2 to 8 times its rounding error.
    """
    n_batch, n_heads, seq, d_head = q.shape
    if mask is not None or not is_causal or k.shape[2] != seq or seq > LONGEST_SHORT:
        return fused_attention(q, k, v, mask, is_causal, dropout)
    group = n_heads // k.shape[1]
    q = (q / math.sqrt(d_head)).reshape(-1, group * seq, d_head)  # (B · H_kv, G · T, d_head)
    k = k.reshape(-1, seq, d_head)
    v = v.reshape(-1, seq, v.shape[-1])
    later = torch.full((seq, seq), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    weights = (q @ k.mT + later.repeat(group, 1)).softmax(dim=-1)
    return (F.dropout(weights, dropout) @ v).view(n_batch, n_heads, seq, v.shape[-1])


def decode_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_value"]:
    """`fused_attention` for keys and values in another dtype than the queries; a single query, when compiled, in plain
    sums.

    With one query nothing is used twice, so there is no product of matrices to speed up: the sums run at the speed of
    reading keys and values, which the query heads of a group share. In float32 whatever the dtype of the cache.
    """
    if mask is not None and mask.is_floating_point():
        return fused_attention(q.to(k.dtype), k, v, mask.to(k.dtype), is_causal, dropout).to(q.dtype)
    if q.shape[2] > 1 or mask is None or not torch.compiler.is_compiling():
        return fused_attention(q.to(k.dtype), k, v, mask, is_causal, dropout).to(q.dtype)
    group = q.shape[1] // k.shape[1]
    q = q.unflatten(1, (-1, group))  # (B, H_kv, G, 1, d_head)
    scores = (q * k.float()[:, :, None]).sum(dim=-1) / math.sqrt(q.shape[-1])  # (B, H_kv, G, S)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return (weights[..., None] * v.float()[:, :, None]).sum(dim=-2).flatten(1, 2)[:, :, None]


BACKENDS: dict[str, Backend] = {
    "step_by_step": step_by_step_attention,
    "fused": fused_attention,
    "short": short_attention,
    "decode": decode_attention,
}
