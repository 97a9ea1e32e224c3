"""Sampling: filters of the logits (top-k, top-p, min-p), temperature, and the `Sampler` that combines them.

A filter sets the logits of the tokens it excludes to −inf and does not change the others, so filters combine, and the
final softmax normalizes the remaining ones to 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.errors import PocketError


def greedy(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
    """Take the most probable token."""
    return logits.argmax(dim=-1)


def apply_temperature(logits: Float[Tensor, "batch vocab"], temperature: float) -> Float[Tensor, "batch vocab"]:
    """Divide logits by the temperature: below 1 favors the likely tokens, above 1 the unlikely ones."""
    return logits / temperature


def top_k(logits: Float[Tensor, "batch vocab"], k: int) -> Float[Tensor, "batch vocab"]:
    """Keep the k most probable tokens (more where the k-th ties). Source: Fan et al. 2018 (arXiv 1805.04833)."""
    kth = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def top_p(logits: Float[Tensor, "batch vocab"], p: float) -> Float[Tensor, "batch vocab"]:
    """Keep the fewest most probable tokens that together have at least probability p: the token that crosses p stays.

    Source: Holtzman et al. 2019, nucleus sampling (arXiv 1904.09751).
    """
    if p >= 1:
        return logits
    ordered, order = logits.sort(descending=True, dim=-1, stable=True)
    probabilities = ordered.softmax(dim=-1)
    # Summed from the small end: from the large end, the small ones round away.
    rest = probabilities.flip(-1).cumsum(dim=-1).flip(-1)  # of this token and all less probable ones
    beyond = rest <= rest[:, :1] * (1 - p)  # the more probable ones have p already
    beyond[:, 0] = False  # before it there are none, also where 1 − p is rounded to 1
    ruled_out = beyond.scatter(-1, order, beyond)
    return logits.masked_fill(ruled_out, -math.inf)


def min_p(logits: Float[Tensor, "batch vocab"], p: float) -> Float[Tensor, "batch vocab"]:
    """Keep the tokens with at least p times the probability of the most probable one.

    Source: Nguyen et al. 2024 (arXiv 2407.01082).
    """
    return logits.masked_fill(logits < logits.max(dim=-1, keepdim=True).values + math.log(p), -math.inf)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Sampling of the next token: temperature first, then every filter that is set, then a draw."""

    temperature: float = 0.8
    """0 takes the most probable token; 1 draws from the model's own distribution; above 1 is more random."""
    top_k: int | None = 40
    """Draw only from this many most probable tokens."""
    top_p: float | None = None
    """Draw only from the most probable tokens that together have this probability."""
    min_p: float | None = None
    """Draw only from tokens with at least this share of the highest probability."""

    def __post_init__(self) -> None:
        _require(
            self.temperature == 0 or 1e-4 <= self.temperature <= 1e4,  # beyond, float32 logits overflow or vanish
            "temperature",
            self.temperature,
            "0 for the most probable token, or a number from 0.0001 to 10000, such as 0.8",
        )
        _require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "a whole number of at least 1, such as 40")
        _require(
            self.top_p is None or 0 < self.top_p <= 1, "top_p", self.top_p, "a number above 0 up to 1, such as 0.95"
        )
        _require(
            self.min_p is None or 0 < self.min_p <= 1, "min_p", self.min_p, "a number above 0 up to 1, such as 0.05"
        )

    def __call__(
        self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator | None = None
    ) -> Int[Tensor, "batch"]:
        return self.choose(logits, self.noise(logits, generator))

    def noise(
        self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch vocab"]:
        """Random noise, drawn separately so that `choose` is a pure tensor function and can be compiled."""
        noise = torch.ones_like(logits, dtype=torch.float32)
        return noise if self.temperature == 0 else noise.exponential_(generator=generator)

    def choose(self, logits: Float[Tensor, "batch vocab"], noise: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
        """Choose one token per row: token i with its probability pᵢ after temperature and filters.

        An exponential race: each token arrives after an exponentially distributed time divided by pᵢ, and the first is
        token i with probability pᵢ. torch.multinomial computes the same from the same draws.
        """
        if self.temperature == 0:
            return greedy(logits)
        logits = apply_temperature(logits.float(), self.temperature)
        if self.top_k is not None:
            logits = top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = min_p(logits, self.min_p)
        return (logits.softmax(dim=-1) / noise).argmax(dim=-1)


def _require(condition: bool, name: str, value: object, instead: str) -> None:
    if not condition:
        raise PocketError(f"Sampler.{name} = {value!r} cannot work: use {instead}.")
