"""Comparing what a learner's function returned with what was expected, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """What is wrong with a value, in a sentence; and the two things to show, unless the sentence says it all."""

    sentence: str
    got: object = None
    expected: object = None
    where: tuple[int, ...] = ()


def difference(got: object, expected: object, *, tolerance: float, name: str = "result", parts: tuple[str, ...] = ()):
    """The first Difference between two values, or None where they agree.

    Floating-point dtypes count as one kind. NaN equals NaN, so that a mistake that makes NaN is recognized.
    parts: names for the members of a tuple.
    """
    if isinstance(expected, Tensor):
        return _tensor_difference(got, expected, tolerance, name)
    if isinstance(expected, bool | str | bytes):
        return _plain_difference(got, expected, type(expected), name)
    if isinstance(expected, Real):
        return _number_difference(got, expected, tolerance, name)
    if isinstance(expected, Mapping):
        return _mapping_difference(got, expected, tolerance, name)
    if isinstance(expected, Sequence):
        return _sequence_difference(got, expected, tolerance, name, parts)
    return _plain_difference(got, expected, type(expected), name)


def _tensor_difference(got, expected: Tensor, tolerance: float, name: str) -> Difference | None:
    if isinstance(got, Real) and expected.ndim == 0:
        got = torch.tensor(got)
    if not isinstance(got, Tensor):
        return _wrong_type(got, "torch.Tensor", name)
    got = got.detach().cpu()
    if got.shape != expected.shape:
        return Difference(
            f"Your {name} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}{_swapped(got, expected)}."
        )
    if _kind(got) != _kind(expected):
        wanted = {"bool": "torch.bool", "int": "torch.int64", "float": "torch.float32"}[_kind(expected)]
        return Difference(f"Your {name} has dtype {got.dtype}, expected {wanted}.", got, expected)
    mine, target = got.to(torch.float64), expected.to(torch.float64)
    wrong = ~torch.isclose(mine, target, rtol=tolerance, atol=tolerance / 10, equal_nan=True)
    if not wrong.any():
        return None
    broken = wrong & ~mine.isfinite() & target.isfinite()
    if broken.any():
        where = tuple(broken.nonzero()[0].tolist())
        what = "NaN" if mine[where].isnan() else "an infinity"
        place = f" at {list(where)}" if where else ""
        sentence = f"Your {name} has {what}{place}, where a finite number is expected."
        return Difference(sentence, got, expected, where)
    if expected.ndim == 0:
        return Difference(f"Your {name} is {_short(got)}, expected {_short(expected)}.")
    gap = torch.where(wrong, (mine - target).abs().nan_to_num(torch.inf), -1)
    where = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    sentence = (
        f"Your {name} is wrong in {int(wrong.sum())} of {wrong.numel()} values. The largest difference is at "
        f"{list(where)}: yours is {_short(got[where])}, expected {_short(expected[where])}."
    )
    return Difference(sentence, got, expected, where)


def _number_difference(got, expected: Real, tolerance: float, name: str) -> Difference | None:
    if isinstance(got, Tensor) and got.ndim == 0:
        got = got.item()
    kind, wanted = (Integral, "int") if isinstance(expected, Integral) else (Real, "float")
    if not isinstance(got, kind) or isinstance(got, bool):
        return _wrong_type(got, wanted, name)
    if torch.isclose(
        torch.tensor(float(got), dtype=torch.float64),
        torch.tensor(float(expected), dtype=torch.float64),
        rtol=tolerance if wanted == "float" else 0.0,
        atol=tolerance / 10 if wanted == "float" else 0.0,
        equal_nan=True,
    ):
        return None
    return Difference(f"Your {name} is {got:.6g}, expected {expected:.6g}.")


def _sequence_difference(got, expected: Sequence, tolerance: float, name: str, parts) -> Difference | None:
    if not isinstance(got, list | tuple):
        wanted = f"({', '.join(parts)})" if parts else type(expected).__name__
        return _wrong_type(got, wanted, name)
    if parts and len(got) != len(expected):
        return Difference(f"Your function returns {len(got)} values, expected {len(expected)}: ({', '.join(parts)}).")
    for i, (mine, target) in enumerate(zip(got, expected, strict=False)):
        part = parts[i] if parts else f"{name}[{i}]"
        if found := difference(mine, target, tolerance=tolerance, name=part):
            return found if isinstance(target, Tensor) else replace(found, got=got, expected=expected)
    if len(got) != len(expected):
        return Difference(f"Your {name} has length {len(got)}, expected {len(expected)}.", got, expected)
    return None


def _mapping_difference(got, expected: Mapping, tolerance: float, name: str) -> Difference | None:
    if not isinstance(got, Mapping):
        return _wrong_type(got, "dict", name)
    for key in expected:
        if key not in got:
            return Difference(f"Your {name} lacks the key {key!r}.", dict(got), expected)
        if found := difference(got[key], expected[key], tolerance=tolerance, name=f"{name}[{key!r}]"):
            return replace(found, got=dict(got), expected=expected)
    for key in got:
        if key not in expected:
            return Difference(f"Your {name} has the key {key!r}, which should not be there.", dict(got), expected)
    return None


def _plain_difference(got, expected, kind: type, name: str) -> Difference | None:
    if not isinstance(got, kind):
        return _wrong_type(got, kind.__name__, name)
    return None if got == expected else Difference(f"Your {name} is wrong.", got, expected)


def _wrong_type(got, wanted: str, name: str) -> Difference:
    return Difference(f"Your {name} is of type {type(got).__name__}, expected {wanted}.")


def _swapped(got: Tensor, expected: Tensor) -> str:
    if sorted(got.shape) != sorted(expected.shape):
        return ""
    moved = [axis for axis in range(got.ndim) if got.shape[axis] != expected.shape[axis]]
    if len(moved) == 2:
        return f": axes {moved[0]} and {moved[1]} are swapped"
    return ": the axes are in another order"


def _kind(x: Tensor) -> str:
    return (
        "bool"
        if x.dtype == torch.bool
        else "float"
        if x.is_floating_point()
        else "complex"
        if x.is_complex()
        else "int"
    )


def _short(x: Tensor) -> str:
    return f"{x.item():.4g}" if x.is_floating_point() else str(x.item())
