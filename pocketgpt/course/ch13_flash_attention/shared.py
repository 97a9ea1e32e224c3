"""Helpers of several exercises of chapter 13."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WHOLE_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")

State = tuple[Tensor, Tensor, Tensor]


def nothing_seen(rows: tuple[int, ...], d: int) -> State:
    """The state before the first piece."""
    return torch.full(rows, -math.inf), torch.zeros(rows), torch.zeros(*rows, d)


def right_merge(state: State, scores: Tensor, values: Tensor) -> State:
    """Right, for the mistakes that go wrong elsewhere."""
    largest, total, weighted = state
    new = torch.maximum(largest, scores.amax(-1))
    safe = torch.where(new == -math.inf, 0.0, new)
    factor, exps = (largest - safe).exp(), (scores - safe[..., None]).exp()
    return new, factor * total + exps.sum(-1), factor[..., None] * weighted + exps @ values


def divided(weighted: Tensor, total: Tensor) -> Tensor:
    """weighted / total, and zeros where nothing was seen."""
    return weighted / torch.where(total == 0, 1.0, total)[..., None]


class LargestTensor(TorchDispatchMode):
    """Notes the last two axes of every tensor that is made while it is active: `shapes`, among them those of `floats`,
    and of the largest one, `rows` times `columns`."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = 0, 0
        self.shapes: set[tuple[int, int]] = set()
        self.floats: set[tuple[int, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor) and each.ndim > 1:
                rows, columns = each.shape[-2:]
                self.shapes.add((rows, columns))
                if each.is_floating_point():
                    self.floats.add((rows, columns))
                if rows * columns > self.rows * self.columns:
                    self.rows, self.columns = rows, columns
        return result


def whole_square(call: Callable[[], Any], seq: int) -> str | None:
    """A sentence if the call makes a tensor with a number, or a boolean, for each of seq · seq pairs."""
    with LargestTensor() as seen:
        call()
    if seen.rows * seen.columns < seq * seq:
        return None
    return (
        f"The values are right, but with {seq} tokens a tensor of shape (…, {seen.rows}, {seen.columns}) is made: one "
        "entry for each pair of tokens, which is what tiles avoid. Make scores and mask for one tile at a time."
    )
