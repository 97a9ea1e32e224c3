"""Rotary positions: turn each pair of coordinates by an angle that grows with the position.

Half-split layout ("rotate-half"), as in published Llama weights: pair i is (x[i], x[i + d_head/2]). Meta's and
DeepSeek's own checkpoints have the pairs side by side instead, (x[2i], x[2i + 1]); `interleaved_to_half` and
`half_to_interleaved` permute one layout into the other.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.layers.rope_scaling import SCALINGS, RopeConfig


def apply_rope(
    x: Float[Tensor, "batch heads seq d_head"], cos: Float[Tensor, "... seq half"], sin: Float[Tensor, "... seq half"]
) -> Float[Tensor, "batch heads seq d_head"]:
    """Rotate each pair (x[i], x[i + d_head/2]) by its position's angle; cos and sin broadcast over batch and heads.

    Rotation keeps lengths, and the dot product of a rotated query and key depends only on their distance,
    which is what makes the encoding relative. Computed in the dtype of cos (float32), returned in that of x.

    Raises ValueError if d_head is odd.
    Source: Su et al. 2021, RoFormer (arXiv 2104.09864), eq. 34.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"RoPE turns pairs of coordinates, and d_head = {x.shape[-1]} is odd.")
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.type_as(x)


def frequencies(
    d_head: int, rope: RopeConfig, length: int, device: torch.device | None = None
) -> Float[Tensor, "half"]:
    """Radians per position of every pair, fastest first: theta^(−2i/d_head), scaled as `rope.scaling` says.

    `length` is the context in tokens that the angles are for; only `dynamic` uses it.
    """
    exponents = torch.arange(0, d_head, 2, device=device, dtype=torch.float32) / d_head
    if rope.scaling == "none":
        return rope.theta**-exponents
    return SCALINGS[rope.scaling](exponents, rope, d_head, length)


def rotation(
    positions: Int[Tensor, "*rows seq"], frequencies: Float[Tensor, "half"], scale: float = 1.0
) -> tuple[Float[Tensor, "*rows seq half"], Float[Tensor, "*rows seq half"]]:
    """cos and sin of position · frequency, in float32, times `scale` (which only YaRN sets)."""
    angles = positions[..., None].float() * frequencies
    return angles.cos() * scale, angles.sin() * scale


def interleaved_to_half(x: Float[Tensor, "*batch d_head"]) -> Float[Tensor, "*batch d_head"]:
    """Reorder the last axis from pairs side by side (0 1)(2 3)… to pairs half a head apart."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def half_to_interleaved(x: Float[Tensor, "*batch d_head"]) -> Float[Tensor, "*batch d_head"]:
    """The inverse of `interleaved_to_half`."""
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)
