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


def difference(
    got: object, expected: object, *, tolerance: float, absolute: float | None = None, name: str = "result"
) -> Difference | None:
    """The first Difference between two values, or None where they agree.

    tolerance is relative; absolute, unless given, a tenth of it. Floating-point dtypes count as one kind. NaN equals
    NaN, so that a mistake that makes NaN is recognized. The type is that of the expected value: no number passes for a
    tensor, and no tuple for a list, because a later cell calls their methods. But a list passes for a tuple of
    tensors, which is only unpacked.
    """
    slack = tolerance, tolerance / 10 if absolute is None else absolute
    return _difference(got, expected, slack, name)


def _difference(got: object, expected: object, slack: tuple[float, float], name: str) -> Difference | None:
    if isinstance(expected, Tensor):
        return _tensor_difference(got, expected, slack, name)
    if isinstance(expected, Real) and not isinstance(expected, bool):
        return _number_difference(got, expected, slack, name)
    if isinstance(expected, Mapping):
        return _mapping_difference(got, expected, slack, name)
    if isinstance(expected, list | tuple):
        return _sequence_difference(got, expected, slack, name)
    if not isinstance(got, type(expected)):
        return _wrong_type(got, type(expected).__name__, name)
    return None if got == expected else _wrong(got, expected, name)


def _wrong(got: object, expected: object, name: str) -> Difference:
    wanted, mine = _told_apart(expected, got)
    return Difference(f"`{name}` should be {wanted}; yours is {mine}.", name, got, expected)


def _wrong_type(got: object, wanted: str, name: str) -> Difference:
    return Difference(f"`{name}` should be {_a(wanted)}; yours is {_a(type(got).__name__)}.", name)


def _a(kind: str) -> str:
    if kind in ("NoneType", "bytes"):
        return kind.removesuffix("Type")
    return f"an {kind}" if kind[0] in "aeiouAEIO" or kind == "ndarray" else f"a {kind}"


def cut(value: object) -> str:
    """The repr of a value, shortened to one line of a message."""
    text = f"{value:.4g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _told_apart(expected: object, got: object) -> tuple[str, str]:
    """Both values cut, with as many digits as it takes to see that two floating-point numbers differ."""
    if isinstance(expected, float) and isinstance(got, float):
        for digits in range(4, 18):
            pair = f"{expected:.{digits}g}", f"{got:.{digits}g}"
            if pair[0] != pair[1]:
                return pair
    return cut(expected), cut(got)


def _tensor_difference(got: object, expected: Tensor, slack: tuple[float, float], name: str) -> Difference | None:
    if not isinstance(got, Tensor):
        return _wrong_type(got, "torch.Tensor", name)
    if odd := _odd(got):
        return Difference(f"`{name}` should be an ordinary, dense tensor; yours is {odd}.", name)
    got = got.detach().cpu().resolve_conj().resolve_neg()
    if got.shape != expected.shape:
        shapes = f"`{name}` should have the shape {tuple(expected.shape)}; yours has {tuple(got.shape)}"
        return Difference(shapes + _swapped(got, expected), name)
    if _kind(got) != _kind(expected):
        dtypes = f"`{name}` should have the dtype {expected.dtype}; yours has {got.dtype}."
        return Difference(dtypes, name) if got.is_complex() else Difference(dtypes, name, got, expected)
    wide = torch.complex128 if got.is_complex() else torch.float64
    mine, target = got.to(wide), expected.to(wide)
    wrong = ~torch.isclose(mine, target, rtol=slack[0], atol=slack[1], equal_nan=True)
    if not wrong.any():
        return None
    broken = wrong & ~mine.isfinite() & target.isfinite()
    gap = torch.where(broken, torch.inf, torch.where(wrong, (mine - target).abs(), -1.0))
    where = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    if not where:
        return replace(_wrong(got.item(), expected.item(), name), got=None, expected=None)
    wanted_there, mine_there = _told_apart(expected[where].item(), got[where].item())
    values = f"at {list(where)} it should be {wanted_there}; yours is {mine_there}."
    if broken.any():
        problem = f"`{name}` has {'a NaN' if mine[where].isnan() else 'an infinity'}"
    else:
        count = int(wrong.sum())
        problem = f"{count} of the {wrong.numel()} values of your `{name}` {'is' if count == 1 else 'are'} wrong"
    return Difference(f"{problem}: {values}", name, got, expected, where)


def _odd(got: Tensor) -> str | None:
    """The property of a tensor that keeps its values from being compared, in words; None for an ordinary one."""
    if got.is_meta:
        return "on the device meta, which holds shapes and no values"
    if got.is_nested:
        return "nested"
    if got.is_quantized:
        return "quantized: call .dequantize()"
    return None if got.layout == torch.strided else f"sparse ({got.layout}): call .to_dense()"


def _number_difference(got: object, expected: Real, slack: tuple[float, float], name: str) -> Difference | None:
    kind, wanted = (Integral, "int") if isinstance(expected, Integral) else (Real, "float")
    if not isinstance(got, kind) or isinstance(got, bool):
        return _wrong_type(got, wanted, name)
    rtol, atol = slack if wanted == "float" else (0.0, 0.0)
    both = torch.tensor([got, expected], dtype=torch.float64)
    if torch.isclose(both[0], both[1], rtol=rtol, atol=atol, equal_nan=True):
        return None
    return replace(_wrong(got, expected, name), got=None, expected=None)


def _sequence_difference(got: object, expected: Sequence, slack: tuple[float, float], name: str) -> Difference | None:
    unpacked = isinstance(expected, tuple) and any(isinstance(each, Tensor) for each in expected)
    if not isinstance(got, (list, tuple) if unpacked else type(expected)):
        return _wrong_type(got, type(expected).__name__, name)
    for i, (mine, target) in enumerate(zip(got, expected, strict=False)):
        if found := _difference(mine, target, slack, f"{name}[{i}]"):
            return found if isinstance(target, Tensor) else replace(found, got=got, expected=expected)
    if len(got) != len(expected):
        lengths = f"`{name}` should have the length {len(expected)}; yours has {len(got)}."
        return Difference(lengths, name, got, expected)
    return None


def _mapping_difference(got: object, expected: Mapping, slack: tuple[float, float], name: str) -> Difference | None:
    if not isinstance(got, Mapping):
        return _wrong_type(got, "dict", name)
    got, expected = dict(got), dict(expected)
    for key in expected:
        if key not in got:
            return Difference(f"`{name}` should have the key {key!r}; yours lacks it.", name, got, expected)
        if found := _difference(got[key], expected[key], slack, f"{name}[{key!r}]"):
            return replace(found, got=got, expected=expected)
    for key in got:
        if key not in expected:
            return Difference(f"`{name}` should not have the key {key!r}; yours has it.", name, got, expected)
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
