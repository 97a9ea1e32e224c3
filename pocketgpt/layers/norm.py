"""Normalization: scales every token's vector to a steady size, so that it neither grows nor fades with depth."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.part import ModelShape


class RMSNorm(nn.Module):
    """x / √(mean(x²) + eps), over the last axis, then a learned scale where configured. eps is inside the root.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467).
    """

    def __init__(self, width: int, eps: float = 1e-5, weight: bool = True) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if weight else None

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        # Under autocast x may be bf16. With a weight of the same dtype the fused operator runs, and sums in float32.
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, (self.width,), weight, self.eps)


def build_norm(config: ModelShape) -> nn.Module:
    """The configured norm over d_model.

    LayerNorm is PyTorch's: (x − mean) / √(variance + eps), the variance divided by d and not d − 1, then scale and
    shift where configured. Source: Ba, Kiros and Hinton 2016 (arXiv 1607.06450).
    """
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, config.norm_eps, config.norm_weight)
    return nn.LayerNorm(config.d_model, config.norm_eps, config.norm_weight, config.norm_bias)
