"""Cross-attention: the tokens being written look at the input, of which an encoder made a memory.

Queries are from the decoder, keys and values from the encoder's output. There is no causal mask, because the input is
known from its first token to its last, and no position: neither rotation nor bias. Only padding is hidden.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from pocketgpt.checked import ConfigError
from pocketgpt.layers.attention import Attention, AttentionConfig
from pocketgpt.layers.context import Context, Memory, MemoryStore
from pocketgpt.layers.part import ModelShape, PerMemoryToken


@dataclass(frozen=True, kw_only=True)
class CrossAttentionConfig(AttentionConfig):
    """Attention to the output of an encoder, with the fields of attention; a T5 makes it of its `mixer`."""

    kind: ClassVar[str] = "cross_attention"

    def resolved(self, model: ModelShape) -> "CrossAttentionConfig":
        """Raises ConfigError: mixers of a config are for its own tokens, and only a T5 has an encoder to look at."""
        raise ConfigError(
            "ModelConfig.mixer = CrossAttentionConfig(…) cannot work: use AttentionConfig. A T5Config adds "
            "attention to the encoder's output by itself."
        )


class CrossAttention(Attention):
    """Attention with queries from x, and keys and values from `context.memory`.

    While decoding, keys and values of the memory are computed with the first token and then cached: a step costs the
    projections of one query and its sums over the S tokens of the input. Its cache has 2 · n_kv_heads · d_head values
    per token of the input, however long the output becomes.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3.
    """

    def __init__(self, config: CrossAttentionConfig, model: ModelShape) -> None:
        super().__init__(config, model)
        self.rotary_width = 0

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: MemoryStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q = self.scale(self.q_norm(self.split_heads(self.q_proj(x))))  # (B, H, T, d_head)
        if cache is None:
            k, v = self.keys_and_values(context.memory)  # (B, H_kv, S, d_head) each
        else:
            k, v = cache.once(lambda: self.keys_and_values(context.memory))
        mask = context.memory.mask
        if mask is not None:
            mask = mask[:, None, None].expand(-1, -1, x.shape[1], -1)  # (B, 1, T, S): the same for every query
        y = self.attend(q, k, v, mask=mask, dropout=self.dropout if self.training else 0.0)
        return self.o_proj(self.merge_heads(y))  # (B, T, d_model)

    def keys_and_values(self, memory: Memory) -> list[Float[Tensor, "batch heads keys d_head"]]:
        """Keys and values of the encoder's output, the same for every token that is written."""
        k = self.k_norm(self.split_heads(self.k_proj(memory.features)))  # (B, H_kv, S, d_head)
        v = self.split_heads(self.v_proj(memory.features))  # (B, H_kv, S, d_head)
        return [k, v]

    def flops(self, n_input: int, n_output: int) -> int:
        """Of the whole layer: q and o for each token of the output, k and v for each of the input, and QKᵀ and the
        weighted sum, 4 · n_heads · d_head for each pair."""
        config, d_model = self.config, self.o_proj.out_features
        output = 2 * d_model * config.d_head * 2 * config.n_heads * n_output
        memory = 2 * d_model * config.d_head * 2 * config.n_kv_heads * n_input
        return output + memory + 4 * config.n_heads * config.d_head * n_input * n_output

    def cached(self) -> PerMemoryToken:
        """Keys and values of the input: 2 · n_kv_heads · d_head values per token of it."""
        size = (self.config.n_kv_heads, self.config.d_head)
        return PerMemoryToken((size, size))
