"""A block: a mixer, then a feed-forward, each added to the residual stream."""

from jaxtyping import Float
from torch import Tensor, nn

from pocketgpt.layers.attention import Attention, AttentionConfig
from pocketgpt.layers.context import Context, StateStore, TokenStore
from pocketgpt.layers.feedforward import FeedForwardConfig, build_feedforward
from pocketgpt.layers.latent_attention import LatentAttention, LatentAttentionConfig
from pocketgpt.layers.norm import build_norm
from pocketgpt.layers.part import ModelShape

MIXERS = {AttentionConfig: Attention, LatentAttentionConfig: LatentAttention}
"""From the config of a mixer to its module."""

FEEDFORWARDS = {FeedForwardConfig: build_feedforward}
"""From the config of a feed-forward to its module."""

MixerConfig = AttentionConfig | LatentAttentionConfig
FeedForwardPartConfig = FeedForwardConfig


class Block(nn.Module):
    """The four parts of a block; the classes below say in which order they act."""

    def __init__(self, mixer: MixerConfig, feedforward: FeedForwardPartConfig | None, model: ModelShape) -> None:
        super().__init__()
        self.mixer_norm = build_norm(model)
        self.mixer = MIXERS[type(mixer)](mixer, model)
        if feedforward is not None:
            self.feedforward_norm = build_norm(model)
            self.feedforward = FEEDFORWARDS[type(feedforward)](feedforward, model)
        self.dropout = nn.Dropout(model.dropout)


class PreNormBlock(Block):
    """x + f(norm(x)): the residual stream is never normalized, so gradients reach every layer undamped.

    Source: Xiong et al. 2020, On layer normalization in the Transformer architecture (arXiv 2002.04745).
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        x = x + self.dropout(self.mixer(self.mixer_norm(x), context, cache))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class PostNormBlock(Block):
    """norm(x + f(x)): the order of the first Transformer, which needs warm-up once it is deep.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self.mixer_norm(x + self.dropout(self.mixer(x, context, cache)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class MixerOnlyBlock(Block):
    """x + f(norm(x)) with a mixer and no feed-forward, as in Mamba, whose mixer does the work of both.

    Source: Gu and Dao 2023, Mamba (arXiv 2312.00752), section 3.4.
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        return x + self.dropout(self.mixer(self.mixer_norm(x), context, cache))


def build_block(mixer: MixerConfig, feedforward: FeedForwardPartConfig | None, model: ModelShape) -> Block:
    """The block with these parts, in the model's norm order."""
    if feedforward is None:
        return MixerOnlyBlock(mixer, None, model)
    return {"pre": PreNormBlock, "post": PostNormBlock}[model.norm_order](mixer, feedforward, model)
