"""Attention heads of the shipped model with a recognizable behavior, and the measure of each behavior.

A behavior is a mask with the shape of the attention weights, True at the tokens that a head of that name looks at.
A head's score is the share of its weight under the mask, averaged over all queries that have such a token.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Where = Bool[Tensor, "seq seq"]

HEADS = {
    (1, 2): "previous token",
    (2, 0): "previous token",
    (2, 1): "previous token",
    (2, 2): "previous token",
    (2, 5): "start of line",
    (3, 0): "induction",
    (3, 2): "induction",
    (3, 4): "start of line",
}
"""Heads of the shipped model, (layer, head), and the behavior that each shows most clearly."""


def previous_token(words: Sequence[str]) -> Where:
    """Mask of the token just before."""
    return torch.eye(len(words)).roll(-1, dims=1).tril(-1).bool()


def same_token(words: Sequence[str]) -> Where:
    """Mask of earlier occurrences of the same token."""
    return torch.tensor([[s < t and words[s] == words[t] for s in range(len(words))] for t in range(len(words))])


def after_same_token(words: Sequence[str]) -> Where:
    """Mask of the tokens that followed earlier occurrences of the same token: what an induction head looks at.

    Source: Olsson et al. 2022, In-context Learning and Induction Heads (arXiv 2209.11895).
    """
    return same_token(words).roll(1, dims=1) & torch.ones(len(words), len(words)).tril(-1).bool()


def line_start(words: Sequence[str]) -> Where:
    """Mask of the latest line break before the token."""
    where = torch.zeros(len(words), len(words), dtype=torch.bool)
    latest = None
    for t, word in enumerate(words):
        if latest is not None:
            where[t, latest] = True
        if "\n" in word:
            latest = t
    return where


BEHAVIORS: dict[str, Callable[[Sequence[str]], Where]] = {
    "previous token": previous_token,
    "same token": same_token,
    "induction": after_same_token,
    "start of line": line_start,
}


def share(weights: Float[Tensor, "layers heads seq seq"], where: Where) -> Float[Tensor, "layers heads"]:
    """Mean share of the weight under the mask, over the queries that have a True there."""
    falls = (weights * where).sum(dim=-1)
    return falls[..., where.any(dim=-1)].mean(dim=-1)
