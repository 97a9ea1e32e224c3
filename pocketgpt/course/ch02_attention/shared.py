"""Helpers of several exercises of chapter 02."""

import torch
from jaxtyping import Bool
from torch import Tensor

WHOLE_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")


def random_mask(rng, queries: int, keys: int) -> Bool[Tensor, "queries keys"]:
    """Random, with at least one allowed and one hidden key in each row."""
    mask = torch.rand(queries, keys, generator=rng) < 0.6
    rows, order = torch.arange(queries), torch.rand(queries, keys, generator=rng).argsort(dim=-1)
    mask[rows, order[:, 0]], mask[rows, order[:, 1]] = True, False
    return mask


def right_softmax(scores, mask):
    """Right, for the mistakes that go wrong elsewhere."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()
