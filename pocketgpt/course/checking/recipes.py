"""Inputs that are built anew for every call: modules, and tensors with a graph, which cannot be copied."""

from copy import deepcopy
from typing import Any

import torch


class Recipe:
    """An input as plain values, from which every copy of a case builds the object itself.

    A subclass is a frozen dataclass, so that equal values are equal inputs, and its `__repr__` is what a learner reads.
    A recipe that is used twice in one case, by itself and inside another recipe, is built once:

        blocks = Blocks(seed=3)
        yield Loss(blocks), blocks                 # the loss depends on the very blocks that are passed with it
    """

    def build(self, others: "Others") -> Any:
        """The object. `others(recipe)` gives the one that another recipe of the same case is built into."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            return self.build(Others(memo))


class Others:
    """The objects that the recipes of one case are built into."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo

    def __call__(self, recipe: Recipe) -> Any:
        return deepcopy(recipe, self.memo)
