"""Values that are no tensors, drawn by their type: lists, tuples and dictionaries of tokens, texts and numbers.

Each case draws from a small pool of tokens, so that they repeat, are neighbors, and occur in
another argument.
"""

import typing
from typing import Any

import torch

POOLS = (
    (b"a", b"b"),
    (b"x", b"xy", b"y", b"yx"),  # tokens that contain others: x + yx = xy + x
    (b" ", b" a", b"a", b"\n"),  # spaces
    (b"\xc3", b"\xa9", b"e"),  # half characters
    (b"A", b"a", b"Z"),  # capitals
    (b"0", b"1", b"01", b"\x00"),  # digits, and the byte 0
)
PLAIN = (bytes, str, int)


def is_plain(annotation: Any) -> bool:
    """True for bytes, str, int and containers of them."""
    inner = [each for each in typing.get_args(annotation) if each is not ...]
    container = typing.get_origin(annotation) in (list, tuple, dict)
    return annotation in PLAIN or (container and bool(inner) and all(map(is_plain, inner)))


def drawn_value(annotation: Any, rng: torch.Generator, pool: tuple[bytes, ...], length: int) -> Any:
    """A value of the annotated type with tokens from the pool; `length` is that of the outer list, text or dictionary.

    Inner lists have 0 to 6 elements, and one of them occurs twice.
    """
    number = lambda below: int(torch.randint(below, (), generator=rng))  # noqa: E731
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bytes:
        return pool[number(len(pool))]
    if annotation is int:
        return number(length + 1)
    if annotation is str:
        return b"".join(drawn_value(bytes, rng, pool, length) for _ in range(length)).decode(errors="replace")
    if origin is tuple:
        return tuple(drawn_value(each, rng, pool, number(7)) for each in inner if each is not ...)
    if origin is dict:
        key, value = inner
        return {drawn_value(key, rng, pool, 2): drawn_value(value, rng, pool, 9) for _ in range(length)}
    values = [drawn_value(inner[0], rng, pool, number(7)) for _ in range(length)]
    return values + values[:1] if length > 2 else values
