"""Multi-head latent attention: keys and values of all heads are computed from one short vector per token, the latent.

The cache contains the latent instead of keys and values: kv_rank numbers per token and layer, whatever the number of
heads. Positions need a second, small key: a rotation cannot pass through the up-projection (it would have to be undone
and done again for every pair of positions), so d_rope further coordinates carry it, shared by all heads.

Published checkpoints (DeepSeek) store the rotated pairs side by side; here they are half a vector apart, as everywhere
in this package (`layers/rope.py` has the permutation).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pocketgpt.layers.attention_backends import fused_attention
from pocketgpt.layers.context import Context, TokenStore
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.part import Mixer, ModelShape, PartConfig, PerToken
from pocketgpt.layers.rope import apply_rope


@dataclass(frozen=True, kw_only=True)
class LatentAttentionConfig(PartConfig):
    """Multi-head latent attention (MLA): low-rank keys and values; the cache contains the low-rank latent."""

    kind: ClassVar[str] = "latent_attention"

    n_heads: int
    """Heads, of queries, keys and values alike."""
    kv_rank: int
    """Width of the latent from which keys and values are computed."""
    q_rank: int | None = None
    """Width of a latent for the queries, which saves parameters; None projects them directly."""
    d_head: int | None = None
    """Width of the part of queries and keys that knows no position; d_model // n_heads if not given."""
    d_rope: int = 0
    """Width of the part of queries and keys that is rotated by position; 0 for a model with other positions."""
    d_value: int | None = None
    """Width of a value; d_head if not given."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_heads", "kv_rank")
        for name in ("q_rank", "d_head", "d_value"):
            if getattr(self, name) is not None:
                self._require_positive_integers(name)
        self._require(type(self.d_rope) is int and self.d_rope >= 0, "d_rope", "0, or an even number such as 32")

    def resolved(self, model: ModelShape) -> "LatentAttentionConfig":
        """The same config with `d_head` and `d_value` filled in. Raises ConfigError for a d_rope that does not fit the
        model's positions."""
        d_head = self.d_head or max(1, model.d_model // self.n_heads)
        if model.positions == "rope":
            even = self.d_rope >= 4 and self.d_rope % 2 == 0
            self._require(even, "d_rope", "an even number of at least 4, such as 32, or positions other than rope")
        else:
            self._require(self.d_rope == 0, "d_rope", f"0 with positions = {model.positions!r}: nothing is rotated")
        return replace(self, d_head=d_head, d_value=self.d_value or d_head)


class LatentAttention(Mixer):
    """Compress to a latent; expand to keys and values; attend; project back.

    While decoding, keys and values are never expanded: q · (W_k c) = (W_kᵀ q) · c, so the up-projection of the keys is
    applied to the query once instead of to every cached latent, and that of the values to the result (`absorbed`).
    Sources: DeepSeek-AI 2024, DeepSeek-V2 (arXiv 2405.04434), section 2.1; V3 (arXiv 2412.19437), section 2.1.1.
    """

    # `absorbed` needs the matrix itself, and a decode step reads it once, whatever the length of the text.
    full_precision: ClassVar[tuple[str, ...]] = ("kv_up_proj",)

    def __init__(self, config: LatentAttentionConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        self.causal = model.causal
        self.dropout = model.dropout
        self.rotary_width = config.d_rope
        q_width = config.n_heads * (config.d_head + config.d_rope)
        if config.q_rank is None:
            self.q_proj = nn.Linear(model.d_model, q_width, bias=False)
        else:
            self.q_proj = nn.Sequential(
                nn.Linear(model.d_model, config.q_rank, bias=False),
                RMSNorm(config.q_rank, model.norm_eps),
                nn.Linear(config.q_rank, q_width, bias=False),
            )
        self.kv_down_proj = nn.Linear(model.d_model, config.kv_rank + config.d_rope, bias=False)
        self.kv_norm = RMSNorm(config.kv_rank, model.norm_eps)
        self.kv_up_proj = nn.Linear(config.kv_rank, config.n_heads * (config.d_head + config.d_value), bias=False)
        self.o_proj = nn.Linear(config.n_heads * config.d_value, model.d_model, bias=False)
        self.attend = fused_attention

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        config = self.config
        # queries: a part without position and a rotated part per head
        q = self.q_proj(x).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)  # (B, H, T, d_head + d_rope)
        q, q_rope = q.split((config.d_head, config.d_rope), dim=-1)
        # the latent, and one rotated key for all heads
        latent, k_rope = self.kv_down_proj(x)[:, None].split((config.kv_rank, config.d_rope), dim=-1)
        latent = self.kv_norm(latent)  # (B, 1, T, kv_rank)
        if self.rotary_width:
            q_rope = apply_rope(q_rope, *context.rotations[self.rotary_width])
            k_rope = apply_rope(k_rope, *context.rotations[self.rotary_width])
        latent = torch.cat((latent, k_rope.to(latent.dtype)), dim=-1)  # (B, 1, T, kv_rank + d_rope)
        # attend to these tokens, or to these and the cached ones
        if cache is None:
            y = self.expanded(q, q_rope, latent)
        else:
            [latent], mask = cache.update(latent)  # (B, 1, S, kv_rank + d_rope)
            y = self.expanded(q, q_rope, latent) if mask is None else self.absorbed(q, q_rope, latent, mask)
        # merge heads: (B, H, T, d_value) → (B, T, H · d_value)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def expanded(
        self,
        q: Float[Tensor, "batch heads seq d_head"],
        q_rope: Float[Tensor, "batch heads seq d_rope"],
        latent: Float[Tensor, "batch 1 seq rank"],
    ) -> Float[Tensor, "batch heads seq d_value"]:
        """Attention of a whole sequence, with the keys and values of every head: fewer operations."""
        config = self.config
        latent, k_rope = latent.to(q.dtype).split((config.kv_rank, config.d_rope), dim=-1)
        kv = self.kv_up_proj(latent[:, 0]).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)
        k, v = kv.split((config.d_head, config.d_value), dim=-1)  # (B, H, T, d_head), (B, H, T, d_value)
        q = torch.cat((q, q_rope), dim=-1)
        k = torch.cat((k, k_rope.to(k.dtype).expand(-1, config.n_heads, -1, -1)), dim=-1)
        return self.attend(q, k, v, is_causal=self.causal, dropout=self.dropout if self.training else 0.0)

    def absorbed(
        self,
        q: Float[Tensor, "batch heads seq d_head"],
        q_rope: Float[Tensor, "batch heads seq d_rope"],
        latent: Float[Tensor, "batch 1 keys rank"],
        mask: Bool[Tensor, "rows 1 seq keys"],
    ) -> Float[Tensor, "batch heads seq d_value"]:
        """The same with the up-projection applied to queries and results: multi-query attention over the latents."""
        config = self.config
        up = self.kv_up_proj.weight.to(q.dtype).unflatten(0, (config.n_heads, -1))  # (H, d_head + d_value, kv_rank)
        k_up, v_up = up.split((config.d_head, config.d_value), dim=1)
        q = torch.cat((q @ k_up, q_rope), dim=-1)  # (B, H, T, kv_rank + d_rope)
        # The backend divides by the root of the width it sees, and the width that counts is that of `expanded`.
        q = q * math.sqrt((config.kv_rank + config.d_rope) / (config.d_head + config.d_rope))
        y = self.attend(q, latent, latent[..., : config.kv_rank], mask=mask)  # (B, H, T, kv_rank)
        return y @ v_up.transpose(1, 2)

    def flops_per_token(self, seq: int) -> int:
        """Projections, and 2 · n_heads · seq · (d_head + d_rope + d_value) for QKᵀ and the sum, as in `expanded`."""
        config, d_model = self.config, self.o_proj.out_features
        q_width = config.n_heads * (config.d_head + config.d_rope)
        queries = d_model * q_width if config.q_rank is None else config.q_rank * (d_model + q_width)
        down = d_model * (config.kv_rank + config.d_rope)
        up = config.kv_rank * config.n_heads * (config.d_head + config.d_value)
        output = config.n_heads * config.d_value * d_model
        attention = config.n_heads * seq * (config.d_head + config.d_rope + config.d_value)
        return 2 * (queries + down + up + output + attention)

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.o_proj.weight

    def cached(self) -> PerToken:
        """The latent and the rotated key: kv_rank + d_rope values per token."""
        return PerToken(((1, self.config.kv_rank + self.config.d_rope),))
