"""Latent attention: keys and values of all heads are computed from one short vector per token, which is all the cache
contains.

Notation of the paper and names here, for a token with input h and for head i:

    c    = RMSNorm(W_DKV h)                 latent                           kv_latent_proj (first rows), kv_norm
    k_R  = RoPE(W_KR h)                     rotary key, one for all heads    kv_latent_proj (last rows)
    k_i  = [W_UK,i c ; k_R]                 key                              k_up_proj
    v_i  = W_UV,i c                         value                            v_up_proj
    c_q  = RMSNorm(W_DQ h)                  latent of the queries, or h      q_latent_proj, q_norm
    q_i  = [W_UQ,i c_q ; RoPE(W_QR,i c_q)]  query                            q_proj (per head: W_UQ,i, then W_QR,i)

Two forms give the same result. They differ in where W_UK is applied in a score, and W_UV in the output:

    explicit    q · (W_UK c)    Σ weight · (W_UV c)    expands latents to keys and values: for a whole sequence
    absorbed    (W_UKᵀ q) · c   W_UV · (Σ weight · c)  attends over the latents themselves: for a few new tokens

The absorbed form is multi-query attention, with [c ; k_R] as the only key and c as the only value. A decode step has
one new query and many cached tokens, of which it expands none.

RoPE depends on the position, so it cannot be between W_UK and c. Hence the separate rotary coordinates ("decoupled
RoPE"), which are cached after rotation.

Sources: DeepSeek-AI 2024, DeepSeek-V2 (arXiv 2405.04434), section 2.1, eq. 9 to 19, and section 3.1.2 for the norms on
the latents, which the equations leave out; DeepSeek-V3 (arXiv 2412.19437), section 2.1.1.

Published checkpoints differ in three ways:

- Rotary pairs are side by side. `rope.interleaved_to_half` reorders the last d_rope rows of `kv_a_proj_with_mqa`, and
  those of each head of `q_proj` or `q_b_proj`.
- `kv_b_proj` contains W_UK,i and W_UV,i in turn, head after head.
- Where YaRN stretches RoPE, its factor is on all of the score (`mscale_all_dim`) and not on cos and sin only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pocketgpt.checked import ConfigError
from pocketgpt.layers.attention_backends import fused_attention
from pocketgpt.layers.context import Context, TokenStore
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.part import Mixer, ModelShape, PartConfig, PerToken
from pocketgpt.layers.rope import apply_rope


@dataclass(frozen=True, kw_only=True)
class LatentAttentionConfig(PartConfig):
    """Multi-head latent attention: a cache of one short vector per token, for any number of heads."""

    kind: ClassVar[str] = "latent_attention"

    n_heads: int
    """Heads of queries, keys and values."""
    kv_rank: int | None = None
    """Width of the latent from which keys and values are computed; 4 · d_head if not given, as in DeepSeek-V2."""
    q_rank: int | None = None
    """Width of a latent for queries, which saves memory in training; None: queries are computed directly."""
    d_head: int | None = None
    """Width of a head's query and key without the rotary part; d_model // n_heads if not given."""
    d_rope: int | None = None
    """Rotary coordinates added to each query and key; half of d_head if not given, 0 with other positions than rope."""
    d_value: int | None = None
    """Width of a head's value; d_head if not given."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_heads")
        for name in ("kv_rank", "q_rank", "d_head", "d_value"):
            if getattr(self, name) is not None:
                self._require_positive_integers(name)
        whole = self.d_rope is None or (type(self.d_rope) is int and self.d_rope >= 0)
        self._require(whole, "d_rope", "0 for none, or an even number, such as 32")

    def resolved(self, model: ModelShape) -> "LatentAttentionConfig":
        """The same config with every width filled in. Raises ConfigError if d_model has no such heads."""
        if self.d_head is None and model.d_model % self.n_heads:
            raise ConfigError(
                f"ModelConfig.d_model = {model.d_model} cannot work: use a multiple of n_heads = {self.n_heads}, "
                f"such as {-(-model.d_model // self.n_heads) * self.n_heads}, or give d_head."
            )
        d_head = self.d_head or model.d_model // self.n_heads
        rotates = model.positions == "rope"
        d_rope = self.d_rope
        if d_rope is None:
            d_rope = max(4, -(-d_head // 4) * 2) if rotates else 0  # even, and two pairs at least
        full = replace(
            self, kv_rank=self.kv_rank or 4 * d_head, d_head=d_head, d_rope=d_rope, d_value=self.d_value or d_head
        )
        if rotates:
            full._require(d_rope % 2 == 0, "d_rope", f"an even number, such as {d_rope + 1}: RoPE turns pairs")
            stretched = model.rope.scaling in ("ntk", "dynamic")
            full._require(d_rope != 2 or not stretched, "d_rope", "4 or more: a single pair has no slower one")
        return full


class LatentAttention(Mixer):
    """Compress to a latent; expand it to keys and values, or attend to it directly; project back.

    `attend` is the backend (`attention_backends`), changed by `model.use_attention`; both forms go through it.
    """

    # The absorbed form multiplies by them head by head and not as projections of a token. With fewer bytes, they would
    # have to be widened in memory at every step, which costs more than reading them as they are.
    full_precision: ClassVar[tuple[str, ...]] = ("k_up_proj", "v_up_proj")

    def __init__(self, config: LatentAttentionConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        self.causal = model.causal
        self.dropout = model.dropout
        self.rotary_width = config.d_rope if model.positions == "rope" else 0
        if config.q_rank is not None:
            self.q_latent_proj = nn.Linear(model.d_model, config.q_rank, bias=False)
            self.q_norm = RMSNorm(config.q_rank, model.norm_eps)
        q_width = config.n_heads * (config.d_head + config.d_rope)
        self.q_proj = nn.Linear(config.q_rank or model.d_model, q_width, bias=False)
        self.kv_latent_proj = nn.Linear(model.d_model, config.kv_rank + config.d_rope, bias=False)
        self.kv_norm = RMSNorm(config.kv_rank, model.norm_eps)
        self.k_up_proj = nn.Linear(config.kv_rank, config.n_heads * config.d_head, bias=False)
        self.v_up_proj = nn.Linear(config.kv_rank, config.n_heads * config.d_value, bias=False)
        self.o_proj = nn.Linear(config.n_heads * config.d_value, model.d_model, bias=False)
        self.attend = fused_attention

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q = self.queries(x, context)  # (B, H, T, d_head + d_rope)
        compressed = self.compress(x, context)  # (B, 1, T, kv_rank + d_rope)
        # without a mask, these tokens are the whole sequence so far; with one, there are cached tokens
        mask = None
        if cache is not None:
            (compressed,), mask = cache.update(compressed)  # (B, 1, S, kv_rank + d_rope)
        y = self.explicit(q, compressed) if mask is None else self.absorbed(q, compressed, mask)
        # merge heads: (B, H, T, d_value) → (B, T, H · d_value)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def queries(
        self, x: Float[Tensor, "batch seq d_model"], context: Context
    ) -> Float[Tensor, "batch heads seq d_query"]:
        """Queries of all heads: d_head coordinates, then d_rope rotated ones (eq. 12 to 16, or from x directly)."""
        config = self.config
        # through a latent if configured
        source = x if config.q_rank is None else normalize(self.q_norm, self.q_latent_proj(x))
        # project and split into heads: (B, H, T, d_head + d_rope)
        q = self.q_proj(source).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)
        # rotate the last coordinates
        content, rotary = q.split((config.d_head, config.d_rope), dim=-1)
        return torch.cat((content, self.rotate(rotary, context)), dim=-1)

    def compress(
        self, x: Float[Tensor, "batch seq d_model"], context: Context
    ) -> Float[Tensor, "batch 1 seq compressed"]:
        """The values that are cached: the normalized latent and the rotated key, side by side (eq. 9 and 15)."""
        config = self.config
        latent, rotary = self.kv_latent_proj(x)[:, None].split((config.kv_rank, config.d_rope), dim=-1)  # (B, 1, T, …)
        return torch.cat((normalize(self.kv_norm, latent), self.rotate(rotary, context)), dim=-1)

    def explicit(
        self, q: Float[Tensor, "batch heads seq d_query"], compressed: Float[Tensor, "batch 1 seq compressed"]
    ) -> Float[Tensor, "batch heads seq d_value"]:
        """Expand the latents to the keys and values of every head, and attend (eq. 10, 11, 17 and 18)."""
        config = self.config
        latent, rotary = compressed.type_as(q).split((config.kv_rank, config.d_rope), dim=-1)
        # expand and split into heads: (B, T, kv_rank) → (B, T, H · width) → (B, H, T, width)
        content = self.k_up_proj(latent[:, 0]).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)
        v = self.v_up_proj(latent[:, 0]).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)
        # every head gets the same rotary key: (B, H, T, d_head + d_rope)
        k = torch.cat((content, rotary.expand(-1, config.n_heads, -1, -1)), dim=-1)
        return self.attend(q, k, v, is_causal=self.causal, dropout=self.dropout if self.training else 0.0)

    def absorbed(
        self,
        q: Float[Tensor, "batch heads seq d_query"],
        compressed: Float[Tensor, "batch 1 keys compressed"],
        mask: Bool[Tensor, "*#batch seq keys"],
    ) -> Float[Tensor, "batch heads seq d_value"]:
        """Attend over the latents as they are, with W_UK absorbed by the queries and W_UV by the output (section 2.1.2
        and appendix C)."""
        config = self.config
        k_up = self.k_up_proj.weight.unflatten(0, (config.n_heads, -1))  # (H, d_head, kv_rank)
        v_up = self.v_up_proj.weight.unflatten(0, (config.n_heads, -1))  # (H, d_value, kv_rank)
        # multiply the queries by the up-projection of the keys: (B, H, T, kv_rank + d_rope)
        content, rotary = q.split((config.d_head, config.d_rope), dim=-1)
        q = torch.cat((torch.einsum("bhtd,hdr->bhtr", content, k_up), rotary), dim=-1)
        # the backend divides by √(kv_rank + d_rope), but scores are products of d_head + d_rope coordinates
        q = q * math.sqrt((config.kv_rank + config.d_rope) / (config.d_head + config.d_rope))
        # one key head and one value head for all query heads; the values are the latents: (B, H, T, kv_rank)
        dropout = self.dropout if self.training else 0.0
        latents = self.attend(q, compressed, compressed[..., : config.kv_rank], mask=mask, dropout=dropout)
        # expand the weighted means: (B, H, T, d_value)
        return torch.einsum("bhtr,hdr->bhtd", latents, v_up)

    def rotate(
        self, x: Float[Tensor, "batch heads seq d_rope"], context: Context
    ) -> Float[Tensor, "batch heads seq d_rope"]:
        """Rotate by position; without RoPE return x as it is."""
        return apply_rope(x, *context.rotations[self.rotary_width]) if self.rotary_width else x

    def flops_per_token(self, seq: int) -> int:
        """Those of the explicit form, with d_query = d_head + d_rope.

        Queries 2 · d_model · n_heads · d_query, through a latent 2 · q_rank · (n_heads · d_query + d_model);
        compression 2 · d_model · (kv_rank + d_rope); expansion 2 · kv_rank · n_heads · (d_head + d_value); output
        2 · n_heads · d_value · d_model; QKᵀ and the weighted sum 2 · n_heads · (d_query + d_value) · seq.
        """
        config, d_model = self.config, self.o_proj.out_features
        d_query = config.d_head + config.d_rope
        queries = (config.q_rank or d_model) * config.n_heads * d_query + d_model * (config.q_rank or 0)
        compression = d_model * (config.kv_rank + config.d_rope)
        expansion = config.kv_rank * config.n_heads * (config.d_head + config.d_value)
        output = config.n_heads * config.d_value * d_model
        attention = config.n_heads * (d_query + config.d_value) * seq
        return 2 * (queries + compression + expansion + output + attention)

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.o_proj.weight

    def cached(self) -> PerToken:
        """The latent and the rotary key: kv_rank + d_rope values per token, whatever the number of heads.

        In one tensor, because the absorbed form needs them side by side, and its values are a view of it.
        """
        return PerToken(((1, self.config.kv_rank + self.config.d_rope),))


def normalize(norm: RMSNorm, latent: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch rank"]:
    """Normalize in the dtype of the norm's weight, which is float32 also where products are in bf16 or fp16."""
    return norm(latent.type_as(norm.weight)).type_as(latent)
