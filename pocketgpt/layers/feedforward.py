"""Feed-forward layer: transforms each token alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.part import ModelShape, Part, PartConfig

Activation = Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu", "relu2"]


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(PartConfig):
    """A feed-forward layer: d_model → d_ff → d_model."""

    kind: ClassVar[str] = "feedforward"

    activation: Activation = "swiglu"
    """Function between the projections: swiglu, geglu, gelu, gelu_tanh, relu or relu2."""
    d_ff: int | None = None
    """Hidden width; 4 · d_model if not given (8/3 · d_model for swiglu and geglu), rounded up to a multiple of 64."""
    bias: bool = False
    """Biases on all projections."""

    def __post_init__(self) -> None:
        self._require_choice("activation", Activation)
        if self.d_ff is not None:
            self._require_positive_integers("d_ff")

    def resolved(self, model: ModelShape) -> "FeedForwardConfig":
        """The same config with `d_ff` filled in."""
        ratio = 8 / 3 if self.activation in GATED else 4
        return replace(self, d_ff=self.d_ff or -(-round(ratio * model.d_model) // 64) * 64)


def relu2(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """relu(x)², the squared ReLU of Primer (So et al. 2021, arXiv 2109.08668). Square after the ReLU, not before."""
    return F.relu(x).square()


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": relu2,
}


class FeedForward(Part):
    """down_proj(activation(up_proj(x))), for every token alone; d_model → d_ff → d_model.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.3; GELU: Hendrycks and Gimpel 2016 (arXiv 1606.08415).
    """

    def __init__(self, config: FeedForwardConfig, model: ModelShape) -> None:
        super().__init__()
        self.up_proj = nn.Linear(model.d_model, config.d_ff, bias=config.bias)
        self.down_proj = nn.Linear(config.d_ff, model.d_model, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down_proj(self.activation(self.up_proj(x)))

    def flops_per_token(self, seq: int) -> int:
        """4 · d_model · d_ff: two projections."""
        return 4 * self.up_proj.in_features * self.up_proj.out_features

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.down_proj.weight


class SwiGLU(Part):
    """down_proj(silu(gate_proj(x)) · up_proj(x)): one projection decides how much of the other passes.

    Source: Shazeer 2020, GLU variants improve Transformer (arXiv 2002.05202).
    """

    def __init__(self, config: FeedForwardConfig, model: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(model.d_model, config.d_ff, bias=config.bias)
        self.up_proj = nn.Linear(model.d_model, config.d_ff, bias=config.bias)
        self.down_proj = nn.Linear(config.d_ff, model.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    def flops_per_token(self, seq: int) -> int:
        """6 · d_model · d_ff: three projections."""
        return 6 * self.up_proj.in_features * self.up_proj.out_features

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.down_proj.weight


class GEGLU(SwiGLU):
    """down_proj(gelu(gate_proj(x)) · up_proj(x)), with the tanh form of GELU: the feed-forward of T5 1.1.

    Source: Shazeer 2020, GLU variants improve Transformer (arXiv 2002.05202).
    """

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


GATED = {"swiglu": SwiGLU, "geglu": GEGLU}
"""Feed-forwards with a gate, by the name in `FeedForwardConfig.activation`."""


def build_feedforward(config: FeedForwardConfig, model: ModelShape) -> FeedForward | SwiGLU:
    """The feed-forward with the configured activation."""
    return GATED.get(config.activation, FeedForward)(config, model)
