"""Attention: every position takes a weighted mean of the values at the positions it may attend to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pocketgpt.checked import ConfigError
from pocketgpt.layers.attention_backends import causal_mask, fused_attention
from pocketgpt.layers.context import Context, TokenStore
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.part import Mixer, ModelShape, PartConfig, PerToken
from pocketgpt.layers.rope import apply_rope


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(PartConfig):
    """Multi-head attention; with fewer key/value heads grouped-query or multi-query attention."""

    kind: ClassVar[str] = "attention"

    n_heads: int
    """Query heads."""
    n_kv_heads: int | None = None
    """Key/value heads: equal to n_heads is multi-head attention (the default), 1 is multi-query, between is grouped."""
    d_head: int | None = None
    """Width of a head; d_model // n_heads if not given."""
    window: int | None = None
    """Sliding window: a token sees itself and the window − 1 tokens before it."""
    n_anchors: int = 0
    """With a window: the first n_anchors tokens, which all later ones see too (attention sinks, global tokens)."""
    bias: bool = False
    """Biases on q_proj, k_proj and v_proj."""
    output_bias: bool = False
    """A bias on o_proj."""
    qk_norm: bool = False
    """RMS-normalize queries and keys per head before they are rotated (Qwen 3)."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_heads")
        for name in ("n_kv_heads", "d_head", "window"):
            if getattr(self, name) is not None:
                self._require_positive_integers(name)
        if self.n_anchors != 0:
            self._require_positive_integers("n_anchors")
            self._require(self.window is not None, "n_anchors", "0, or a window: without one every token is visible")
        divisors = [str(n) for n in range(1, self.n_heads + 1) if self.n_heads % n == 0]
        divides = self.n_kv_heads is None or self.n_heads % self.n_kv_heads == 0
        self._require(divides, "n_kv_heads", f"a divisor of n_heads = {self.n_heads}: {', '.join(divisors)}")

    def resolved(self, model: ModelShape) -> "AttentionConfig":
        """The same config with `n_kv_heads` and `d_head` filled in. Raises ConfigError if d_model has no such heads."""
        if self.d_head is None:
            # Twice n_heads, so that a head can be halved into pairs.
            multiple = -(-model.d_model // (2 * self.n_heads)) * 2 * self.n_heads
            if model.d_model % self.n_heads:
                raise ConfigError(
                    f"ModelConfig.d_model = {model.d_model} cannot work: use a multiple of n_heads = {self.n_heads}, "
                    f"such as {multiple}, or give d_head."
                )
        d_head = self.d_head or model.d_model // self.n_heads
        full = replace(self, n_kv_heads=self.n_kv_heads or self.n_heads, d_head=d_head)
        if model.positions == "rope":
            full._require(d_head % 2 == 0, "d_head", f"an even number, such as {d_head + 1}: RoPE turns pairs")
            stretched = model.rope.scaling in ("ntk", "dynamic")
            full._require(d_head > 2 or not stretched, "d_head", "4 or more: a single pair has no slower one")
        full._require(model.causal or self.window is None, "window", "None, or causal = True: a window looks back")
        return full


class Attention(Mixer):
    """Project to queries, keys and values; rotate; attend; project back.

    `attend` is the backend (`attention_backends`), changed by `model.use_attention`.
    """

    def __init__(self, config: AttentionConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        self.d_head = config.d_head
        self.causal = model.causal
        self.dropout = model.dropout
        self.rotary_width = config.d_head if model.positions == "rope" else 0
        q_width, kv_width = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q_proj = nn.Linear(model.d_model, q_width, bias=config.bias)
        self.k_proj = nn.Linear(model.d_model, kv_width, bias=config.bias)
        self.v_proj = nn.Linear(model.d_model, kv_width, bias=config.bias)
        self.o_proj = nn.Linear(q_width, model.d_model, bias=config.output_bias)
        # QK-norm: Dehghani et al. 2023 (arXiv 2302.05442), with RMSNorm as in Qwen 3 (arXiv 2505.09388).
        self.q_norm = RMSNorm(config.d_head, model.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.d_head, model.norm_eps) if config.qk_norm else nn.Identity()
        self.attend = fused_attention

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        # project and split into heads
        q = self.q_norm(self.split_heads(self.q_proj(x)))  # (B, H, T, d_head)
        k = self.k_norm(self.split_heads(self.k_proj(x)))  # (B, H_kv, T, d_head)
        v = self.split_heads(self.v_proj(x))  # (B, H_kv, T, d_head)
        # rotate by position; keys only once, before they are cached
        if self.rotary_width:
            q = self.rotate(q, *context.rotations[self.rotary_width])
            k = self.rotate(k, *context.rotations[self.rotary_width])
        # attend to these tokens, or to these and the cached ones
        if cache is None:
            mask = self.window_mask(x)
        else:
            (k, v), mask = cache.update(k, v)  # (B, H_kv, S, d_head)
        is_causal = self.causal and mask is None
        y = self.attend(q, k, v, mask=mask, is_causal=is_causal, dropout=self.dropout if self.training else 0.0)
        # merge heads and project back
        return self.o_proj(self.merge_heads(y))  # (B, T, d_model)

    def split_heads(self, x: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch heads seq d_head"]:
        """(B, T, H · d_head) → (B, H, T, d_head)."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)

    def merge_heads(self, x: Float[Tensor, "batch heads seq d_head"]) -> Float[Tensor, "batch seq width"]:
        """(B, H, T, d_head) → (B, T, H · d_head): the heads of a token side by side again."""
        return x.transpose(1, 2).flatten(2)

    def rotate(
        self,
        x: Float[Tensor, "batch heads seq d_head"],
        cos: Float[Tensor, "rows 1 seq half"],
        sin: Float[Tensor, "rows 1 seq half"],
    ) -> Float[Tensor, "batch heads seq d_head"]:
        return apply_rope(x, cos, sin)

    def window_mask(self, x: Float[Tensor, "batch seq d_model"]) -> Bool[Tensor, "seq seq"] | None:
        """The mask of a sliding window with its anchors, or None where it hides nothing of a causal sequence
        (is_causal is faster than a mask)."""
        seq, window, n_anchors = x.shape[1], self.config.window, self.config.n_anchors
        if window is None or seq <= n_anchors + window:
            return None
        positions = torch.arange(seq, device=x.device)
        return causal_mask(positions, positions, window, n_anchors)

    def flops_per_token(self, seq: int) -> int:
        """Projections 2 · d_model · d_head · (2 · n_heads + 2 · n_kv_heads); QKᵀ and the weighted sum 4 · n_heads ·
        d_head · seq, over the whole square, as attention kernels are usually counted. A window changes nothing here:
        its mask hides scores that were computed. `sparse_attention` counts the ones that are needed."""
        config, d_model = self.config, self.o_proj.out_features
        projections = 2 * d_model * config.d_head * (2 * config.n_heads + 2 * config.n_kv_heads)
        return projections + 4 * config.n_heads * config.d_head * seq

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.o_proj.weight

    def cached(self) -> PerToken:
        """Keys and values: 2 · n_kv_heads · d_head values per token."""
        size = (self.config.n_kv_heads, self.config.d_head)
        return PerToken((size, size), self.config.window, self.config.n_anchors)
