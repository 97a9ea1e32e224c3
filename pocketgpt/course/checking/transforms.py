"""The right answer, changed in one way: what was done to the result, or to an input before.

Each change is applied to the targets, or to the inputs of the reference, and has to give the learner's result in every
case.
"""

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketgpt.course.checking.compare import difference
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run, run_ours

Changes = list[tuple[str, Callable[[Any], Any]]]

_OF_FLOATS: Changes = [
    ("the absolute value of", torch.abs),
    ("the positive part of", torch.relu),
    ("the square of", torch.square),
    ("the square root of", torch.sqrt),
    ("the exponential of", torch.exp),
    ("the logarithm of", torch.log),
    ("the tanh of", torch.tanh),
    ("the sigmoid of", torch.sigmoid),
    ("1 minus", lambda x: 1 - x),
    ("1 divided by", torch.reciprocal),
    ("rounded down from", torch.floor),
    ("rounded from", torch.round),
]
_OF_TENSORS: Changes = [
    ("the lower triangle of", torch.tril),
    ("the upper triangle of", torch.triu),
    ("the sum of all values of", torch.sum),
    ("the mean of all values of", torch.mean),
    ("the largest of all values of", torch.max),
    ("all in one axis, and otherwise", torch.flatten),
]
_ALONG: list[tuple[str, Callable[[Tensor, int], Tensor]]] = [
    ("the sum over axis {} of", lambda x, axis: x.sum(axis)),
    ("the mean over axis {} of", lambda x, axis: x.mean(axis)),
    ("the largest along axis {} of", lambda x, axis: x.amax(axis)),
    ("the first place along axis {} of", lambda x, axis: x.select(axis, 0)),
    ("the last place along axis {} of", lambda x, axis: x.select(axis, -1)),
    ("of one axis more, axis {}, than", lambda x, axis: x.unsqueeze(axis)),
    ("with one axis for axis {} and the one after it, and otherwise", lambda x, axis: x.flatten(axis - 1, axis)),
    ("softmax, along axis {}, of", lambda x, axis: x.softmax(axis)),
    ("scaled to length 1 along axis {} from", lambda x, axis: F.normalize(x, dim=axis)),
    ("divided by its sum along axis {} from", lambda x, axis: x / x.sum(axis, keepdim=True)),
    ("divided by its largest along axis {} from", lambda x, axis: x / x.amax(axis, keepdim=True)),
    ("less its mean along axis {} than", lambda x, axis: x - x.mean(axis, keepdim=True)),
    ("less its largest along axis {} than", lambda x, axis: x - x.amax(axis, keepdim=True)),
    ("multiplied by the size of axis {} from", lambda x, axis: x * x.shape[axis]),
    ("added up along axis {} from", lambda x, axis: x.cumsum(axis)),
]
_OF_TEXT: Changes = [
    ("in small letters", str.lower),
    ("in capitals", str.upper),
    ("with a capital for each word", str.title),
    ("with all runs of spaces and line ends as one space", lambda text: " ".join(text.split())),
    ("with spaces for line ends", lambda text: text.replace("\n", " ")),
    ("without �", lambda text: text.replace("�", "")),
    ("as its repr", repr),
    ("as its repr, without quotation marks", lambda text: repr(text)[1:-1]),
    ("as bytes", lambda text: text.encode()),
    ("as a list of characters", list),
]
_OF_LISTS: Changes = [
    ("in another order", sorted),
    ("with each element once", lambda parts: list(dict.fromkeys(parts))),
    ("joined to one", lambda parts: b"".join(parts)),
    ("joined to one, in a list", lambda parts: [b"".join(parts)]),
    ("joined with spaces", lambda parts: b" ".join(parts)),
    ("as strings", lambda parts: [part.decode(errors="replace") for part in parts]),
    ("as single numbers", lambda parts: list(b"".join(parts))),
    ("without single bytes", lambda parts: [part for part in parts if len(part) > 1]),
]
_OF_DICTIONARIES: Changes = [
    ("as a list of pairs", lambda counts: list(counts.items())),
    ("as a sorted list of pairs", lambda counts: sorted(counts.items())),
    ("with strings as keys", lambda counts: {str(key): value for key, value in counts.items()}),
    ("with values divided by their sum", lambda counts: {key: n / sum(counts.values()) for key, n in counts.items()}),
    ("without what occurs once", lambda counts: {key: n for key, n in counts.items() if n > 1}),
    ("with its keys alone", list),
]

_IF_FLOATS: Changes = [
    ("had every sign turned", torch.neg),
    ("had no signs", torch.abs),
    ("were squared", torch.square),
    ("were its exponential", torch.exp),
    ("were 1 minus itself", lambda x: 1 - x),
    ("were halved", lambda x: x / 2),
    ("were doubled", lambda x: x * 2),
    ("were 0", torch.zeros_like),
    ("were the softmax of itself along its last axis", lambda x: x.softmax(-1)),
    ("were scaled to length 1 along its last axis", lambda x: F.normalize(x, dim=-1)),
    ("had the mean of its first axis subtracted", lambda x: x - x.mean(0)),
    ("had the mean of its last axis subtracted", lambda x: x - x.mean(-1, keepdim=True)),
    ("were divided by its largest along the last axis", lambda x: x / x.amax(-1, keepdim=True)),
]
_IF_BOOLEAN: Changes = [
    ("had True and False exchanged", torch.logical_not),
    ("were True everywhere", torch.ones_like),
    ("were causal, whatever is in it", lambda mask: torch.ones_like(mask).tril()),
    ("were hidden above its diagonal, too", torch.tril),
]
_IF_TENSOR: Changes = [
    ("were 1 larger", lambda x: x + 1),
    ("were 1 smaller", lambda x: x - 1),
    ("were in reverse order along its last axis", lambda x: x.flip(-1)),
    ("were in reverse order along its first axis", lambda x: x.flip(0)),
    ("were sorted along its last axis", lambda x: x.sort(-1).values),
    ("were the places of its sorted values", lambda x: x.argsort(-1)),
    ("had its first number or row subtracted everywhere", lambda x: x - x[0]),
    ("were counted from its smallest value", lambda x: x - x.min()),
    ("were its largest value everywhere", lambda x: x.max().expand_as(x)),
    ("were its last value everywhere", lambda x: x[-1].expand_as(x)),
    ("were its first value everywhere", lambda x: x[0].expand_as(x)),
    ("were 0, 1, 2, …", lambda x: torch.arange(len(x)).to(x)),
]
_IF_NUMBER: Changes = [
    ("were rounded down to a whole number", int),
    ("had no sign", abs),
    ("had the other sign", lambda x: -x),
    ("were 0 where it is negative", lambda x: max(x, 0)),
    ("were at most 1", lambda x: min(x, 1)),
    ("were 1 divided by itself", lambda x: 1 / x if x else 0.0),
    ("were squared", lambda x: x * x),
    ("were left out", lambda x: None),
    ("were 1 larger", lambda x: x + 1),
    ("were 1 smaller", lambda x: x - 1),
]
_IF_SEQUENCE: Changes = [
    ("were in reverse order", lambda parts: parts[::-1]),
    ("lacked its first element", lambda parts: parts[1:]),
    ("lacked its last element", lambda parts: parts[:-1]),
    ("had its first element alone", lambda parts: parts[:1]),
    ("had its last element alone", lambda parts: parts[-1:]),
    ("were sorted", lambda parts: type(parts)(sorted(parts))),
    ("had each element once", lambda parts: type(parts)(dict.fromkeys(parts))),
    ("had no element equal to the one before", lambda parts: [a for a, b in zip(parts, [None, *parts]) if a != b]),  # noqa: B905
]
_IF_NUMBERS: Changes = [
    ("were 1 larger everywhere", lambda ids: [i + 1 for i in ids]),
    ("were 1 smaller everywhere", lambda ids: [i - 1 for i in ids]),
    ("were its remainders by 256", lambda ids: [i % 256 for i in ids]),
    ("were 0, 1, 2, …", lambda ids: list(range(len(ids)))),
]
_IF_TEXT: Changes = [
    ("were in small letters", str.lower),
    ("had no spaces at its ends", str.strip),
    ("had a space in front", lambda text: " " + text),
    ("were composed (NFC)", lambda text: unicodedata.normalize("NFC", text)),
    ("were decomposed (NFD)", lambda text: unicodedata.normalize("NFD", text)),
    ("were in reverse order", lambda text: text[::-1]),
    ("lacked its first character", lambda text: text[1:]),
]
_IF_DICTIONARY: Changes = [
    ("had its values in reverse order", lambda ranks: {pair: -rank for pair, rank in ranks.items()}),
    ("counted its pairs as they come", lambda ranks: {pair: i for i, pair in enumerate(ranks)}),
    ("were in the order of its keys", lambda ranks: {pair: i for i, pair in enumerate(sorted(ranks))}),
    ("lacked the value 0", lambda ranks: {pair: rank for pair, rank in ranks.items() if rank}),
    ("had its lowest value alone", lambda ranks: dict(sorted(ranks.items(), key=lambda item: item[1])[:1])),
    (
        "were ranked by length, short ones first",
        lambda ranks: {pair: 1e6 * len(b"".join(pair)) + i for i, pair in enumerate(sorted(ranks, key=ranks.get))},
    ),
]


def changed_result(exercise: Exercise, name: str, pairs: list[tuple[Any, Any]], runs: list[Run]) -> str | None:
    """A sentence about the one thing that was done to the target in every case."""
    for words, change in _of(pairs[-1][1]):
        if all(_is(exercise, got, change, wanted) for got, wanted in pairs) and _tells(exercise, change, pairs):
            tensor = isinstance(pairs[0][1], Tensor)
            return f"Your `{name}` is {words} what it should be." if tensor else f"Your `{name}` is right, but {words}."
    return None


def _of(wanted: Any) -> Iterator[tuple[str, Callable]]:
    if isinstance(wanted, Tensor):
        yield from _OF_FLOATS if wanted.is_floating_point() else []
        yield from _OF_TENSORS
        for axis in range(-1, -1 - wanted.ndim, -1):
            for words, change in _ALONG:
                yield words.format(axis), lambda x, change=change, axis=axis: change(x, axis)
    else:
        kinds = (str, _OF_TEXT), (list, _OF_LISTS), (dict, _OF_DICTIONARIES)
        yield from next((changes for kind, changes in kinds if isinstance(wanted, kind)), [])


def _is(exercise: Exercise, got: Any, change: Callable, wanted: Any) -> bool:
    try:
        return difference(got, change(wanted), tolerance=exercise.tolerance) is None
    except Exception:  # a change that this value does not allow
        return False


def _tells(exercise: Exercise, change: Callable, pairs: list[tuple[Any, Any]]) -> bool:
    """True if the change is seen in two cases, or in all of fewer: 0/0 alone could come from anywhere."""
    return sum(_seen(exercise, change(wanted), wanted) for _, wanted in pairs) >= min(2, len(pairs))


def _seen(exercise: Exercise, changed: Any, wanted: Any) -> bool:
    if isinstance(changed, Tensor) and isinstance(wanted, Tensor) and changed.shape == wanted.shape:
        changed = torch.where(changed.isfinite(), changed, wanted.to(changed.dtype))
    return difference(changed, wanted, tolerance=exercise.tolerance) is not None


def changed_input(exercise: Exercise, runs: list[Run], equal: Callable[[Run, Run], bool]) -> str | None:
    """A sentence about the one change of an input with which the results would be right in every case."""
    for i, name in enumerate(exercise.parameters):
        values = [each.inputs[i] for each in runs if i < len(each.inputs)]
        for words, change in _if(exercise, i, values):
            if all(equal(each, _run_changed(exercise, each.inputs, i, change)) for each in runs):
                return f"This would be right if `{name}` {words}."
    return None


class _NotAllowed(Exception):
    """An input does not allow a change; no error of an answer is of this class."""


def _run_changed(exercise: Exercise, inputs: tuple, i: int, change: Callable) -> Run:
    if i >= len(inputs) or inputs[i] is None:
        return run_ours(exercise.reference, inputs)
    try:
        value = change(inputs) if change.__name__ == "other" else change(inputs[i])
    except Exception:  # a change that this value does not allow
        return Run(inputs, error=_NotAllowed())
    return run_ours(exercise.reference, (*inputs[:i], value, *inputs[i + 1 :]))


def _if(exercise: Exercise, i: int, values: list[Any]) -> Iterator[tuple[str, Callable]]:
    value = next((value for value in reversed(values) if value is not None and value != []), None) if values else None
    if isinstance(value, Tensor):
        yield from _IF_BOOLEAN if value.dtype == torch.bool else _IF_FLOATS if value.is_floating_point() else []
        yield from _IF_TENSOR
        for j, name in enumerate(exercise.parameters):
            if j != i:
                yield f"were `{name}`", _other(j)
    elif isinstance(value, int | float):
        yield from _IF_NUMBER
    elif isinstance(value, str):
        yield from _IF_TEXT
    elif isinstance(value, dict):
        yield from _IF_DICTIONARY
    elif isinstance(value, list | tuple):
        yield from _IF_SEQUENCE
        if value and isinstance(value[0], int):
            yield from _IF_NUMBERS
        if value and isinstance(value[0], list):
            for words, change in _IF_SEQUENCE:
                yield f"{words}, in each part of it", lambda parts, change=change: [change(part) for part in parts]


def _other(j: int) -> Callable:
    def other(inputs: tuple) -> Any:
        return inputs[j]

    return other
