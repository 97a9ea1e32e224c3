"""Linear attention: a running summary of keys and values in place of a cache that grows.

Softmax needs every score by itself. With a product of features in place of exp(q · k), the sums over the past can be
formed once and carried along, because φ(q) does not depend on the key:

    y[t] = Σ φ(q[t]) · φ(k[s]) v[s] / Σ φ(q[t]) · φ(k[s])     over all s ≤ t; φ(x) = elu(x) + 1 > 0
         = φ(q[t]) S[t] / φ(q[t]) · z[t]
    S[t] = S[t−1] + φ(k[t]) v[t]ᵀ                             state, a matrix (d_head, d_head) per head
    z[t] = z[t−1] + φ(k[t])                                   normalizer, a vector (d_head) per head

The sums and the recurrence give the same result: the sums are fast for a whole sequence, the recurrence for one more
token. It is another function than softmax attention, not an approximation of it, so a model must be trained with it.
The price is recall. At most d_head keys can be orthogonal; the values of more of them blend into each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pocketgpt.checked import ConfigError
from pocketgpt.layers.context import Context, StateStore
from pocketgpt.layers.part import Mixer, ModelShape, PartConfig, State
from pocketgpt.layers.rope import apply_rope

CHUNK = 32
"""Tokens whose scores are computed as a matrix; the tokens before them are read from the state."""


@dataclass(frozen=True, kw_only=True)
class LinearAttentionConfig(PartConfig):
    """Linear attention, or with `delta_rule` a state that replaces instead of adding."""

    kind: ClassVar[str] = "linear_attention"

    n_heads: int
    """Heads, each with a state of its own."""
    d_head: int | None = None
    """Width of a head; d_model // n_heads if not given."""
    delta_rule: bool = False
    """Write the difference between the new value and the one already stored under the key (DeltaNet)."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_heads")
        if self.d_head is not None:
            self._require_positive_integers("d_head")

    def resolved(self, model: ModelShape) -> "LinearAttentionConfig":
        """The same config with `d_head` filled in. Raises ConfigError if d_model has no such heads, and for a model
        that is not causal."""
        if not model.causal:
            raise ConfigError(
                "ModelConfig.causal = False cannot work: use True with linear attention, which reads left to right."
            )
        divides = self.d_head is not None or model.d_model % self.n_heads == 0
        self._require(divides, "n_heads", f"a divisor of d_model = {model.d_model}, or give d_head")
        d_head = self.d_head or model.d_model // self.n_heads
        full = replace(self, d_head=d_head)
        if model.positions == "rope":
            full._require(d_head % 2 == 0, "d_head", f"an even number, such as {d_head + 1}: RoPE turns pairs")
            stretched = model.rope.scaling in ("ntk", "dynamic")
            full._require(d_head > 2 or not stretched, "d_head", "4 or more: a single pair has no slower one")
        return full


class LinearAttention(Mixer):
    """Project to queries, keys and values; map queries and keys to features; read the sums over the past; project back.

    With rotary positions the features are rotated in the numerator only, so that the normalizer stays positive (Su et
    al. 2021, RoFormer, arXiv 2104.09864, eq. 19).
    Source: Katharopoulos et al. 2020, Transformers are RNNs (arXiv 2006.16236), eq. 7 and 16 to 20.
    """

    def __init__(self, config: LinearAttentionConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        self.rotary_width = config.d_head if model.positions == "rope" else 0
        width = config.n_heads * config.d_head
        self.q_proj = nn.Linear(model.d_model, width, bias=False)
        self.k_proj = nn.Linear(model.d_model, width, bias=False)
        self.v_proj = nn.Linear(model.d_model, width, bias=False)
        self.o_proj = nn.Linear(width, model.d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q = features(self.split_heads(self.q_proj(x)))  # (B, H, T, d_head)
        k = features(self.split_heads(self.k_proj(x)))  # (B, H, T, d_head)
        v = self.split_heads(self.v_proj(x))  # (B, H, T, d_head)
        state, normalizer = self.empty(x) if cache is None else cache.read()
        if cache is not None:
            k = k.masked_fill(~cache.real[:, None, :, None], 0.0)  # padding adds nothing
        # sum in float32, because errors add up over the sequence
        with torch.autocast(x.device.type, enabled=False):
            normalizers = normalizer[:, :, None] + k.cumsum(dim=2)  # z after every token (B, H, T, d_head)
            total = (q * normalizers).sum(dim=-1, keepdim=True)  # (B, H, T, 1)
            sums, state = causal_sums(self.rotate(q, context), self.rotate(k, context), v, state)
            y = sums / total.clamp(min=torch.finfo(total.dtype).tiny)  # not 0 / 0 in a row of nothing but padding
        if cache is not None:
            cache.write(state, normalizers[:, :, -1])
        return self.o_proj(self.merge_heads(y).to(x.dtype))  # (B, T, d_model)

    def split_heads(self, x: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch heads seq d_head"]:
        """(B, T, H · d_head) → (B, H, T, d_head), in float32."""
        return x.unflatten(-1, (-1, self.config.d_head)).transpose(1, 2).float()

    def merge_heads(self, x: Float[Tensor, "batch heads seq d_head"]) -> Float[Tensor, "batch seq width"]:
        """(B, H, T, d_head) → (B, T, H · d_head)."""
        return x.transpose(1, 2).flatten(2)

    def rotate(
        self, x: Float[Tensor, "batch heads seq d_head"], context: Context
    ) -> Float[Tensor, "batch heads seq d_head"]:
        return apply_rope(x, *context.rotations[self.rotary_width]) if self.rotary_width else x

    def empty(self, x: Float[Tensor, "batch seq d_model"]) -> list[Float[Tensor, "batch ..."]]:
        """The state before the first token."""
        return [x.new_zeros(len(x), *shape, dtype=torch.float32) for shape in self.cached().shapes]

    def flops_per_token(self, seq: int) -> int:
        """Projections 8 · d_model · n_heads · d_head; scores and their sum within a chunk 4 · n_heads · d_head · chunk,
        reading and writing the state 4 · n_heads · d_head²; chunk is min(seq, CHUNK). Exact where all chunks are full.
        """
        width, chunk = self.config.n_heads * self.config.d_head, min(seq, CHUNK)
        return 8 * self.o_proj.out_features * width + 4 * width * (chunk + self.config.d_head)

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.o_proj.weight

    def cached(self) -> State:
        """The matrix and the normalizer of each head."""
        n_heads, d_head = self.config.n_heads, self.config.d_head
        return State(((n_heads, d_head, d_head), (n_heads, d_head)))


def features(x: Float[Tensor, "*batch d_head"]) -> Float[Tensor, "*batch d_head"]:
    """φ(x) = elu(x) + 1: x + 1 above zero, eˣ below. Computed without the sum, which is 0 for x < −17 in float32."""
    return x.clamp(max=0.0).exp() + x.clamp(min=0.0)


def causal_sums(
    q: Float[Tensor, "batch heads seq d_key"],
    k: Float[Tensor, "batch heads seq d_key"],
    v: Float[Tensor, "batch heads seq d_value"],
    state: Float[Tensor, "batch heads d_key d_value"],
) -> tuple[Float[Tensor, "batch heads seq d_value"], Float[Tensor, "batch heads d_key d_value"]]:
    """Σ (q[t] · k[s]) v[s] over all s ≤ t, and the state after the last token.

    In chunks: within a chunk a masked product, as in attention; what came before is read from the state. One chunk for
    the whole sequence would be quadratic work, chunks of one token would be seq steps after each other.
    """
    sums = []
    for q_chunk, k_chunk, v_chunk in zip(*(x.split(CHUNK, dim=2) for x in (q, k, v)), strict=True):
        scores = (q_chunk @ k_chunk.mT).tril()  # (B, H, chunk, chunk)
        sums.append(q_chunk @ state + scores @ v_chunk)  # (B, H, chunk, d_value)
        state = state + k_chunk.mT @ v_chunk  # (B, H, d_key, d_value)
    return torch.cat(sums, dim=2), state
