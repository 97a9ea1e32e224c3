"""BERT: the same stack without the causal mask. Every token sees all others, and the head fills gaps."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.block import FeedForwardPartConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.norm import build_norm
from pocketgpt.models.config import ModelConfig, NormKind, NormOrder, Positions
from pocketgpt.models.stack import Stack, init_weights


@dataclass(frozen=True, kw_only=True)
class BertConfig(ModelConfig):
    """Config of a BERT: that of a GPT, with the defaults of the paper, and token types."""

    kind: ClassVar[str] = "bert"

    n_token_types: int = 2
    """Kinds of tokens that have an embedding of their own, such as those of a first and a second sentence."""
    feedforward: FeedForwardPartConfig | tuple[FeedForwardPartConfig | None, ...] | None = field(
        default_factory=lambda: FeedForwardConfig(activation="gelu", bias=True)
    )
    """The layer that treats each token alone."""
    positions: Positions = "learned"
    """learned, sinusoidal or none: added to the embedding. rope: queries and keys are rotated."""
    norm: NormKind = "layernorm"
    """rmsnorm or layernorm."""
    norm_bias: bool = True
    """LayerNorm learns a shift."""
    norm_eps: float = 1e-12
    """Added inside the root of a norm, so that a vector of zeros stays finite."""
    norm_order: NormOrder = "post"
    """post: norm(x + f(x)), as in 2018. pre: x + f(norm(x)), with a norm before the head."""
    embedding_norm: bool = True
    """Normalize the embedding before the first block."""
    causal: bool = False
    """False: a token sees all others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive_integers("n_token_types")
        self._require(not self.causal, "causal", "False: a BERT sees the tokens on both sides of a gap")
        mixers = self.mixer if isinstance(self.mixer, tuple) else (self.mixer,)
        attends = all(isinstance(mixer, AttentionConfig) for mixer in mixers)
        self._require(attends, "mixer", "an AttentionConfig: other layers have no padding mask")


class BERT(Stack):
    """An encoder: embedding of tokens, positions and token types; norm; post-norm blocks without a causal mask; a head.

        tokens (B, T), token types (B, T)
          └ embeddings, summed; norm        (B, T, d_model)
          └ n_layers blocks:
              norm(x + mixer(x))            every token sees every token that is not padding
              norm(x + feedforward(x))
          └ head_norm(gelu(head_dense(x)))
          └ head, with a bias               (B, T, vocab)     scores for the token at this place, not the next one

    Source: Devlin et al. 2018, BERT (arXiv 1810.04805), section 3 and appendix A.2; only the head for masked words.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.token_types = nn.Embedding(config.n_token_types, config.d_model)
        self.head_dense = nn.Linear(config.d_model, config.d_model)
        self.head_norm = build_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        init_weights(self)

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "batch seq"] | None = None,
        token_types: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Scores for the token at each place. `mask` is False for padding, whose own scores mean nothing; without
        `token_types` all are 0.

        Raises ContextError for more tokens than there are positions for.
        """
        return self.head(self.features(tokens, mask, token_types))

    def features(
        self,
        tokens: Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "batch seq"] | None = None,
        token_types: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """The residual stream after dense layer, GELU and norm: what the head reads."""
        types = torch.zeros_like(tokens) if token_types is None else token_types
        x = self.embedding(tokens) + self.token_types(types)  # (B, T, d_model)
        x = self.transform(x, self.context(tokens, mask=mask))
        return self.head_norm(F.gelu(self.head_dense(x)))

    def flops_per_token(self, seq: int) -> int:
        """Those of the blocks, and 2 · d_model · (d_model + vocab_size) of the head."""
        return super().flops_per_token(seq) + 2 * self.config.d_model * (self.config.d_model + self.config.vocab_size)
