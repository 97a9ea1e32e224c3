"""Attention backends that call a learner's function: whole attention, or one step of it."""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import causal_mask, expand_kv_heads


def scaled_scores(
    q: Float[Tensor, "*batch seq d"], k: Float[Tensor, "*batch keys d"]
) -> Float[Tensor, "*batch seq keys"]:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def softmax_of_visible(
    scores: Float[Tensor, "*batch seq keys"],
    mask: Bool[Tensor, "..."],
    softmax: Callable[[Tensor, int], Tensor] = torch.softmax,
) -> Float[Tensor, "*batch seq keys"]:
    return softmax(scores.masked_fill(~mask, -math.inf), -1)


def assembled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scores: Callable[[Tensor, Tensor], Tensor] = scaled_scores,
    masked_softmax: Callable[[Tensor, Tensor], Tensor] = softmax_of_visible,
) -> tuple[Tensor, Tensor]:
    """Computes attention in replaceable steps; returns the output and the weights."""
    weights = masked_softmax(scores(q, k), mask)
    return weights @ v, weights


def backend(
    attention: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = assembled_attention,
    mask_of: Callable[[Tensor, Tensor], Tensor] = causal_mask,
) -> Callable[..., Tensor]:
    """Adapts a learner's attention(q, k, v, mask), which expects equally many query and key heads, to the signature of
    an attention backend."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = mask_of(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)[0]

    return run


def grouped_backend(attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Adapts a learner's attention(q, k, v, mask) that takes fewer key/value heads than query heads: they are handed
    over as the model makes them."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = causal_mask(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)

    return run


def with_expansion(expand: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Builds an attention backend that calls the function for keys and for values."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        k, v = expand(k, q.shape[1]), expand(v, q.shape[1])
        return assembled_attention(q, k, v, mask)[0]

    return grouped_backend(attention)


def with_softmax(softmax: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Builds an attention backend that uses the given softmax."""
    return backend(partial(assembled_attention, masked_softmax=partial(softmax_of_visible, softmax=softmax)))


def with_tiles(
    attention: Callable[[Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor]], rows: int = 64, columns: int = 32
) -> Callable[..., Tensor]:
    """Adapts a learner's tiled_attention(q, k, v, rows, columns), which is causal and needs as many keys as queries, to
    the signature of an attention backend. The backend makes no mask, and raises PocketError if it is given one."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        if mask is not None or not is_causal or k.shape[2] != q.shape[2]:
            raise PocketError("This attention hides later keys, nothing else: run the model without a cache.")
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        return attention(q, k, v, rows, columns)[0]

    return run
