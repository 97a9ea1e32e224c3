"""RoPE beyond the trained length: how the frequencies of the pairs are scaled."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pocketgpt.checked import Checked

RopeScaling = Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True, kw_only=True)
class RopeConfig(Checked):
    """Frequencies of rotary positions, and their scaling to longer contexts.

    Pair i of a head turns by position · theta^(−2i/d_head). `scaling` says how the angles change when the context is
    to be `factor` times as long as `original_max_seq_len`, the length the model was trained on:

    - `linear`: every angle divided by `factor` (position interpolation; Chen et al. 2023, arXiv 2306.15595).
    - `ntk`: a larger theta, so that slow pairs stretch by `factor` and fast pairs hardly at all (NTK-aware).
    - `dynamic`: `ntk` with the stretch that the present length needs, and none up to the trained length.
    - `yarn`: fast pairs unchanged, slow pairs interpolated, a ramp between, and sharper attention (Peng et al. 2023,
      arXiv 2309.00071).
    - `llama3`: the same idea with a ramp over wavelengths (Llama 3.1; Grattafiori et al. 2024, arXiv 2407.21783).
    """

    theta: float = 10_000.0
    """Base of the frequencies: the larger, the slower the slow pairs turn."""
    scaling: RopeScaling = "none"
    """Scaling of the angles beyond the trained length: none, linear, ntk, dynamic, yarn or llama3."""
    factor: float = 1.0
    """Ratio of the longest context to the trained length."""
    original_max_seq_len: int | None = None
    """Trained length in tokens. Needed by `dynamic`, `yarn` and `llama3`."""
    beta_fast: float = 32.0
    """YaRN: a pair that turns at least this often within the trained length is unchanged."""
    beta_slow: float = 1.0
    """YaRN: a pair that turns at most this often is interpolated fully."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths above original_max_seq_len / low_freq_factor are interpolated fully."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths below original_max_seq_len / high_freq_factor are unchanged."""

    def __post_init__(self) -> None:
        self._require(1 < self.theta < 1e30, "theta", "a number above 1, such as 10000.0")
        self._require_choice("scaling", RopeScaling)
        self._require(
            1 <= self.factor < 1e30, "factor", "a number of at least 1.0, such as 4.0 for four times the context"
        )
        if self.scaling in ("dynamic", "yarn", "llama3"):
            self._require_positive_integers("original_max_seq_len")
        self._require(self.beta_slow > 0, "beta_slow", "a number above 0, such as 1.0")
        self._require(self.beta_fast > self.beta_slow, "beta_fast", f"a number above beta_slow = {self.beta_slow}")
        self._require(
            self.high_freq_factor > self.low_freq_factor,
            "high_freq_factor",
            f"a number above low_freq_factor = {self.low_freq_factor}",
        )


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

    unchanged_below = max(math.floor(pair_that_turns(rope.beta_fast)), 0)
    stretched_from = min(math.ceil(pair_that_turns(rope.beta_slow)), d_head - 1)
    pair = torch.arange(len(exponents), device=exponents.device, dtype=torch.float32)
    stretched = ((pair - unchanged_below) / max(stretched_from - unchanged_below, 0.001)).clamp(0, 1)
    unscaled = rope.theta**-exponents
    return unscaled * (1 - stretched) + unscaled / rope.factor * stretched


def _llama3(exponents: Tensor, rope: RopeConfig, d_head: int, length: int) -> Tensor:
    unscaled = rope.theta**-exponents
    turns = rope.original_max_seq_len * unscaled / (2 * math.pi)
    unchanged = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return unscaled * unchanged + unscaled / rope.factor * (1 - unchanged)


# From the exponents 2i/d_head to radians per position.
SCALINGS = {
    "linear": _linear,
    "ntk": _ntk,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
}


def attention_factor(rope: RopeConfig) -> float:
    """YaRN's factor on cos and sin, 0.1 · ln(factor) + 1: longer contexts need sharper scores. 1 for every other
    scaling."""
    return 0.1 * math.log(rope.factor) + 1.0 if rope.scaling == "yarn" else 1.0
