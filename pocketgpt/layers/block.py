"""A block: attention, then feed-forward, each added to the residual stream. The norm stands before or after."""

from jaxtyping import Float
from torch import Tensor, nn

from pocketgpt.config import ModelConfig
from pocketgpt.layers.attention import Attention, LayerCache
from pocketgpt.layers.feedforward import build_feedforward
from pocketgpt.layers.norm import build_norm
from pocketgpt.layers.rope import Rotation


class Block(nn.Module):
    """The four parts of a block; the two classes below say in which order they act."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.feedforward_norm = build_norm(config)
        self.feedforward = build_feedforward(config)
        self.dropout = nn.Dropout(config.dropout)


class PreNormBlock(Block):
    """x + f(norm(x)): the residual stream is never normalized, so gradients reach every layer undamped.

    Source: Xiong et al. 2020, On layer normalization in the Transformer architecture (arXiv 2002.04745).
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], rope: Rotation | None, cache: LayerCache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), rope, cache))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class PostNormBlock(Block):
    """norm(x + f(x)): the order of the first Transformer, which needs warm-up once it is deep.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], rope: Rotation | None, cache: LayerCache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, rope, cache)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


BLOCKS = {"pre": PreNormBlock, "post": PostNormBlock}
