"""Values as JSON and back, tensors as their raw bytes: nothing that is read can run code, as a pickle can.

The only exception is `Source`, a function that the grader sends to the sandbox, and never reads back.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

LARGEST = 1 << 24  # elements of one tensor
NAMES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
DTYPES = {name: getattr(torch, name) for name in NAMES.split()}


@dataclass(frozen=True)
class Source:
    """A function or an object as the code that defines its name."""

    name: str
    code: str


def encode(value: Any) -> Any:
    """Plain JSON of tensors, numbers, texts, bytes, None, sources, and lists, tuples, sets and dicts of those.

    Raises TypeError for anything else.
    """
    if isinstance(value, Tensor):
        plain = value.detach().cpu().resolve_conj().resolve_neg()
        plain = plain.clone(memory_format=torch.contiguous_format)  # `contiguous` leaves the strides of a single number
        data = plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        name = str(plain.dtype).removeprefix("torch.")
        return {"tensor": name, "shape": list(plain.shape), "data": base64.b64encode(data).decode()}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return {"float": repr(float(value))}  # JSON has no NaN and no infinity
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, set | frozenset):
        return {"set": [encode(part) for part in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(part)] for key, part in value.items()]}
    if isinstance(value, Source):
        return {"source": [value.name, value.code]}
    raise TypeError(f"a {type(value).__name__} cannot be written as plain values")


def decode(value: Any, *, trusted: bool = False) -> Any:
    """Inverse of `encode`. Raises ValueError, and nothing else, for input that `encode` did not make.

    A source is an error, unless the input is trusted: then its code runs, and gives the function.
    """
    try:
        return _decoded(value, trusted)
    except (ValueError, TypeError, KeyError, RuntimeError, RecursionError, OverflowError) as error:
        raise ValueError(f"these are not encoded values ({type(error).__name__}: {error})") from error


def _decoded(value: Any, trusted: bool) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [_decoded(part, trusted) for part in value]
    if "tensor" in value:
        return _tensor(**value)
    ((kind, content),) = value.items()
    if kind == "bytes":
        return base64.b64decode(content, validate=True)
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_decoded(part, trusted) for part in content)
    if kind == "set":
        return {_decoded(part, trusted) for part in content}
    if kind == "dict":
        return {_decoded(key, trusted): _decoded(part, trusted) for key, part in content}
    if kind == "source" and trusted:
        return _defined(*content)
    raise ValueError(f"unknown kind {kind!r}")


def _defined(name: str, code: str) -> Any:
    return _space(code)[name]


@cache
def _space(code: str) -> dict[str, Any]:
    """What the code defines: once, so that two names of one source share what they have in common."""
    space: dict[str, Any] = {"__name__": "inputs"}
    exec(code, space)
    return space


def _tensor(tensor: str, shape: list[int], data: str) -> Tensor:
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) > LARGEST:
        raise ValueError(f"a tensor of shape {shape}")
    raw = bytearray(base64.b64decode(data, validate=True))
    if len(raw) != math.prod(shape) * DTYPES[tensor].itemsize:
        raise ValueError(f"{len(raw)} bytes for a tensor of shape {shape}")
    if not raw:
        return torch.empty(shape, dtype=DTYPES[tensor])
    return torch.frombuffer(raw, dtype=DTYPES[tensor]).reshape(shape)
