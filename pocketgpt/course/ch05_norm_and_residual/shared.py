"""Functions and modules that the exercises of chapter 05 are given as arguments."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NORM_OPERATORS = ("layer_norm", "native_layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm")


def _numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class FixedNorm:
    """A LayerNorm with a scale and a shift that the seed decides: two with the same seed are equal."""

    seed: int

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        weight, bias = _numbers(self.seed, 2, x.shape[-1]).to(x.dtype)
        return F.layer_norm(x, x.shape[-1:], weight, bias)

    def __repr__(self) -> str:
        return "a LayerNorm"


@dataclass(frozen=True)
class FixedLayer:
    """A layer, tanh(y W) + b with y = x + the mean of x over the tokens, with weights that the seed decides."""

    seed: int

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        width = x.shape[-1]
        *matrix, bias = _numbers(self.seed, width + 1, width).to(x.dtype)
        mixed = x + x.mean(-2, keepdim=True)  # as in attention, a token alone gives something else
        return torch.tanh(mixed @ torch.stack(matrix)) + bias

    def __repr__(self) -> str:
        return "a layer"


def drawn_seed(rng: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=rng))


class _AsModule(nn.Module):
    """A function in the place of a submodule."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def pytorch_block(x: Tensor, norm, layer, norm_first: bool) -> Tensor:
    """Run `nn.TransformerEncoderLayer` with `norm` and `layer` in the place of its first norm and of its attention; its
    feed-forward gives zeros, and its second norm does nothing."""
    block = nn.TransformerEncoderLayer(2, 1, 1, dropout=0.0, norm_first=norm_first)
    block.norm1, block.norm2 = _AsModule(norm), nn.Identity()
    block._sa_block = lambda x, *options, **more: layer(x)
    block._ff_block = torch.zeros_like
    return block(x)
