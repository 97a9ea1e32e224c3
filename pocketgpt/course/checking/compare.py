"""Compare a returned value with the expected one, and describe the difference in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import torch
from torch import Tensor

WIDTH = 90


@dataclass(frozen=True)
class Difference:
    """Description of a wrong value, and the two values to show unless the sentence is enough.

    name: the value's name in messages. where: the index of a tensor's worst element.
    """

    sentence: str
    name: str
    got: object = None
    expected: object = None
    where: tuple[int, ...] = ()


def difference(got: object, expected: object, *, tolerance: float, name: str = "result") -> Difference | None:
    """The first Difference between two values, or None where they agree.

    tolerance is relative, a tenth of it absolute. Floating-point dtypes count as one kind. NaN equals NaN, so that a
    mistake that makes NaN is recognized.
    """
    if isinstance(expected, Tensor):
        return _tensor_difference(got, expected, tolerance, name)
    if isinstance(expected, Real) and not isinstance(expected, bool):
        return _number_difference(got, expected, tolerance, name)
    if isinstance(expected, Mapping):
        return _mapping_difference(got, expected, tolerance, name)
    if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        return _sequence_difference(got, expected, tolerance, name)
    if not isinstance(got, type(expected)):
        return _wrong_type(got, type(expected).__name__, name)
    if got == expected:
        return None
    return Difference(f"`{name}` should be {cut(expected)}; yours is {cut(got)}.", name, got, expected)


def _wrong_type(got: object, wanted: str, name: str) -> Difference:
    return Difference(f"`{name}` should be {_a(wanted)}; yours is {_a(type(got).__name__)}.", name)


def _a(kind: str) -> str:
    return "None" if kind == "NoneType" else f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def cut(value: object) -> str:
    """The repr of a value, shortened to one line of a message."""
    text = repr(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _tensor_difference(got: object, expected: Tensor, tolerance: float, name: str) -> Difference | None:
    if isinstance(got, Real) and expected.ndim == 0:
        got = torch.tensor(got)
    if not isinstance(got, Tensor):
        return _wrong_type(got, "torch.Tensor", name)
    got = got.detach().cpu()
    if got.shape != expected.shape:
        shapes = f"The shape of your {name} is {tuple(got.shape)}, expected {tuple(expected.shape)}"
        return Difference(shapes + _swapped(got, expected), name)
    if _kind(got) != _kind(expected):
        return Difference(f"The dtype of your {name} is {got.dtype}, expected {expected.dtype}.", name, got, expected)
    mine, target = got.to(torch.float64), expected.to(torch.float64)
    wrong = ~torch.isclose(mine, target, rtol=tolerance, atol=tolerance / 10, equal_nan=True)
    if not wrong.any():
        return None
    broken = wrong & ~mine.isfinite() & target.isfinite()
    gap = torch.where(broken, torch.inf, torch.where(wrong, (mine - target).abs(), -1.0))
    where = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    values = f"{_short(got[where].item())}, expected {_short(expected[where].item())}."
    if not where:
        return Difference(f"Your {name} is {values}", name)
    if broken.any():
        problem = f"{'NaN' if mine[where].isnan() else 'An infinity'} in your {name}"
    else:
        problem = f"{int(wrong.sum())} of {wrong.numel()} values of your {name} are wrong, most of all the one"
    return Difference(f"{problem} at {list(where)}: yours is {values}", name, got, expected, where)


def _number_difference(got: object, expected: Real, tolerance: float, name: str) -> Difference | None:
    if isinstance(got, Tensor) and got.ndim == 0:
        got = got.item()
    kind, wanted = (Integral, "int") if isinstance(expected, Integral) else (Real, "float")
    if not isinstance(got, kind) or isinstance(got, bool):
        return _wrong_type(got, wanted, name)
    slack = tolerance if wanted == "float" else 0.0
    both = torch.tensor([got, expected], dtype=torch.float64)
    if torch.isclose(both[0], both[1], rtol=slack, atol=slack / 10, equal_nan=True):
        return None
    return Difference(f"Your {name} is {_short(got)}, expected {_short(expected)}.", name)


def _sequence_difference(got: object, expected: Sequence, tolerance: float, name: str) -> Difference | None:
    if not isinstance(got, list | tuple):
        return _wrong_type(got, type(expected).__name__, name)
    for i, (mine, target) in enumerate(zip(got, expected, strict=False)):
        if found := difference(mine, target, tolerance=tolerance, name=f"{name}[{i}]"):
            return found if isinstance(target, Tensor) else replace(found, got=got, expected=expected)
    if len(got) != len(expected):
        return Difference(f"The length of your {name} is {len(got)}, expected {len(expected)}.", name, got, expected)
    return None


def _mapping_difference(got: object, expected: Mapping, tolerance: float, name: str) -> Difference | None:
    if not isinstance(got, Mapping):
        return _wrong_type(got, "dict", name)
    got, expected = dict(got), dict(expected)
    for key in expected:
        if key not in got:
            return Difference(f"The key {key!r} is missing in your {name}.", name, got, expected)
        if found := difference(got[key], expected[key], tolerance=tolerance, name=f"{name}[{key!r}]"):
            return replace(found, got=got, expected=expected)
    for key in got:
        if key not in expected:
            return Difference(f"There should be no key {key!r} in your {name}.", name, got, expected)
    return None


def _swapped(got: Tensor, expected: Tensor) -> str:
    """'.' or, if the sizes are right and their order is not, which axes changed places."""
    if sorted(got.shape) != sorted(expected.shape):
        return "."
    moved = [axis for axis in range(got.ndim) if got.shape[axis] != expected.shape[axis]]
    return f": axes {moved[0]} and {moved[1]} are swapped." if len(moved) == 2 else ": the axes are in another order."


def _kind(x: Tensor) -> str:
    if x.dtype == torch.bool:
        return "bool"
    return "float" if x.is_floating_point() else "complex" if x.is_complex() else "integer"


def _short(x: Real) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)
