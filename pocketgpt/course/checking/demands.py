"""Demands of later cells on an answer whose values are right: memory of its own, the inputs' dtype, exact values, and
gradients."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.compare import difference
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run, blame, run, run_ours, undisturbed
from pocketgpt.course.checking.snapshots import same, snapshot

EXACT = {"tolerance": 1e-6, "absolute": 1e-7}  # in float64: 1e-9 against a division by 0 is fine, rounding is not


def unmet(exercise: Exercise, answer: Callable, runs: list[Run], seconds: float | None) -> tuple[str, tuple] | None:
    """A sentence about the first demand that is not met, and the inputs that show it; None if all are."""
    for each in runs:
        if each.shared is not None and not exercise.views:
            name = exercise.parameters[each.shared]
            return (
                f"The result shares its memory with `{name}`: a change of one changes the other. Copy it.",
                each.inputs,
            )
        if _changed_later(each):
            return "What your function returned changes at its next call: make a new one inside it.", each.inputs
        if exercise.dtype and isinstance(each.value, Tensor) and each.value.dtype != exercise.dtype:
            wrong = f"`{exercise.returns[0]}` should have the dtype {exercise.dtype}; yours has {each.value.dtype}."
            return f"{wrong} You may compute in another one: convert the result.", each.inputs
        if problem := _inexact(exercise, answer, each, seconds):
            return problem
        for demand in exercise.demands:
            if problem := demand(functools.partial(run, answer, inputs=each.inputs, seconds=seconds), each.inputs):
                return problem, each.inputs
    wanted = [name for name in exercise.gradients if name in exercise.parameters]
    trained = [each for each in runs if all(_is_float(x) for x in _named(exercise, each.inputs, wanted))]
    for each in trained[1:3] if wanted else []:
        if problem := _wrong_gradient(exercise, answer, each.inputs, wanted, seconds):
            return problem, each.inputs
    for each in trained if wanted else []:
        if problem := _broken_gradient(exercise, answer, each.inputs, wanted, seconds):
            return problem, each.inputs
    return None


def _changed_later(each: Run) -> bool:
    try:
        return not same(each.value, snapshot(each.returned))
    except Exception:  # a list of the learner's own class, which can be read once
        return True


def _inexact(exercise: Exercise, answer: Callable, each: Run, seconds: float | None) -> tuple[str, tuple] | None:
    """Compare dtypes, and values in float64, if the answer computes in it: what is right to 1e-5 only shows there."""
    if not any(isinstance(x, Tensor) and x.is_floating_point() for x in each.inputs):
        return None
    single = run_ours(exercise.reference, each.inputs)
    if problem := _another_dtype(exercise, each, single):
        return problem, each.inputs
    inputs = tuple(map(_doubled, each.inputs))
    mine = run(answer, inputs, seconds=seconds)
    with undisturbed(torch.float64):
        target = run_ours(exercise.reference, inputs)
    failed = mine.error is not None or target.error is not None
    if failed or mine.too_long:  # written for float32, which is right as well
        return None
    if problem := _another_dtype(exercise, mine, target):
        return f"With float64 inputs: {problem}", inputs
    # An answer may compute in float32 and convert the result back.
    parts = (_parts(exercise, x) for x in (mine, target, single))
    for name, got, wanted, rounded in zip(exercise.returns, *parts, strict=False):
        if not (isinstance(got, Tensor) and got.dtype == torch.float64 == wanted.dtype and got.shape == wanted.shape):
            continue
        slack = 8 * float((rounded.double() - wanted).abs().nan_to_num().max()) if wanted.numel() else 0.0
        if found := difference(
            got, wanted, name=name, tolerance=EXACT["tolerance"], absolute=EXACT["absolute"] + slack
        ):
            because = "Something is rounded, clipped, or has a small constant added."
            return f"Nearly right, but not exact with float64 inputs. {_capital(found.sentence)} {because}", inputs
    return None


def _doubled(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _doubled(value) for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(map(_doubled, x))
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


def _another_dtype(exercise: Exercise, mine: Run, target: Run) -> str | None:
    """A sentence about a result that is not of the inputs' floating-point dtype, where the target is."""
    dtypes = {x.dtype for x in mine.inputs if isinstance(x, Tensor) and x.is_floating_point()}
    for name, got, wanted in zip(exercise.returns, _parts(exercise, mine), _parts(exercise, target), strict=False):
        if not (isinstance(got, Tensor) and isinstance(wanted, Tensor) and {wanted.dtype} == dtypes):
            continue
        if got.is_floating_point() and got.dtype != wanted.dtype:
            return (
                f"`{name}` should have the dtype of the inputs, {wanted.dtype}; yours has {got.dtype}. "
                "You may compute in another one: convert the result back."
            )
    return None


def _wrong_gradient(
    exercise: Exercise, answer: Callable, inputs: tuple, names: list[str], seconds: float | None
) -> str | None:
    mine = run(_gradients(exercise, answer, names), inputs, seconds=seconds)
    target = run_ours(_gradients(exercise, exercise.reference, names), inputs)
    if mine.error is not None:
        return (
            "The values are right, but gradients must flow through it, as a model trains with such functions, and "
            f"there it raised {blame(mine.error)}"
        )
    labels = _leaves(exercise, inputs, names)
    for name, got, wanted in zip(labels, mine.value or [], target.value, strict=False):
        if got is None and wanted is not None:
            return (
                f"The values are right, but no gradient reaches `{name}`: it must flow, as a model trains with such "
                "functions. Leave out detach, no_grad, item, numpy, new parameters and the like."
            )
        if got is not None and (
            found := difference(got, wanted, tolerance=10 * exercise.tolerance, name=f"gradient of {name}")
        ):
            return f"The values are right, and their gradient is not, with which a model trains: {found.sentence}"
    return None


def _broken_gradient(
    exercise: Exercise, answer: Callable, inputs: tuple, names: list[str], seconds: float | None
) -> str | None:
    """Where scores are −∞, right answers share the gradient of a maximum in different ways; but none of it is NaN."""
    leaves = _leaves(exercise, inputs, names)
    if not any(x.isinf().any() for x in leaves.values()):
        return None
    mine = run(_gradients(exercise, answer, names), inputs, seconds=seconds)
    for name, got in zip(leaves, mine.value or [], strict=False):
        if got is not None and got.isnan().any():
            return (
                f"The values are right, but where there is −∞ the gradient of `{name}` is NaN, with which no model "
                "trains. What replaces a NaN afterwards mends the value only: 0 · NaN is NaN on the way back. Replace "
                "the −∞ before you subtract it."
            )
    return None


def _gradients(exercise: Exercise, function: Callable, names: list[str]) -> Callable:
    """Instead of the function's values, their gradient with respect to the named parameters, None where there is none.

    The values are added up with different weights, so that no gradient cancels.
    """

    def gradients(*inputs: Any) -> list[Tensor | None]:
        with torch.enable_grad():
            leaves = [x.requires_grad_() for x in _leaves(exercise, inputs, names).values()]
            value = function(*inputs)
            parts = value if len(exercise.returns) > 1 else [value]
            sums = [(x * torch.arange(1.0, x.numel() + 1).cos().view(x.shape)).sum() for x in parts]
            total = sum(each for each in sums if each.requires_grad)
            if not isinstance(total, Tensor):
                return [None] * len(leaves)
            return list(torch.autograd.grad(total, leaves, allow_unused=True))

    return gradients


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _named(exercise: Exercise, inputs: tuple, names: list[str]) -> list[Any]:
    return [inputs[exercise.parameters.index(name)] for name in names]


def _leaves(exercise: Exercise, inputs: tuple, names: list[str]) -> dict[str, Tensor]:
    """The tensors of these parameters, which may be dictionaries, by what they are called in a message."""
    leaves = {}
    for name, value in zip(names, _named(exercise, inputs, names), strict=True):
        leaves |= {f'{name}["{key}"]': x for key, x in value.items()} if isinstance(value, dict) else {name: value}
    return leaves


def _is_float(x: Any) -> bool:
    if isinstance(x, dict):
        return all(map(_is_float, x.values()))
    return isinstance(x, Tensor) and x.dtype == torch.float32


def _parts(exercise: Exercise, each: Run) -> list[Any]:
    if len(exercise.returns) == 1:
        return [each.value]
    return list(each.value) if isinstance(each.value, list | tuple) else []
