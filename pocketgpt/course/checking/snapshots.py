"""Copies of returned values that nobody can change later, made of types that are safe to compare.

A class of the learner's own, or of tensors that are not ordinary ones, may equal everything or raise in a comparison,
so no object of one is in a copy.
"""

import numpy as np
import torch
from torch import Tensor, nn

_TRUSTED = ("builtins", "collections", "numpy", "pocketgpt", "torch")  # modules whose classes do as they say


def snapshot(value: object) -> object:
    """A copy without gradients. Lists, tuples and dictionaries become ordinary ones; a tensor of a subclass, and an
    object of any other class that the learner defined, an empty object of a class of the same name."""
    kind = type(value)
    if issubclass(kind, Tensor):  # comparisons of a MaskedTensor raise, as may those of any other subclass
        return value.detach().clone() if kind in (Tensor, nn.Parameter) else type(kind.__name__, (), {})()
    if issubclass(kind, dict):
        return {snapshot(key): snapshot(part) for key, part in value.items()}
    if issubclass(kind, list | tuple):
        return (tuple if issubclass(kind, tuple) else list)(snapshot(part) for part in value)
    if kind.__module__.split(".")[0] not in _TRUSTED:
        return type(kind.__name__, (), {})()
    return value.copy() if issubclass(kind, np.ndarray | bytearray | set) else value


def memory(value: object) -> set[int]:
    """Memory addresses of the mutable parts of a value."""
    kind = type(value)
    if issubclass(kind, Tensor):
        try:
            return {value.untyped_storage().data_ptr()} - {0}
        except (NotImplementedError, RuntimeError):  # sparse or nested
            return set()
    if issubclass(kind, list | tuple | dict):
        parts = value.values() if issubclass(kind, dict) else value
        own = set() if issubclass(kind, tuple) else {id(value)}
        return own.union(*map(memory, parts))
    return set()


def same(before: object, after: object) -> bool:
    """True if a value and its earlier snapshot are equal."""
    if type(before) is not type(after):
        return type(before).__name__ == type(after).__name__  # two stand-ins for a class of the learner's own
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.equal(before.nan_to_num(), after.nan_to_num())
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(same, before, after))
    if isinstance(before, dict):
        return same(list(before.items()), list(after.items()))
    return not isinstance(before, bool | int | str | bytes | bytearray | set) or before == after
