"""Rotary positions: turn each pair of coordinates by an angle that grows with the position.

Half-split layout ("rotate-half"), as in published Llama weights: pair i is (x[i], x[i + d_head/2]). Meta's and
DeepSeek's own checkpoints hold the pairs side by side instead, (x[2i], x[2i + 1]); `interleaved_to_half` and
`half_to_interleaved` permute one layout into the other.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.config import ModelConfig, RopeConfig

Rotation = tuple[Float[Tensor, "... seq half"], Float[Tensor, "... seq half"]]
"""cos and sin of every position's angles."""


def apply_rope(
    x: Float[Tensor, "batch heads seq d_head"], cos: Float[Tensor, "... seq half"], sin: Float[Tensor, "... seq half"]
) -> Float[Tensor, "batch heads seq d_head"]:
    """Rotate each pair (x[i], x[i + d_head/2]) by its position's angle; cos and sin broadcast over batch and heads.

    Rotation keeps lengths, and the dot product of a rotated query and key depends only on how far apart they stand,
    which is what makes the encoding relative. Computed in the dtype of cos (float32), returned in that of x.

    Raises ValueError if d_head is odd.
    Source: Su et al. 2021, RoFormer (arXiv 2104.09864), eq. 34.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"RoPE turns pairs of coordinates, and d_head = {x.shape[-1]} is odd.")
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.type_as(x)


def rotation(positions: Int[Tensor, "*rows seq"], frequencies: Float[Tensor, "half"], scale: float = 1.0) -> Rotation:
    """cos and sin of position · frequency, in float32, times `scale` (which only YaRN sets)."""
    angles = positions[..., None].float() * frequencies
    return angles.cos() * scale, angles.sin() * scale


def frequencies(
    d_head: int, rope: RopeConfig, length: int, device: torch.device | None = None
) -> Float[Tensor, "half"]:
    """Radians per position of every pair, fastest first: theta^(−2i/d_head), stretched as `rope.scaling` says.

    `length` is the context in tokens that the angles are for; only `dynamic` looks at it.
    """
    exponents = torch.arange(0, d_head, 2, device=device, dtype=torch.float32) / d_head
    return SCALINGS[rope.scaling](exponents, rope, d_head, length)


def _unscaled(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    return rope.theta**-exponents


def _linear(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    return rope.theta**-exponents / rope.factor


def _larger_theta(exponents: Tensor, rope: RopeConfig, d_head: int, stretch: float) -> Tensor:
    # The exponent makes the slowest pair stretch by exactly `stretch`, and the fastest not at all.
    return (rope.theta * stretch ** (d_head / (d_head - 2))) ** -exponents


def _ntk(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    return _larger_theta(exponents, rope, d_head, rope.factor)


def _dynamic(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    over = max(length / rope.original_max_seq_len, 1.0)
    return _larger_theta(exponents, rope, d_head, rope.factor * over - (rope.factor - 1))


def _yarn(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    def pair_that_turns(times: float) -> float:
        """The (fractional) pair that makes that many turns within the trained length."""
        return d_head * math.log(rope.original_max_seq_len / (times * 2 * math.pi)) / (2 * math.log(rope.theta))

    kept_below = max(math.floor(pair_that_turns(rope.beta_fast)), 0)
    stretched_above = min(math.ceil(pair_that_turns(rope.beta_slow)), d_head - 1)
    pair = torch.arange(len(exponents), device=exponents.device, dtype=torch.float32)
    stretched = ((pair - kept_below) / max(stretched_above - kept_below, 0.001)).clamp(0, 1)
    kept = rope.theta**-exponents
    return kept * (1 - stretched) + kept / rope.factor * stretched


def _llama3(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    kept = rope.theta**-exponents
    turns = rope.original_max_seq_len * kept / (2 * math.pi)
    keep = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return kept * keep + kept / rope.factor * (1 - keep)


SCALINGS = {
    "none": _unscaled,
    "linear": _linear,
    "ntk": _ntk,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
}


def attention_warmth(rope: RopeConfig) -> float:
    """YaRN's factor on cos and sin, 0.1 · ln(factor) + 1: longer contexts need sharper scores. 1 for every other
    scaling."""
    return 0.1 * math.log(rope.factor) + 1.0 if rope.scaling == "yarn" else 1.0


class Rope:
    """cos and sin for a forward pass: computed once, in float32, and shared by all layers."""

    def __init__(self, config: ModelConfig) -> None:
        self.d_head = config.d_head
        self.rope = config.rope
        self.warmth = attention_warmth(config.rope)

    def __call__(self, positions: Int[Tensor, "rows seq"], length: int) -> Rotation:
        """Both of shape (rows, 1, seq, d_head/2), so that they broadcast over heads. `length`: see `frequencies`."""
        per_pair = frequencies(self.d_head, self.rope, length, positions.device)
        return rotation(positions[:, None], per_pair, self.warmth)


def no_rope(positions: Int[Tensor, "rows seq"], length: int) -> None:
    """Takes the place of `Rope` in a model whose attention does not rotate."""
    return None


def interleaved_to_half(x: Float[Tensor, "*batch d_head"]) -> Float[Tensor, "*batch d_head"]:
    """Reorder the last axis from pairs side by side (0 1)(2 3)… to pairs half a head apart."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def half_to_interleaved(x: Float[Tensor, "*batch d_head"]) -> Float[Tensor, "*batch d_head"]:
    """The inverse of `interleaved_to_half`."""
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)
