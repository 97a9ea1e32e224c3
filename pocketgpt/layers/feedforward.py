"""The feed-forward layer: what a token computes on its own, between two looks at the others."""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.config import ModelConfig


def relu2(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """relu(x)², the squared ReLU of Primer (So et al. 2021, arXiv 2109.08668). Square after the ReLU, not before."""
    return F.relu(x).square()


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu2": relu2,
}


class FeedForward(nn.Module):
    """down_proj(activation(up_proj(x))), for every token alone; d_model → d_ff → d_model.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.3; GELU: Hendrycks and Gimpel 2016 (arXiv 1606.08415).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=config.feedforward_bias)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=config.feedforward_bias)
        self.activation = ACTIVATIONS[config.feedforward]

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        return self.down_proj(self.activation(self.up_proj(x)))


class SwiGLU(nn.Module):
    """down_proj(silu(gate_proj(x)) · up_proj(x)): one projection decides how much of the other passes.

    Source: Shazeer 2020, GLU variants improve Transformer (arXiv 2002.05202).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=config.feedforward_bias)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=config.feedforward_bias)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=config.feedforward_bias)

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def build_feedforward(config: ModelConfig) -> nn.Module:
    """The feed-forward that the config asks for."""
    return SwiGLU(config) if config.feedforward == "swiglu" else FeedForward(config)
