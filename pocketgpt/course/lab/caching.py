"""The attention layer with a cache, in replaceable steps; and reading with a cache, as a model does when it writes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.attention import Attention
from pocketgpt.layers.attention_backends import causal_mask, fused_attention
from pocketgpt.layers.context import Context, TokenStore
from pocketgpt.layers.rope import apply_rope, frequencies, rotation
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

Kept = tuple[Tensor, Tensor]
"""Keys and values of the tokens so far, each (batch, kv_heads, tokens, d_head)."""


def append(kept: Tensor, new: Tensor) -> Tensor:
    return torch.cat((kept, new), dim=2)


def attend(
    q: Tensor, keys: Tensor, values: Tensor, query_positions: Tensor, key_positions: Tensor, window: int | None
) -> Tensor:
    return fused_attention(q, keys, values, causal_mask(query_positions, key_positions, window) & (key_positions >= 0))


def assembled_layer(
    x: Float[Tensor, "batch seq d_model"],
    weights: dict[str, Tensor],
    kept: Kept,
    start: int,
    rope: Callable[[Tensor, Tensor], Tensor],
    append: Callable[[Tensor, Tensor], Tensor] = append,
    attend: Callable[..., Tensor] = attend,
) -> tuple[Tensor, Kept]:
    """Computes an attention layer with a cache in replaceable steps; returns the output and the new cache."""
    d_head, stop = kept[0].shape[-1], start + x.shape[1]
    projected = (F.linear(x, weights[name]) for name in ("q_proj", "k_proj", "v_proj"))
    q, k, v = (each.unflatten(-1, (-1, d_head)).transpose(1, 2) for each in projected)
    positions = torch.arange(start, stop)
    keys, values = append(kept[0], rope(k, positions)), append(kept[1], v)
    key_positions = torch.arange(stop - keys.shape[2], stop)
    y = attend(rope(q, positions), keys, values, positions, key_positions, None)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)


def cache_with(model: GPT, function: Callable) -> None:
    """Lets every attention layer be a learner's `cached_layer`. The cache that the model is called with gives the
    positions; the keys and values are what the function returned last for it."""
    for mixer in model.mixers():
        if not isinstance(mixer, Attention) or mixer.config.bias or mixer.config.qk_norm or mixer.config.window:
            raise PocketError("Only attention without biases, norms of its own and a window can be replaced whole.")
        rope = partial(_rope, model.config, mixer.rotary_width, model.attention_factor)
        mixer.forward = partial(_forward, mixer, function, rope, WeakKeyDictionary())


def _forward(
    mixer: Attention,
    function: Callable,
    rope: Callable,
    kept: WeakKeyDictionary,
    x: Tensor,
    context: Context,
    cache: TokenStore | None = None,
) -> Tensor:
    weights = {name: getattr(mixer, name).weight for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    nothing = x.new_zeros(len(x), mixer.config.n_kv_heads, 0, mixer.d_head)
    before = (nothing, nothing) if cache is None else kept.get(cache, (nothing, nothing))
    y, after = function(x, weights, before, int(context.positions[0, 0]), rope)
    if cache is not None:
        kept[cache] = after
    return y


def _rope(config: ModelConfig, width: int, factor: float, x: Tensor, positions: Int[Tensor, " seq"]) -> Tensor:
    if not width:
        return x
    turns = frequencies(width, config.rope, config.max_seq_len)
    return apply_rope(x, *rotation(torch.as_tensor(positions), turns, factor))


@torch.inference_mode()
def read_with_cache(
    model: GPT, tokens: Int[Tensor, "batch seq"], prompt: int = 16, last: int = 8
) -> Float[Tensor, "batch seq vocab"]:
    """Logits of every position, read with a cache: the first `prompt` tokens in one pass, then one token at a time, and
    the `last` tokens in one pass again."""
    cache, single = new_cache(model, len(tokens)), tokens.shape[1] - prompt - last
    parts = tokens.split([prompt, *[1] * single, last], dim=1) if single > 0 else [tokens]
    return torch.cat([model(part, cache) for part in parts], dim=1)


@dataclass(frozen=True)
class WithCache:
    """A model that reads with a cache: `WithCache(model)(tokens)` are its logits."""

    model: GPT

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def __call__(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        return read_with_cache(self.model, tokens)
