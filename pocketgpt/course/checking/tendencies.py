"""What all wrong results of an answer have in common where they follow no one rule.

Too much or too little of something, sums that are not 1, wrong values in one region alone, or a result that does not
depend on the values of the inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run

Pairs = list[tuple[Any, Any]]


def tendency(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """A sentence that is true in every case, about results of the right type and shape."""
    if all(isinstance(x, Tensor) for pair in pairs for x in pair):
        if any(got.shape != wanted.shape or _kind(got) != _kind(wanted) for got, wanted in pairs):
            return None
        if all(wanted.dtype == torch.bool for _, wanted in pairs):
            return _of_sizes(name, pairs, runs) or _said(name, _MASKS, pairs)
        return (
            _of_sizes(name, pairs, runs)
            or _nearly(name, pairs)
            or _sums(exercise, name, pairs, runs)
            or _regions(exercise, name, pairs)
            or _one_sided(name, pairs)
        )
    for kind, tendencies in ((list, _LISTS), (str, _TEXTS), (Mapping, _COUNTS)):
        if all(isinstance(x, kind) for pair in pairs for x in pair):
            return (_kinds(name, pairs) if kind is Mapping else None) or _said(name, tendencies, pairs)
    return None


def _kinds(name: str, pairs: Pairs) -> str | None:
    """The one kind that all keys are of, if it is not that of the right ones."""
    mine, right = ({_in_words(key) for pair in pairs for key in pair[i]} for i in (0, 1))
    if len(mine) == len(right) == 1 and mine != right:
        return f"Each key of your `{name}` is {mine.pop()}: it should be {right.pop()}."
    return None


def _in_words(key: Any) -> str:
    if isinstance(key, tuple):
        return f"a tuple of {' and '.join(_in_words(part) for part in key)}"
    return {bytes: "bytes", str: "a string", int: "a whole number"}.get(type(key), f"of type {type(key).__name__}")


def _kind(x: Tensor) -> tuple[bool, bool]:
    return x.dtype == torch.bool, x.is_floating_point()


def _said(name: str, tendencies: list[tuple[str, Callable]], pairs: Pairs) -> str | None:
    found = (f"Your `{name}` {said}" for said, holds in tendencies if all(_of(holds, *pair) for pair in pairs))
    return next(found, None)


def _of(holds: Callable, got: Any, wanted: Any) -> bool:
    try:
        return bool(holds(got, wanted)) if isinstance(wanted, Tensor) else got == wanted or bool(holds(got, wanted))
    except TypeError:  # elements of another type
        return False


def _within(short: Any, long: Any) -> bool:
    """True if everything in `short` is in `long`, in the same order."""
    rest = iter(long)
    return all(any(each == other for other in rest) for each in short)


def _same_bytes(got: Any, wanted: Any) -> bool:
    return b"".join(got) == b"".join(wanted)


def _below(got: Any, wanted: Any) -> bool:
    """True if no count is larger than it should be; a key that lacks counts 0."""
    return all(count <= wanted.get(key, 0) for key, count in got.items())


def _ascii(text: str) -> list[str]:
    return [character for character in text if character.isascii()]


_MASKS: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("is True at too many places, and at none False by mistake.", lambda got, wanted: (got | ~wanted).all()),
    ("is True at too few places, and at none True by mistake.", lambda got, wanted: (~got | wanted).all()),
]  # fmt: skip
_LISTS: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("has the right bytes, and too few are joined.", lambda *both: _same_bytes(*both) and len(both[0]) > len(both[1])),
    ("has the right bytes, and too many are joined.", lambda *both: _same_bytes(*both) and len(both[0]) < len(both[1])),
    ("has the right bytes, and others are joined than should be.", _same_bytes),
    ("is in the right order, and some of it is missing.", _within),
    ("is all there, and other elements are in between.", lambda got, wanted: _within(wanted, got)),
    ("lacks some bytes, and the rest is in order.", lambda got, wanted: _within(b"".join(got), b"".join(wanted))),
    ("has all bytes in order, and others in between.", lambda got, wanted: _within(b"".join(wanted), b"".join(got))),
]  # fmt: skip
_TEXTS: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("has characters in the right order, and some are missing.", _within),
    ("has all characters in order, and others in between.", lambda got, wanted: _within(wanted, got)),
    ("is right in its ASCII characters, and others go wrong.", lambda got, wanted: _ascii(got) == _ascii(wanted)),
]  # fmt: skip
_COUNTS: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("lacks some keys, and the others have the right values.", lambda got, wanted: got.items() <= wanted.items()),
    ("has keys that do not belong, and the others are right.", lambda got, wanted: got.items() >= wanted.items()),
    ("counts too little, and nowhere too much.", _below),
    ("counts too much, and nowhere too little.", lambda got, wanted: _below(wanted, got)),
    ("has the right keys, and some of their values are wrong.", lambda got, wanted: got.keys() == wanted.keys()),
]  # fmt: skip


def _of_sizes(name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """The same result for all inputs of the same sizes, where it should not be."""
    if not all(got.isfinite().all() for got, _ in pairs):
        return None
    groups: dict[tuple, list[int]] = {}
    for i, each in enumerate(runs):
        groups.setdefault(tuple(getattr(x, "shape", x) for x in each.inputs), []).append(i)
    again = [(i, j) for group in groups.values() for i, j in combinations(group, 2) if _all_other(runs[i], runs[j])]
    if sum(not torch.equal(pairs[i][1], pairs[j][1]) for i, j in again) < 2:
        return None
    if not all(torch.equal(pairs[i][0], pairs[j][0]) for i, j in again):
        return None
    return f"Your `{name}` follows from the sizes of the inputs alone: it depends on their values, too."


def _all_other(one: Run, other: Run) -> bool:
    """True if every tensor among the inputs has other values."""
    tensors = [(x, y) for x, y in zip(one.inputs, other.inputs, strict=True) if isinstance(x, Tensor)]
    return bool(tensors) and not any(torch.equal(x, y) for x, y in tensors)


def _nearly(name: str, pairs: Pairs) -> str | None:
    """Differences of about 1 % at most, or those of a dtype with fewer digits."""
    dtypes = {got.dtype for got, _ in pairs}
    if dtypes <= {torch.float16, torch.bfloat16} and len(dtypes) == 1:
        (dtype,) = dtypes
        if all(torch.allclose(got.float(), wanted.to(dtype).float(), rtol=1e-2, atol=1e-3) for got, wanted in pairs):
            return f"The values of your `{name}` are right, and rounded: its dtype is {dtype}, keep that of the inputs."
    if not all(torch.allclose(got.double(), wanted.double(), rtol=1e-2, atol=1e-3) for got, wanted in pairs):
        return None
    return f"Your `{name}` is nearly right, to about 1 %: is something rounded, or a constant added?"


def _one_sided(name: str, pairs: Pairs) -> str | None:
    each = [(got.double() - wanted.double()).flatten() for got, wanted in pairs]
    if 2 * sum(bool(gaps.abs().gt(1e-5).any()) for gaps in each) < len(each):
        return None
    gaps = torch.cat(each)
    if len(gaps) < 5 or gaps.isnan().any() or not (gaps.max() <= 1e-5 or gaps.min() >= -1e-5):
        return None
    size, other = ("too large", "too small") if gaps.max() > 1e-5 else ("too small", "too large")
    if all(not wanted.ndim for _, wanted in pairs):
        return f"Your `{name}` is {size} for most inputs, and {other} for none."
    return f"Your `{name}` is {size} wherever it is wrong."


def _sums(exercise: Exercise, name: str, pairs: Pairs, runs: list[Run]) -> str | None:
    """Of targets that sum to 1 along an axis: yours do not, or do, and are too even or too uneven."""
    place = exercise.parameters.index("dim") if "dim" in exercise.parameters else None
    axes = [-1 if place is None else each.inputs[place] for each in runs]
    if not all(wanted.ndim and _sum_to_1(wanted, axis) for (_, wanted), axis in zip(pairs, axes, strict=True)):
        return None
    along = "axis -1" if place is None else "`dim`"
    if not all(got.isfinite().all() for got, _ in pairs):
        return None
    if not all(_sum_to_1(got, axis) for (got, _), axis in zip(pairs, axes, strict=True)):
        return f"Your `{name}` should sum to 1 along {along}, and does not everywhere."
    largest = [(got.amax(axis), wanted.amax(axis)) for (got, wanted), axis in zip(pairs, axes, strict=True)]
    if all((got <= wanted + exercise.tolerance).all() for got, wanted in largest):
        return f"Your `{name}` sums to 1 along {along}, and is too even: are the scores scaled down?"
    if all((got >= wanted - exercise.tolerance).all() for got, wanted in largest):
        return f"Your `{name}` sums to 1 along {along}, and is too uneven: are the scores scaled up?"
    return f"Your `{name}` sums to 1 along {along}, and its proportions are wrong."


def _sum_to_1(x: Tensor, axis: int) -> bool:
    sums = x.double().sum(axis)
    return bool((((sums - 1).abs() < 1e-2) | (sums == 0)).all() and sums.any())


def _regions(exercise: Exercise, name: str, pairs: Pairs) -> str | None:
    """Wrong in one region alone, which is wrong in three cases at least."""
    wrong = [
        ~torch.isclose(got.double(), wanted.double(), exercise.tolerance, exercise.tolerance / 10, equal_nan=True)
        for got, wanted in pairs
    ]
    for words, region in _places(pairs):
        inside = [region(wanted) for _, wanted in pairs]
        if all((~each | within).all() for each, within in zip(wrong, inside, strict=True)):
            seen = [each for each, within in zip(wrong, inside, strict=True) if each.any() and not within.all()]
            if len(seen) >= 3:
                return f"Your `{name}` is right, except {words}."
    return _same_zeros(name, pairs)


def _same_zeros(name: str, pairs: Pairs) -> str | None:
    """0 exactly where it should be, at a fifth of all places and in three cases at least."""
    if not all(torch.equal(got == 0, wanted == 0) for got, wanted in pairs):
        return None
    zeros = [int((wanted == 0).sum()) for _, wanted in pairs]
    if sum(n > 0 for n in zeros) < 3 or sum(zeros) * 5 < sum(wanted.numel() for _, wanted in pairs):
        return None
    return f"Your `{name}` is 0 at the right places, and its other values are wrong."


def _places(pairs: Pairs) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    square = any(wanted.ndim > 1 and wanted.shape[-1] == wanted.shape[-2] for _, wanted in pairs)
    if square and all(wanted.ndim > 1 for _, wanted in pairs):
        everywhere = lambda x: torch.ones_like(x, dtype=torch.bool)  # noqa: E731
        yield "on its diagonal", lambda x: everywhere(x).tril() & everywhere(x).triu()
        yield "above its diagonal", lambda x: everywhere(x).triu(1)
        yield "below its diagonal", lambda x: everywhere(x).tril(-1)
        yield "off its diagonal", lambda x: ~(everywhere(x).tril() & everywhere(x).triu())
    yield "where it should be 0", lambda x: x == 0
    yield "where it should be −∞", lambda x: x == -torch.inf
    if any(not wanted.is_floating_point() for _, wanted in pairs):
        return  # of an id or a place, "positive" says nothing
    negative, positive = (sum(int((sign * wanted > 0).sum()) for _, wanted in pairs) for sign in (-1, 1))
    if positive > negative / 4:  # a few numbers that are right say nothing
        yield "where it should be negative", lambda x: x < 0
    if negative > positive / 4:
        yield "where it should be positive", lambda x: x > 0
