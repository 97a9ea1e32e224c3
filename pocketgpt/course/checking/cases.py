"""Inputs that follow from the annotations of a reference.

Tensors come with no, one, two and three axes in front, with each axis of size 1, not contiguous, with a broadcast mask
in both forms, and twice in the same sizes; most forms come twice, so that no relation is seen in one case alone. `dim`
is every axis in both signs; a default is also left out. Lists, texts and dictionaries are in values.py.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.values import POOLS, drawn_value, is_plain

OMITTED = object()  # marks a default that is left out


@dataclass(frozen=True)
class Plan:
    """Form of the inputs of a case: axes in front, an axis of size 1, strides, the short form of masks, the smallest
    sizes, the sizes of the case before, as many keys as queries, some tokens."""

    leading: tuple[int, ...] = ()
    one: str = ""
    strided: bool = False
    short: bool = False
    small: bool = False
    again: bool = False
    square: bool = False
    pool: tuple[bytes, ...] = POOLS[0]
    length: int = 5


class Axes:
    """The axes of an annotation such as "*#batch seq d": `leading` is True for any number of them in front."""

    def __init__(self, annotation: Any) -> None:
        words = annotation.dim_str.split()
        self.leading = any(word == "..." or "*" in word for word in words)
        self.broadcast = any("#" in word for word in words)
        self.names = [word.lstrip("#") for word in words if word != "..." and "*" not in word]

    def shape(self, plan: Plan, sizes: Mapping[str, int]) -> tuple[int, ...]:
        leading = plan.leading if self.leading and not (plan.short and self.broadcast) else ()
        return leading + tuple(int(eval(name, {}, dict(sizes))) for name in self.names)  # a name, a number, or 2*half


def axes_of(reference: Callable) -> dict[str, Axes]:
    """The axes of each parameter that is a tensor."""
    parameters = inspect.signature(reference).parameters.items()
    return {name: Axes(each.annotation) for name, each in parameters if hasattr(each.annotation, "dim_str")}


def derived(
    reference: Callable,
    draws: Mapping[str, Callable],
    sizes: Mapping[str, Sequence[int]],
    choices: Mapping[str, Sequence],
    rng: torch.Generator,
) -> Iterator[tuple]:
    """Yield the arguments of each case; nothing if a parameter can only be given by hand, and one empty case if there
    is no parameter."""
    parameters = inspect.signature(reference).parameters
    if not parameters:
        yield ()
        return
    axes = axes_of(reference)
    options = {
        name: [*choices.get(name, ()), *([OMITTED] if each.default is not inspect.Parameter.empty else [])]
        for name, each in parameters.items()
        if name not in axes
    }
    is_dim = {name: parameters[name].annotation is int and name in ("dim", "axis") for name in options}
    for name, each in parameters.items():
        known = name in draws or options.get(name) or is_dim.get(name)
        if name in axes and not known and _kind(each.annotation) == "int":
            raise TypeError(f"{reference.__name__}: how is {name!r} drawn? Integers need @{reference.__name__}.values.")
        if name not in axes and not known and not is_plain(each.annotation):
            return
    plans = list(
        _plans(axes, sizes, any(name not in axes and is_plain(parameters[name].annotation) for name in options))
    )
    # Every option once with sizes that hide nothing, and then again with all others.
    plans = [Plan(leading=plans[0].leading)] * max(map(len, options.values()), default=0) + plans
    names: dict[str, int] = {}
    for i, plan in enumerate(plans):
        names = names if plan.again else _sizes(axes, sizes, plan, rng)
        known = {"rng": rng, "pool": plan.pool, "length": plan.length, **names}
        values = {}
        for name in [*(name for name in parameters if name not in draws), *draws]:
            each = parameters[name]
            if name in axes:
                shape = axes[name].shape(plan, names)
                value = _call(draws[name], known | {"shape": shape}) if name in draws else _draw(each, shape, rng)
                value = strided(value) if plan.strided else value
            elif options[name]:
                value = options[name][i % len(options[name])]
            elif name in draws:
                value = _call(draws[name], known)
            else:
                value = None if is_dim[name] else drawn_value(each.annotation, rng, plan.pool, plan.length)
            values[name] = known[name] = value
        dims = next((name for name in values if is_dim.get(name)), None)
        ndim = next((x.ndim for x in values.values() if isinstance(x, Tensor)), 0)
        for dim in range(-ndim, ndim) if dims else [None]:
            case = [dim if name == dims else values[name] for name in parameters]
            yield tuple(case[: next((i for i, value in enumerate(case) if value is OMITTED), len(case))])


def _plans(axes: dict[str, Axes], sizes: Mapping[str, Sequence[int]], plain: bool) -> Iterator[Plan]:
    leading = any(each.leading for each in axes.values())
    only_leading = leading and not any(each.names for each in axes.values())  # "*shape": at least one axis
    short = any(each.broadcast for each in axes.values())
    if only_leading:
        for shape in [(3,), (2, 3), (3, 1, 2, 4)]:
            yield Plan(leading=shape, small=shape == (3,))
        yield Plan(leading=(2, 3), strided=True)
        return
    if axes:
        yield Plan(small=True)
        yield Plan()
        yield Plan(again=True)  # other values: nothing may be remembered by shape
        yield Plan(strided=True)
    if leading:
        for form in (True, False) if short else (False,):
            yield Plan(leading=(7,), short=form)
            yield Plan(leading=(2, 7), short=form)  # batch and heads
            yield Plan(leading=(7, 1, 8), short=form)
        yield Plan(leading=(2, 7), strided=True, short=short)
    names = {name for each in axes.values() for name in each.names}
    if {"seq", "keys"} <= names:  # a text that looks at itself
        yield Plan(square=True)
        yield Plan(leading=(2, 7), square=True) if leading else Plan(square=True, again=True)
    for name in dict.fromkeys(name for each in axes.values() for name in each.names):
        if name.isidentifier() and 1 in sizes.get(name, (1,)):
            yield Plan(one=name)
            yield Plan(one=name, leading=(2, 7) if leading else ())
    if plain and not axes:
        for pool in POOLS:
            yield Plan(pool=pool)
        for length in (0, 0, 1, 1, 2, 2):
            yield Plan(length=length)


def _sizes(
    axes: dict[str, Axes], sizes: Mapping[str, Sequence[int]], plan: Plan, rng: torch.Generator
) -> dict[str, int]:
    """A different size for each axis: in order for the small case, otherwise in a random order."""
    names = list(dict.fromkeys(name for each in axes.values() for name in each.names if name.isidentifier()))
    free = (
        list(range(2, 2 + len(names))) if plan.small else (2 + torch.randperm(len(names) + 1, generator=rng)).tolist()
    )
    drawn = dict(zip(names, free, strict=False))
    for name in names:
        if name in sizes:
            drawn[name] = sizes[name][int(torch.randint(len(sizes[name]), (), generator=rng))]
    if plan.square:
        drawn["keys"] = drawn["seq"]
    return drawn | ({plan.one: 1} if plan.one else {})


def _kind(annotation: Any) -> str:
    """'bool', 'int' or 'float': the dtypes that an annotation allows."""
    return "bool" if "bool" in annotation.dtypes else "float" if "float32" in annotation.dtypes else "int"


def _draw(parameter: inspect.Parameter, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Normal numbers, or a mask with two places allowed in each row, because one alone has weight 1 whatever its
    score, and one hidden where there is room."""
    if _kind(parameter.annotation) == "float":
        return torch.randn(shape, generator=rng)
    mask = torch.rand(shape, generator=rng) < 0.6
    order = torch.rand(shape, generator=rng).argsort(dim=-1)
    mask = mask.scatter(-1, order[..., 2:3], False)
    return mask.scatter(-1, order[..., :2], True)


def _call(draw: Callable, known: Mapping[str, Any]) -> Any:
    return draw(**{name: known[name] for name in inspect.signature(draw).parameters})


def strided(x: Tensor) -> Tensor:
    """The same values, not contiguous in memory: with two axes in front, as heads are cut out of a wider vector."""
    if x.ndim > 2 and min(x.shape[-3:-1]) > 1:
        return x.transpose(-3, -2).contiguous().transpose(-3, -2)
    return x.mT.contiguous().mT if x.ndim > 1 and min(x.shape[-2:]) > 1 else torch.stack([x, x], dim=-1)[..., 0]


def shuffled(value: Any, rng: torch.Generator) -> Any:
    """A dictionary in a random order; everything else as it is."""
    if not isinstance(value, dict):
        return value
    items = list(value.items())
    return dict(items[i] for i in torch.randperm(len(items), generator=rng).tolist())
