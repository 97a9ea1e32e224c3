"""Relative position bias: a learned number per head and distance, added to the scores of attention.

    scores[h, t, s] = q[h, t] · k[h, s] + bias[h, bucket(s − t)]

Nothing is added to the embedding and nothing is rotated: a head learns how much it likes a key that is one token
before the query, two before, far away. Near distances have a bucket each. Far ones share buckets that become wider,
and all beyond `farthest` share the last one, so that no distance is too long for the table. Buckets of 8 before T5's
first shared one, with 32 in both directions (8 to 11 before is bucket 8, one after is bucket 17):

    distance   … −12 | −11 … −8 | −7 … −1 | 0 | 1 … 7 | 8 … 11 | 12 …
    bucket     …   9 |    8     |  7 …  1 | 0 | 17 … 23 |  24  | 25 …

The bias is made once per forward pass of a stack, and all of its layers add the same one.
Sources: Shaw, Uszkoreit and Vaswani 2018 (arXiv 1803.02155), who add vectors; Raffel et al. 2019, T5
(arXiv 1910.10683), section 2.1, who add one number.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.checked import Checked


@dataclass(frozen=True, kw_only=True)
class RelativeBiasConfig(Checked):
    """Buckets of the distances between query and key."""

    n_buckets: int = 32
    """Buckets per head; a stack that sees both directions uses half of them for the keys after the query."""
    farthest: int = 128
    """Distance in tokens from which on all share the last bucket."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_buckets", "farthest")
        self._require(self.n_buckets >= 4 and self.n_buckets % 2 == 0, "n_buckets", "an even number from 4, such as 32")
        exact = self.n_buckets // 2
        self._require(self.farthest > exact, "farthest", f"more than n_buckets / 2 = {exact}, such as {4 * exact}")


def relative_bucket(
    distance: Int[Tensor, "*shape"], both_ways: bool, n_buckets: int = 32, farthest: int = 128
) -> Int[Tensor, "*shape"]:
    """Bucket of each distance (key position − query position), from 0 to n_buckets − 1.

    With `both_ways`, the upper half of the buckets is for keys after the query; without, such keys have bucket 0, and
    the mask hides them. In each direction the first half of the buckets takes one distance each. The other half
    divides the rest, up to `farthest`, into steps of equal size on a log scale.
    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1.
    """
    if both_ways:
        n_buckets = n_buckets // 2
        direction = (distance > 0).long() * n_buckets
        steps = distance.abs()
    else:
        direction = torch.zeros_like(distance)
        steps = (-distance).clamp(min=0)
    exact = n_buckets // 2
    # In float32, whose rounding decides at the borders, as in the published models. Near distances are clamped only to
    # keep the logarithm finite: they are not taken from here.
    share = torch.log(steps.clamp(min=exact).float() / exact) / math.log(farthest / exact)  # 0 to 1 at `farthest`
    shared = exact + (share * (n_buckets - exact)).long()
    return direction + torch.where(steps < exact, steps, shared.clamp(max=n_buckets - 1))


class RelativeBias(nn.Module):
    """The table of biases of a stack, n_buckets · n_heads numbers, and the bias of every query and key.

    Time and memory for T queries and S keys: n_heads · T · S numbers, once per pass and not per layer.
    """

    def __init__(self, config: RelativeBiasConfig, n_heads: int, both_ways: bool) -> None:
        super().__init__()
        self.config = config
        self.both_ways = both_ways
        self.embedding = nn.Embedding(config.n_buckets, n_heads)

    def forward(
        self, query_positions: Int[Tensor, "rows seq"], key_positions: Int[Tensor, "rows keys"]
    ) -> Float[Tensor, "rows heads seq keys"]:
        distance = key_positions[:, None, :] - query_positions[:, :, None]  # (rows, T, S)
        return self.embedding(self.bucket(distance)).permute(0, 3, 1, 2)  # (rows, H, T, S)

    def bucket(self, distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        return relative_bucket(distance, self.both_ways, self.config.n_buckets, self.config.farthest)
