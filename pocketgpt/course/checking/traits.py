"""Inputs for which alone an answer is wrong, or right: their properties, in words."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.cases import axes_of
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run


def of_inputs(exercise: Exercise, runs: list[Run], targets: list[Run], wrong: list[int]) -> str | None:
    """The answer is wrong exactly for the inputs with some property, or right exactly for these, two at least.

    Nearly everything is right where there is one number or none, or where nothing is to be returned, so that says
    nothing.
    """
    if all(_is_empty(targets[i].value) for i in range(len(runs)) if i not in wrong):
        return None
    seen = _seen(exercise, runs)
    for trait, having in seen.items():
        if len(having) < 2:
            continue
        only_rest = trait.endswith(" is positive") and trait.replace("positive", "negative") not in seen
        if having == wrong and len(having) < len(runs) and not only_rest:  # what is not positive is 0
            return f"This is right, except where {trait}."
        trivial = trait.endswith(("is empty", "has one element", "has size 1", " is 0"))
        if sorted([*having, *wrong]) == list(range(len(runs))) and not trivial:
            return f"This is right only where {trait}."
    return None


def _is_empty(value: Any) -> bool:
    """No numbers, no elements, or elements that are empty."""
    if isinstance(value, Tensor):
        return value.numel() == 0
    if isinstance(value, list | tuple):
        return all(isinstance(each, list | tuple | Tensor) and _is_empty(each) for each in value)
    return False


_FORMS = ("axis", "axes", "memory", "size 1", "element", "empty", "left out")  # special values come in few of them


def wrong_within(exercise: Exercise, runs: list[Run], wrong: list[int]) -> str | None:
    """The answer is wrong for half of the inputs at least that have a property of their values, and these are at most a
    third of all inputs."""
    fitting = [
        (len(having), trait)
        for trait, having in _seen(exercise, runs).items()
        if not trait.endswith(_FORMS) and len(wrong) >= 2 and set(wrong) <= set(having)
        if len(having) <= min(2 * len(wrong), len(runs) / 3)
    ]
    return f"Wherever this is wrong, {min(fitting)[1]}." if fitting else None


def _seen(exercise: Exercise, runs: list[Run]) -> dict[str, list[int]]:
    """For each property the indices of the runs whose inputs have it."""
    seen: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        for trait in dict.fromkeys(traits(exercise, run.inputs)):
            seen.setdefault(trait, []).append(i)
    return seen


def traits(exercise: Exercise, inputs: tuple) -> Iterator[str]:
    """Properties of the arguments of a case, in words."""
    sizes, parameters = sizes_of(exercise, inputs), exercise.parameters
    if exercise.own_traits:
        yield from exercise.own_traits(*inputs)
    for name, value in zip(parameters, inputs, strict=False):
        if isinstance(value, Tensor):
            yield f"`{name}` has {value.ndim} ax{'i' if value.ndim == 1 else 'e'}s"
            if not value.is_contiguous():
                yield f"`{name}` is not contiguous in memory"
            finite = value[value.isfinite()] if value.dtype != torch.bool else value[:0]
            if value.is_floating_point() and finite.abs().gt(80).any():
                yield f"`{name}` has values beyond ±80"
            if value.is_floating_point() and value.isinf().any():
                yield f"`{name}` has infinities"
            if value.dtype == torch.int64:
                yield from (f"`{name}` has values above {n}" for n in (20, 255, 1000) if finite.gt(n).any())
            if value.dtype == torch.float16:
                yield f"`{name}` is float16"
            if value.dtype == torch.bool and value.ndim and not value.any(-1).all():
                yield f"a row of `{name}` is False everywhere"
        elif isinstance(value, bool):
            yield f"`{name}` is {value}"
        elif isinstance(value, int | float):
            yield f"`{name}` is {'negative' if value < 0 else '0' if value == 0 else 'positive'}"
            yield f"`{name}` is {value:g}"
        elif value is None:
            yield f"`{name}` is None"
        else:
            yield from _traits_of_text(name, value)
    yield from (f"the axis {size} has size 1" for size, n in sizes.items() if n == 1)
    yield from (f"`{name}` is left out" for name in parameters[len(inputs) :])


def _traits_of_text(name: str, value: Any) -> Iterator[str]:
    if hasattr(value, "__len__") and len(value) < 2:
        yield f"`{name}` is empty" if len(value) == 0 else f"`{name}` has one element"
    if isinstance(value, list) and any(a == b for a, b in pairwise(value)):
        yield f"two neighbors in `{name}` are equal"
    if isinstance(value, list) and any(value.count(each) > 1 for each in value):
        yield f"an element of `{name}` occurs twice"
    named = isinstance(value, dict) and any(isinstance(key, str) for key in value)  # by names, as of a GPU's numbers
    if isinstance(value, dict) and not named and list(value.values()) != sorted(value.values()):
        yield f"`{name}` is not in the order of its values"
    tokens = list(_tokens(value))
    if any(token.isspace() or token.startswith(b" ") for token in tokens):
        yield f"`{name}` has spaces"
    if any(max(token, default=0) > 127 for token in tokens):
        yield f"`{name}` has bytes above 127"
    if any(token != token.lower() for token in tokens):
        yield f"`{name}` has capitals"
    if any(len(token) > 1 for token in tokens):
        yield f"`{name}` has tokens of several bytes"


def _tokens(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes | str):
        yield value if isinstance(value, bytes) else value.encode()
    elif isinstance(value, list | tuple | dict):
        for part in value:
            yield from _tokens(part)


def sizes_of(exercise: Exercise, inputs: tuple) -> dict[str, int]:
    """The size of each named axis in the inputs."""
    sizes = {}
    for name, value in zip(exercise.parameters, inputs, strict=False):
        if name in (axes := axes_of(exercise.reference)) and isinstance(value, Tensor):
            names = axes[name].names
            sizes |= zip(names, value.shape[value.ndim - len(names) :], strict=False)
    return sizes
