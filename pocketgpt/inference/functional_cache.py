"""A cache without memory: tensors go in, longer tensors come out, and nothing is changed in place.

`kv_cache.KVCache` writes into tensors that it owns. A graph in a file owns nothing: whoever runs it passes the cache of
the last call in and takes the new one out. The layers do not notice, because the stores have the same interface.

    cache = FunctionalCache(model, empty_tensors(model, batch=2))
    logits = model(prompts, cache)                          # (2, T, vocab)
    cache = FunctionalCache(model, cache.tensors())         # now with T tokens per row
    logits = model(tokens[:, None], cache)                  # (2, 1, vocab)

The number of cached tokens is the length of the tensors, so positions need no input of their own. A layer with a
sliding window keeps all tokens and masks the old ones: then one length holds for every layer.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import causal_mask
from pocketgpt.layers.part import PerToken, State
from pocketgpt.models.stack import Stack

STATE_NAMES = {"mamba": ("conv", "ssm")}
"""Names of the tensors that a state consists of, by the kind of layer; numbered for other kinds."""


class FunctionalCache:
    """Cache made of the tensors of the last call, in the order of `tensor_names`; rows of equal length, no padding.

    Raises PocketError for a model that needs positions, which no tensor tells.
    """

    def __init__(self, model: Stack, tensors: Sequence[Float[Tensor, "batch ..."]]) -> None:
        self.capacity = model.config.max_seq_len
        self.past = 0
        """Number of cached tokens."""
        self.layers: list[GrowingTokens | ReplacedState] = []
        tensors = iter(tensors)
        for mixer in model.mixers():
            match mixer.cached():
                case PerToken(sizes, window, n_anchors):
                    self.layers.append(GrowingTokens(self, [next(tensors) for _ in sizes], window, n_anchors))
                    self.past = self.layers[-1].tensors[0].shape[2]
                case State(shapes):
                    self.layers.append(ReplacedState([next(tensors) for _ in shapes]))

        needs_positions = model.rotary_widths or model.positions is not None
        if needs_positions and not any(isinstance(store, GrowingTokens) for store in self.layers):
            raise PocketError(
                f"A model with positions = {model.config.positions!r} and without attention cannot be exported: its "
                "states do not tell how many tokens came before. positions = 'none' works."
            )

    def begin(self, seq: int) -> Int[Tensor, "1 seq"]:
        """Start a call with `seq` tokens: returns their positions, which follow the cached ones."""
        keys = torch.arange(self.past + seq, device=self.layers[0].tensors[0].device)
        self.key_positions, self.positions = keys[None], keys[None, self.past :]
        for store in self.layers:
            store.begin(seq)
        return self.positions

    def keys(self) -> tuple[Int[Tensor, "1 keys"], Bool[Tensor, "1 1 seq keys"]]:
        """Positions of the cached tokens and the new ones, and the mask of those that the new ones may attend to."""
        return self.key_positions, causal_mask(self.positions, self.key_positions)[:, None]

    def finish(self) -> None:
        """Do nothing: the length of the tensors is the count."""

    def tensors(self) -> list[Float[Tensor, "batch ..."]]:
        """The cache after the last call."""
        return [tensor for store in self.layers for tensor in store.tensors]


class GrowingTokens:
    """Tensors per token that grow by concatenation: every token, also where the layer has a window."""

    def __init__(
        self,
        cache: FunctionalCache,
        tensors: list[Float[Tensor, "batch heads past width"]],
        window: int | None,
        n_anchors: int,
    ) -> None:
        self.cache = cache
        self.tensors = tensors
        self.window, self.n_anchors = window, n_anchors

    def begin(self, seq: int) -> None:
        queries, keys = self.cache.positions, self.cache.key_positions
        self.mask = causal_mask(queries, keys, self.window, self.n_anchors)[:, None]

    def update(
        self, *new: Float[Tensor, "batch heads seq width"]
    ) -> tuple[list[Float[Tensor, "batch heads keys width"]], Bool[Tensor, "1 1 seq keys"]]:
        """Return the cached tokens followed by the new ones, and the mask of positions. There is always a mask, since
        the same graph begins a sequence and continues it."""
        self.tensors = [torch.cat((past, each), dim=2) for past, each in zip(self.tensors, new, strict=True)]
        return self.tensors, self.mask


class ReplacedState:
    """Tensors of fixed size, replaced by those after the new tokens."""

    def __init__(self, tensors: list[Float[Tensor, "batch ..."]]) -> None:
        self.tensors = tensors

    def begin(self, seq: int) -> None:
        self.real = torch.ones(self.tensors[0].shape[0], seq, dtype=torch.bool, device=self.tensors[0].device)

    def read(self) -> list[Float[Tensor, "batch ..."]]:
        return self.tensors

    def write(self, *state: Float[Tensor, "batch ..."]) -> None:
        self.tensors = list(state)


def tensor_names(model: Stack) -> list[str]:
    """Names of the cache's tensors, layer by layer: 0.key, 0.value, 1.key, …; latent attention has a latent."""
    return [f"{layer}.{name}" for layer, name, _ in _described(model)]


def empty_tensors(model: Stack, batch: int, past: int = 0) -> list[Float[Tensor, "batch ..."]]:
    """Tensors of a cache with `past` tokens of zeros, by default none."""
    return [
        torch.zeros(batch, *(past if size is None else size for size in shape), device=model.device)
        for _, _, shape in _described(model)
    ]


def _described(model: Stack) -> Iterator[tuple[int, str, tuple[int | None, ...]]]:
    """Layer, name and shape of each tensor, without the batch; None is the axis of the tokens."""
    for layer, mixer in enumerate(model.mixers()):
        match mixer.cached():
            case PerToken(sizes):
                names = ("key", "value") if len(sizes) == 2 else ("latent",)
                for name, (heads, width) in zip(names, sizes, strict=True):
                    yield layer, name, (heads, None, width)
            case State(shapes):
                names = STATE_NAMES.get(mixer.config.kind, tuple(f"state{i}" for i in range(len(shapes))))
                for name, shape in zip(names, shapes, strict=True):
                    yield layer, name, tuple(shape)
