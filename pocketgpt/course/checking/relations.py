"""Relations of a wrong answer without a name to the right one: the same factor everywhere, reordered, at the
borders, wrong for some inputs only.

A relation has to hold in every case, also in those in which the answer is right, and be seen in two at least: what
holds in one by chance says nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.compare import difference
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run
from pocketgpt.course.checking.tendencies import tendency
from pocketgpt.course.checking.traits import of_inputs, sizes_of, wrong_within
from pocketgpt.course.checking.transforms import changed_input, changed_result

Pairs = list[tuple[Any, Any]]


def relation(
    exercise: Exercise,
    runs: list[Run],
    targets: list[Run],
    wrong: list[int],
    compared: Callable[[Exercise, Run, Run], Any],
) -> str | None:
    """A sentence about how the values of the wrong cases, given by their indices, differ from the targets."""
    if len(wrong) < min(2, len(runs)):
        return None
    said = None if any(each.error is not None for each in runs) else _of_values(exercise, runs, targets)
    equal = lambda mine, other: compared(exercise, mine, other) is None  # noqa: E731
    undemanded = any(each.error is not None and not isinstance(each.error, exercise.raises) for each in runs)
    said = (
        said
        or (None if undemanded else changed_input(exercise, runs, equal))
        or of_inputs(exercise, runs, targets, wrong)
    )
    if not (said or any(each.error is not None for each in runs)):
        said = _of_values(exercise, runs, targets, (_up_to_a_factor, tendency))
    return said or wrong_within(exercise, runs, wrong)


def _of_values(
    exercise: Exercise, runs: list[Run], targets: list[Run], relations: tuple[Callable, ...] = ()
) -> str | None:
    relations = relations or (_of_one, changed_result)
    values, expected = [each.value for each in runs], [each.value for each in targets]
    names = exercise.returns
    if len(names) == 1:
        pairs = list(zip(values, expected, strict=True))
        if _only_the_types(pairs):
            return None
        return next(filter(None, (each(exercise, names[0], pairs, runs) for each in relations)), None)
    if not all(isinstance(value, list | tuple) and len(value) == len(names) for value in values):
        return None
    if len(names) == 2 and _all_equal(exercise, [(got[::-1], wanted) for got, wanted in zip(values, expected)]):  # noqa: B905
        return f"The two results are swapped: return ({names[0]}, {names[1]})."
    for name in sorted(names, key=exercise.told_first):
        part = names.index(name)
        pairs = [(got[part], wanted[part]) for got, wanted in zip(values, expected, strict=True)]
        if not _all_equal(exercise, pairs):
            return next(filter(None, (each(exercise, name, pairs, runs) for each in relations)), None)
    return None


def _of_one(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    if all(isinstance(got, Tensor) and isinstance(wanted, Tensor) for got, wanted in pairs) and _zeros(pairs):
        return f"Every value of your `{name}` is 0."
    telling = [i for i, pair in enumerate(pairs) if not (_is_small(pair[1]) and _all_equal(exercise, [pair]))]
    pairs, runs = [pairs[i] for i in telling], [runs[i] for i in telling]
    if all(isinstance(got, Tensor) and isinstance(wanted, Tensor) for got, wanted in pairs):
        if all(_only_the_dtype(got, wanted) for got, wanted in pairs):
            return None
        for found in (_not_a_number, _factor, _offset, _reordered, _borders):
            if all(_same_shape(got, wanted) for got, wanted in pairs) and (said := found(exercise, name, pairs, runs)):
                return said
        return None
    if all(isinstance(got, Mapping) and got.keys() == wanted.keys() for got, wanted in pairs):
        numbers = [
            tuple(torch.tensor([float(x[key]) for key in wanted]) for x in pair)
            for pair in pairs
            for wanted in pair[1:]
        ]
        return _factor(exercise, name, numbers, runs) or _offset(exercise, name, numbers, runs)
    if all(isinstance(got, type(wanted)) and isinstance(wanted, list | str | bytes) for got, wanted in pairs):
        return next((f"`{name}`: {said}." for said, holds in _SEQUENCES if all(holds(*pair) for pair in pairs)), None)
    return None


_SEQUENCES: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("everything is there, in reverse order", lambda got, wanted: got[::-1] == wanted),
    ("everything is there, in another order", lambda got, wanted: sorted(got, key=repr) == sorted(wanted, key=repr)),
    ("the last element is missing", lambda got, wanted: len(wanted) > 0 and got == wanted[:-1]),
    ("the first element is missing", lambda got, wanted: len(wanted) > 0 and got == wanted[1:]),
    ("there is one element too many at the end", lambda got, wanted: len(got) > 0 and got[:-1] == wanted),
    ("there is one element too many at the start", lambda got, wanted: len(got) > 0 and got[1:] == wanted),
    (
        "only the last element is wrong",
        lambda got, wanted: len(got) == len(wanted) > 1 and got[:-1] == wanted[:-1],
    ),
    ("only the first element is wrong", lambda got, wanted: len(got) == len(wanted) > 1 and got[1:] == wanted[1:]),
]


def _not_a_number(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    if all(got.is_floating_point() and got.numel() and got.isnan().all() for got, _ in pairs):
        return f"Every value of your `{name}` is NaN."
    return None


def _factor(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """One factor for all cases, or one that is the size of an axis, or its root."""
    if all(got.dtype == wanted.dtype == torch.bool for got, wanted in pairs):
        turned = _all_equal(exercise, [(~got, wanted) for got, wanted in pairs])
        return f"True and False are exchanged in your `{name}`." if turned else None
    factors = _factors(exercise, pairs)
    if not factors:
        return None
    if _constant(factors):
        turned = f"Every sign of your `{name}` is turned."
        times = f"Your `{name}` is {factors[0]:.4g} times what it should be, everywhere."
        return turned if abs(factors[0] + 1) < 1e-3 else times
    sizes = [sizes_of(exercise, each.inputs) for each in runs]
    for words, product in _products(list(sizes[0])):
        if all(
            each.keys() == sizes[0].keys() and abs(c / product(each) - 1) < 1e-3
            for each, c in zip(sizes, factors, strict=True)
        ):
            return f"Your `{name}` is {words} times what it should be, everywhere."
    return None


def _up_to_a_factor(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """Another factor in each case, so that three cases at least have to have several numbers."""
    telling = [pair for pair in pairs if not (isinstance(pair[1], Tensor) and _is_small(pair[1]))]
    if not all(isinstance(x, Tensor) for pair in telling for x in pair):
        return None
    if not all(_same_shape(*pair) for pair in telling) or all(_only_the_dtype(*pair) for pair in telling):
        return None
    if not _factors(exercise, telling):
        return None
    if sum(wanted.numel() > 2 for _, wanted in telling) < 3:
        return None
    return f"Your `{name}` is right up to a factor that changes with the inputs: is a scale made of a wrong size?"


def _factors(exercise: Exercise, pairs: Pairs) -> list[float] | None:
    """In each case the factor by which all numbers are too large; None if it is 0, which is true of all zeros."""
    if not _enough(pairs) or not all(wanted.any() for _, wanted in pairs):
        return None
    factors = []
    for got, wanted in pairs:
        largest = wanted.abs().argmax()
        factors.append(float(got.flatten()[largest]) / float(wanted.flatten()[largest]))
    scaled = [(got.double(), wanted.double() * c) for (got, wanted), c in zip(pairs, factors, strict=True)]
    return factors if _all_equal(exercise, scaled) and min(map(abs, factors)) > 1e-6 else None


def _products(sizes: list[str]) -> Iterator[tuple[str, Callable[[Mapping[str, int]], float]]]:
    """One size or its root, above or below the line, and then quotients of two and of three sizes."""
    for size in sizes:
        yield f"√{size}", lambda n, a=size: n[a] ** 0.5
        yield f"1/√{size}", lambda n, a=size: n[a] ** -0.5
        yield size, lambda n, a=size: n[a]
        yield f"1/{size}", lambda n, a=size: 1 / n[a]
    for a, b in permutations(sizes, 2):
        yield f"{a}/{b}", lambda n, a=a, b=b: n[a] / n[b]
        yield f"√({a}/{b})", lambda n, a=a, b=b: (n[a] / n[b]) ** 0.5
    for a, b in combinations(sizes, 2):
        yield f"{a} · {b}", lambda n, a=a, b=b: n[a] * n[b]
        for c in sizes:
            if c not in (a, b):
                yield f"{a} · {b}/{c}", lambda n, a=a, b=b, c=c: n[a] * n[b] / n[c]


def _offset(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    if not _enough(pairs):
        return None
    offsets = [float((got.double() - wanted.double()).flatten()[0]) for got, wanted in pairs]
    moved = [(got.double(), wanted.double() + c) for (got, wanted), c in zip(pairs, offsets, strict=True)]
    if not (_constant(offsets) and _all_equal(exercise, moved)):
        return None
    return f"Every value of your `{name}` is {abs(offsets[0]):.4g} too {'large' if offsets[0] > 0 else 'small'}."


def _reordered(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    axes = range(-1, -1 - min(wanted.ndim for _, wanted in pairs), -1)
    for a, b in [(a, b) for a in axes for b in axes if a > b]:
        if _all_equal(exercise, [(got.transpose(a, b), wanted) for got, wanted in pairs]):
            return f"The axes {b} and {a} of your `{name}` are swapped."
    for a in axes:
        if _all_equal(exercise, [(got.flip(a), wanted) for got, wanted in pairs]):
            return f"Your `{name}` is in reverse order along axis {a}."
    for a in axes:
        if _all_equal(exercise, [(_sorted_slices(got, a), _sorted_slices(wanted, a)) for got, wanted in pairs]):
            return f"The slices of your `{name}` along axis {a} are right, and in another order."
    if any(wanted.unique().numel() < 4 for _, wanted in pairs):
        return None
    if _all_equal(exercise, [(got.flatten().sort().values, wanted.flatten().sort().values) for got, wanted in pairs]):
        return f"The values of your `{name}` are right, and in the wrong places."
    return None


def _sorted_slices(x: Tensor, axis: int) -> Tensor:
    """The slices along an axis in the order of their first numbers, if these tell them apart."""
    rows = x.movedim(axis, 0).flatten(1) if x.ndim > 1 else x[:, None]
    if rows.shape[1] == 0 or rows[:, 0].unique().numel() < len(rows):
        return x
    return rows[rows[:, 0].argsort()]


def _borders(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """Wrong at one end of an axis only, in three cases at least where the axis is long enough to tell."""
    for axis in range(-1, -1 - min(wanted.ndim for _, wanted in pairs), -1):
        long = [wanted.shape[axis] for _, wanted in pairs if wanted.shape[axis] > 2]
        if len(long) < 3 or len(set(long)) < 2:
            continue
        places = [_wrong_places(exercise, *pair, axis) for pair in pairs]
        for end, words in ((0, "first"), (-1, "last")):
            if all(bool(each[end]) and int(each.sum()) == 1 for each in places):
                return f"Your `{name}` is right, except at the {words} place along axis {axis}."
    return None


def _wrong_places(exercise: Exercise, got: Tensor, wanted: Tensor, axis: int) -> Tensor:
    right = torch.isclose(got.double(), wanted.double(), exercise.tolerance, exercise.tolerance / 10, equal_nan=True)
    return (~right).movedim(axis, 0).flatten(1).any(-1) if wanted.ndim > 1 else ~right


def _all_equal(exercise: Exercise, pairs: Pairs) -> bool:
    return not any(difference(*_plain(pair), tolerance=exercise.tolerance) for pair in pairs)


def _plain(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """A list of results passes for a tuple."""
    got, wanted = pair
    return (tuple(got), wanted) if isinstance(wanted, tuple) and isinstance(got, list) else (got, wanted)


def _zeros(pairs: Pairs) -> bool:
    """True if all numbers are 0, which should not be so in two cases at least."""
    plain = all(_same_shape(got, wanted) and got.dtype != torch.bool for got, wanted in pairs)
    if not plain or not all((got.double().abs() < 1e-6).all() for got, _ in pairs):
        return False
    return sum(bool((wanted.double().abs() > 1e-3).any()) for _, wanted in pairs) >= 2


def _is_small(wanted: Any) -> bool:
    """One number or element, or none, or zeros: many relations hold there and say nothing."""
    if isinstance(wanted, Tensor):
        return wanted.numel() < 2 or not wanted.any()
    return not hasattr(wanted, "__len__") or len(wanted) < 2


def _same_shape(got: Tensor, wanted: Tensor) -> bool:
    return (
        got.layout == torch.strided
        and not (got.is_meta or got.is_nested or got.is_complex())
        and got.shape == wanted.shape
    )


def _only_the_dtype(got: Tensor, wanted: Tensor) -> bool:
    """True if the values are right, so that no relation is to be seen in them."""
    return got.dtype != wanted.dtype and _same_shape(got, wanted) and torch.equal(got.double(), wanted.double())


def _only_the_types(pairs: Pairs) -> bool:
    """True if lists hold the right numbers as tensors or the like, so that no relation is to be seen in them."""
    return all(isinstance(wanted, list) and isinstance(got, list) and got == wanted for got, wanted in pairs)


def _enough(pairs: Pairs) -> bool:
    """Numbers, and so many that one factor for all of them is no chance."""
    numbers = all(wanted.dtype != torch.bool and wanted.numel() for _, wanted in pairs)
    return numbers and sum(wanted.numel() for _, wanted in pairs) > 2


def _constant(numbers: list[float]) -> bool:
    return all(map(math.isfinite, numbers)) and max(numbers) - min(numbers) <= 1e-3 * max(map(abs, numbers))
