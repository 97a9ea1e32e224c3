"""A block: a mixer, then a feed-forward, each added to the residual stream."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from pocketgpt.layers.attention import Attention, AttentionConfig
from pocketgpt.layers.context import Context, StateStore, TokenStore
from pocketgpt.layers.delta_rule import build_linear_attention
from pocketgpt.layers.feedforward import FeedForwardConfig, build_feedforward
from pocketgpt.layers.latent_attention import LatentAttention, LatentAttentionConfig
from pocketgpt.layers.linear_attention import LinearAttentionConfig
from pocketgpt.layers.mamba import Mamba, MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExperts, MixtureOfExpertsConfig
from pocketgpt.layers.norm import build_norm
from pocketgpt.layers.part import ModelShape

MixerConfig = AttentionConfig | LatentAttentionConfig | LinearAttentionConfig | MambaConfig
MIXERS = {
    AttentionConfig: Attention,
    LatentAttentionConfig: LatentAttention,
    LinearAttentionConfig: build_linear_attention,
    MambaConfig: Mamba,
}
"""From the config of a mixer to its module."""

FeedForwardPartConfig = FeedForwardConfig | MixtureOfExpertsConfig
FEEDFORWARDS = {FeedForwardConfig: build_feedforward, MixtureOfExpertsConfig: MixtureOfExperts}
"""From the config of a feed-forward to its module."""


Layer = Callable[[Tensor], Tensor]


def pre_norm(x: Float[Tensor, "batch seq d_model"], norm: Layer, layer: Layer) -> Float[Tensor, "batch seq d_model"]:
    """x + layer(norm(x)): the residual stream itself is never normalized; gradients pass through the sum unchanged.

    Source: Xiong et al. 2020, On layer normalization in the Transformer architecture (arXiv 2002.04745).
    """
    return x + layer(norm(x))


def post_norm(x: Float[Tensor, "batch seq d_model"], norm: Layer, layer: Layer) -> Float[Tensor, "batch seq d_model"]:
    """norm(x + layer(x)): the order of the first Transformer. Deep ones are sensitive to the starting weights.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """
    return norm(x + layer(x))


ORDERS = {"pre": pre_norm, "post": post_norm}
"""Where a layer's norm acts, by the name in `ModelConfig.norm_order`."""


class Block(nn.Module):
    """A mixer and a feed-forward. `order` puts each, its norm and the residual stream together."""

    def __init__(self, mixer: MixerConfig, feedforward: FeedForwardPartConfig | None, model: ModelShape) -> None:
        super().__init__()
        self.order = ORDERS[model.norm_order]
        self.mixer_norm = build_norm(model)
        self.mixer = MIXERS[type(mixer)](mixer, model)
        if feedforward is not None:
            self.feedforward_norm = build_norm(model)
            self.feedforward = FEEDFORWARDS[type(feedforward)](feedforward, model)
        self.dropout = nn.Dropout(model.dropout)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self.order(x, self.mixer_norm, lambda h: self.dropout(self.mixer(h, context, cache)))
        return self.order(x, self.feedforward_norm, lambda h: self.dropout(self.feedforward(h)))


class MixerOnlyBlock(Block):
    """A block without a feed-forward, as in Mamba, whose mixer does the work of both.

    Source: Gu and Dao 2023, Mamba (arXiv 2312.00752), section 3.4.
    """

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: TokenStore | StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        return self.order(x, self.mixer_norm, lambda h: self.dropout(self.mixer(h, context, cache)))


def build_block(mixer: MixerConfig, feedforward: FeedForwardPartConfig | None, model: ModelShape) -> Block:
    """The block with these parts, in the model's norm order."""
    return (MixerOnlyBlock if feedforward is None else Block)(mixer, feedforward, model)
