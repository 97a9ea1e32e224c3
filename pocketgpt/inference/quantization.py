"""Quantization: a model's weights in fewer bytes.

Decoding one token reads every weight once and uses it once, so memory bandwidth limits its speed: half the bytes, twice
the tokens. Activations are small and stay in float32.
"""

from copy import deepcopy
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.device import bf16_is_native
from pocketgpt.errors import PocketError
from pocketgpt.models.stack import Stack

WeightFormat = Literal["float32", "bf16", "int8"]


def quantize(model: Stack, weights: WeightFormat | str) -> Stack:
    """Copy the model for inference, with matrices stored as `weights` and activations in float32.

    | weights | bytes each | stored                                             |
    |---------|------------|----------------------------------------------------|
    | float32 | 4          | as trained                                         |
    | bf16    | 2          | rounded to 8 bits of precision                     |
    | int8    | 1          | whole numbers from −127 to 127, and a scale a row  |

    Norms, biases and the projections that a layer lists as `full_precision` stay as they are; with int8 the embedding
    is stored in bf16, because a step reads one row of it.
    Raises PocketError for another format.
    """
    if weights not in get_args(WeightFormat):
        raise PocketError(f"weights = {weights!r} cannot work: use one of {', '.join(get_args(WeightFormat))}.")
    copy = deepcopy(model).float().eval().requires_grad_(False)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and name not in getattr(module, "full_precision", ()):
                setattr(module, name, QuantizedLinear(child, weights))
    copy.embedding = QuantizedEmbedding(copy.embedding, torch.float32 if weights == "float32" else torch.bfloat16)
    return copy


class QuantizedLinear(nn.Module):
    """x Wᵀ + b, with W stored in any of the formats; float32 in, float32 out."""

    def __init__(self, linear: nn.Linear, weights: WeightFormat) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        self.scale = None
        if weights == "int8":
            values, scale = quantize_rows(linear.weight.data.float())
            self.weight, self.scale = _constant(values), _constant(scale)
        else:
            self.weight = _constant(linear.weight.data.to(torch.float32 if weights == "float32" else torch.bfloat16))
        # Many tokens at once are a matrix product, which hardware with bf16 computes several times as fast.
        low = weights != "float32" and bf16_is_native(linear.weight.device)
        self.product_dtype = torch.bfloat16 if low else torch.float32

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        if x.numel() == x.shape[-1] and torch.compiler.is_compiling():
            # One token: a sum for each row, which the compiler turns into a loop that streams W once from memory and
            # widens it on the way. Libraries for matrix products are made for many columns and reach half of that.
            y = (self.weight.float() * x.flatten()).sum(dim=-1).expand(*x.shape[:-1], -1)
        else:
            y = F.linear(x.to(self.product_dtype), self.weight.to(self.product_dtype)).float()
        if self.scale is not None:
            y = y * self.scale
        return y if self.bias is None else y + self.bias


class QuantizedEmbedding(nn.Embedding):
    """Lookup in a table of `dtype`; the rows are returned in float32."""

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__(*embedding.weight.shape, _weight=embedding.weight.data.to(dtype))
        self.weight.requires_grad_(False)

    def forward(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        return super().forward(tokens).float()


def quantize_rows(weight: Float[Tensor, "d_out d_in"]) -> tuple[Int[Tensor, "d_out d_in"], Float[Tensor, "d_out"]]:
    """W ≈ values · scale: int8 values from −127 to 127 and the float32 scale of every row, max |W| / 127.

    A row is one output channel; each has its own scale, so that one large weight costs precision in its row only. No
    value is off by more than half a step, scale / 2. Source: Dettmers et al. 2022, LLM.int8() (arXiv 2208.07339),
    section 2; here activations are not quantized.
    """
    scale = weight.abs().amax(dim=1) / 127
    steps = weight / scale.clamp(min=torch.finfo(weight.dtype).tiny)[:, None]  # a row of zeros stays zeros
    return steps.round().to(torch.int8), scale


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous(), requires_grad=False)
