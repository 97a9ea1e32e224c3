"""Keys and values that are kept, so that each new token costs one step and not a whole sequence.

A cache is passed to the model and never stored on it. Every row of the batch has its own length, so prompts of
different lengths are padded on the right: a padding token writes keys that no later query may see, until a real token
overwrites them. Nothing here branches on tensor data, so a decode step compiles as one graph.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.config import ModelConfig
from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT, ContextError, check_length
from pocketgpt.layers.attention import causal_mask

KeysValues = tuple[
    Float[Tensor, "batch kv_heads keys d_head"],
    Float[Tensor, "batch kv_heads keys d_head"],
    Bool[Tensor, "batch 1 seq keys"] | None,
]


SLOT_STEP = 256
"""A static cache has room for a multiple of so many tokens."""


class Cache:
    """What both caches share: how many tokens each row holds, and where the next ones stand.

    `capacity` is the longest sequence in tokens. It is also the length for which dynamic RoPE chooses its angles, so
    that keys rotated early and queries rotated late agree.
    """

    layer: type["LayerBuffer"]
    """What keeps one layer's keys and values."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_length(config, capacity)
        if not config.causal:
            raise PocketError("A model with causal = False looks ahead, so its keys and values cannot be kept.")
        self.window = config.window
        self.capacity = capacity
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)
        """Tokens held, per row."""
        self.longest = 0
        """An upper bound of `lengths` that is known without asking the device."""
        self.reserved = False
        """Whether the next tokens are counted in `longest` already."""
        self.first = False
        """Whether the next tokens are the first ones, and may look at all that is before them."""
        self.added: Int[Tensor, "batch"] | None = None
        """How many tokens of the next call are real in each row, the rest being padding; None: all of them."""
        self.slots = torch.arange(self.n_slots(), device=device)
        shape = (batch, config.n_kv_heads, len(self.slots), config.d_head)
        self.layers = [self.layer(self, shape, device, dtype) for _ in range(config.n_layers)]

    def n_slots(self) -> int:
        """How many tokens a layer has room for now."""
        raise NotImplementedError

    def reserve(self, seq: int) -> None:
        """Count `seq` more tokens, and make room for them. Done before a compiled step, which only writes.

        Raises ContextError if they do not fit.
        """
        if self.longest + seq > self.capacity:
            raise ContextError(
                f"The cache holds {self.longest} of at most {self.capacity} tokens and cannot take {seq} more: "
                "make it with a larger capacity, up to the model's max_seq_len."
            )
        self.first = self.longest == 0 and self.window is None
        self.longest += seq
        self.reserved = True

    def begin(self, seq: int) -> Int[Tensor, "batch seq"]:
        """Positions of the next `seq` tokens; also fixes what each of them may look at."""
        if not self.reserved:
            self.reserve(seq)
        self.positions = self.lengths[:, None] + torch.arange(seq, device=self.lengths.device)
        self.added_now = torch.full_like(self.lengths, seq) if self.added is None else self.added
        self.mask = self.visible()[:, None]
        return self.positions

    def visible(self) -> Bool[Tensor, "batch seq keys"]:
        raise NotImplementedError

    def finish(self) -> None:
        """All layers have their keys and values: the tokens count as held."""
        self.lengths.add_(self.added_now)
        self.added, self.reserved = None, False


class LayerBuffer:
    """One layer's keys and values, in slots that are written in place."""

    def __init__(self, cache: Cache, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype) -> None:
        self.cache = cache
        self.hold(*(torch.zeros(shape, device=device, dtype=dtype) for _ in range(2)))

    def hold(
        self, keys: Float[Tensor, "batch kv_heads slots d_head"], values: Float[Tensor, "batch kv_heads slots d_head"]
    ) -> None:
        """Let these be the slots from now on."""
        self.keys, self.values = keys, values
        if keys.device.type == "cuda":  # a CUDA graph writes in place only where it knows that the place stays
            for tensor in (keys, values, self.cache.lengths):
                torch._dynamo.mark_static_address(tensor)


class StaticLayer(LayerBuffer):
    """The token at position p lies in slot p."""

    def grow(self, slots: int) -> None:
        """Keep what is held, with room for more."""
        new = (0, 0, 0, slots - self.keys.shape[2])
        self.hold(F.pad(self.keys, new), F.pad(self.values, new))

    def update(
        self, k: Float[Tensor, "batch kv_heads seq d_head"], v: Float[Tensor, "batch kv_heads seq d_head"]
    ) -> KeysValues:
        """Write in place, and return the whole buffer with the mask that hides what is not written yet.

        The first tokens have only each other to look at, so they need no mask, and attention without one is faster.
        """
        k, v = k.to(self.keys.dtype), v.to(self.values.dtype)
        rows = torch.arange(len(k), device=k.device)[:, None]
        place = (rows, slice(None), self.cache.positions)
        self.keys[place], self.values[place] = k.transpose(1, 2), v.transpose(1, 2)
        return (k, v, None) if self.cache.first else (self.keys, self.values, self.cache.mask)


class StaticCache(Cache):
    """A slot for each token, up to `capacity` of them.

    A step reads all slots, filled or not, so there are few at first: SLOT_STEP, and as many more whenever they are
    full. In such steps, because a compiled step would otherwise be made anew for every length.
    """

    layer = StaticLayer

    def n_slots(self) -> int:
        steps = max(1, -(-self.longest // SLOT_STEP))
        return min(steps * SLOT_STEP, self.capacity)

    def reserve(self, seq: int) -> None:
        super().reserve(seq)
        if self.n_slots() > len(self.slots):
            self.slots = torch.arange(self.n_slots(), device=self.slots.device)
            for layer in self.layers:
                layer.grow(len(self.slots))

    def visible(self) -> Bool[Tensor, "batch seq keys"]:
        return causal_mask(self.positions, self.slots.expand(len(self.positions), -1), self.window)


class SlidingWindowLayer(LayerBuffer):
    """The token at position p lies in slot p mod window."""

    def update(
        self, k: Float[Tensor, "batch kv_heads seq d_head"], v: Float[Tensor, "batch kv_heads seq d_head"]
    ) -> KeysValues:
        """Return the ring followed by the new tokens, then let the newest real ones take their slots."""
        k, v = k.to(self.keys.dtype), v.to(self.values.dtype)
        keys, values = torch.cat((self.keys, k), dim=2), torch.cat((self.values, v), dim=2)
        source = self.cache.source[:, None, :, None]
        index = source.clamp(min=0).expand_as(self.keys)
        self.keys.copy_(torch.where(source >= 0, k.gather(2, index), self.keys))
        self.values.copy_(torch.where(source >= 0, v.gather(2, index), self.values))
        return keys, values, self.cache.mask


class SlidingWindowCache(Cache):
    """A ring of `window` slots, of which the cache knows the positions.

    Source: Jiang et al. 2023, Mistral 7B (arXiv 2310.06825), section 2.
    """

    layer = SlidingWindowLayer

    def n_slots(self) -> int:
        return self.window

    def visible(self) -> Bool[Tensor, "batch seq keys"]:
        # What each slot holds before and after this call; slots that were never written have negative positions.
        held = self.newest(self.lengths)
        self.source = self.newest(self.lengths + self.added_now) - self.lengths[:, None]
        keys = torch.cat((held, self.positions), dim=1)
        return causal_mask(self.positions, keys, self.window) & (keys >= 0)[:, None]

    def newest(self, lengths: Int[Tensor, "batch"]) -> Int[Tensor, "batch slots"]:
        """The last position before `lengths` that belongs into each slot."""
        last = lengths[:, None] - 1
        return last - (last - self.slots) % self.window


def new_cache(model: GPT, batch: int, capacity: int | None = None) -> Cache:
    """The cache that suits the model, on its device and in its dtype; `capacity` in tokens, max_seq_len if not given.

    Raises ContextError if the model has no positions for that many tokens.
    """
    config = model.config
    capacity = config.max_seq_len if capacity is None else capacity
    fits = config.window is None or capacity <= config.window
    kind = StaticCache if fits else SlidingWindowCache
    return kind(config, batch, capacity, model.device, model.dtype)
