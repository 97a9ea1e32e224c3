"""KV cache: stores keys and values, so that each new token costs one step and not a whole sequence.

    cache = new_cache(model, batch=2)               # a clock, and a store per layer
    logits = model(prompts, cache)                  # prefill: (2, T, vocab); the cache now contains T tokens per row
    for _ in range(20):
        tokens = logits[:, -1].argmax(-1)           # (2,)
        logits = model(tokens[:, None], cache)      # decode: positions follow from the cache's clock
    cache.lengths                                   # tensor([T + 20, T + 20])

    cache = new_cache(model, batch=2)               # prompts of 3 and 5 tokens, padded on the right to (2, 5)
    cache.added = torch.tensor([3, 5])              # real tokens of each row in the next call
    logits = model(padded, cache)                   # row 0 continues at position 3: its padding is overwritten

A cache is passed to the model and never stored on it. The clock counts the tokens of each row; positions and masks
follow from it, once per call. Each layer has a store, made from the sizes that its mixer gives (`Mixer.cached`):

| store   | contents                                               | for                                            |
|---------|--------------------------------------------------------|------------------------------------------------|
| Slots   | the token at position p is in slot p                   | full attention, latent attention               |
| Ring    | the token at position p is in slot p mod window        | sliding windows                                |
| States  | tensors whose size does not depend on the length       | state-space layers                             |

A hybrid model has several kinds of store. Nothing here branches on tensor data, so a decode step compiles as one graph.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import causal_mask
from pocketgpt.layers.part import PerToken, State
from pocketgpt.models.stack import ContextError, Stack, check_length

SLOT_STEP = 256
"""`Slots` has room for a multiple of this many tokens."""

Stored = tuple[list[Float[Tensor, "batch heads keys width"]], Bool[Tensor, "batch 1 seq keys"] | None]


class KVCache:
    """Cache of a model: a clock and a store per layer.

    `capacity` is the longest sequence in tokens. It is also the length for which dynamic RoPE chooses its angles, so
    that keys rotated early and queries rotated late agree.
    """

    def __init__(self, model: Stack, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        check_length(model.config, capacity)
        if not model.config.causal:
            raise PocketError("A model with causal = False looks ahead, so its keys and values cannot be cached.")
        self.capacity = capacity
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)
        """Cached tokens, per row."""
        self.longest = 0
        """Upper bound of `lengths`, known without reading from the device."""
        self.reserved = False
        """True if the next tokens are counted in `longest` already."""
        self.first = False
        """True if the next tokens are the first ones, which attend to nothing but each other."""
        self.added: Int[Tensor, "batch"] | None = None
        """Number of real tokens of the next call in each row, the rest being padding; None: all of them."""
        self.layers: list[Slots | Ring | States] = []
        for mixer in model.mixers():
            match mixer.cached():
                case PerToken(sizes, window) if window is not None and window < capacity:
                    self.layers.append(Ring(self, sizes, window, dtype))
                case PerToken(sizes):
                    self.layers.append(Slots(self, sizes, dtype))
                case State(shapes):
                    self.layers.append(States(self, shapes))
        self.masks: dict[int | None, Bool[Tensor, "batch 1 seq keys"]] = {}
        """Masks of the keys that the tokens of this call may attend to, by the window of the layer; None: no window."""
        self.sources: dict[int, Int[Tensor, "batch slots"]] = {}
        """For each slot of a ring, by its window: the token of this call to store in it; negative: none."""

    def reserve(self, seq: int) -> None:
        """Reserve room for `seq` more tokens. Called before a compiled step, which only writes.

        Raises ContextError if they do not fit.
        """
        if self.longest + seq > self.capacity:
            raise ContextError(
                f"The cache contains {self.longest} of at most {self.capacity} tokens and cannot take {seq} more: "
                "make it with a larger capacity, up to the model's max_seq_len."
            )
        self.first = self.longest == 0
        self.longest += seq
        self.reserved = True
        for store in self.layers:
            store.reserve()

    def keep(self, length: int) -> bool:
        """Forget all tokens after the first `length`, which every row contains; also what an interrupted call stored.

        Returns False, and changes nothing, if that is impossible: rings and states have overwritten what came before.
        """
        if length == self.longest:
            return True
        if not all(isinstance(store, Slots) for store in self.layers):
            return False
        self.lengths.fill_(length)
        self.longest = length
        self.added = None
        self.reserved = False
        return True

    def begin(self, seq: int) -> Int[Tensor, "batch seq"]:
        """Start a call with `seq` tokens: returns their positions, and computes the masks."""
        if not self.reserved:
            self.reserve(seq)
        steps = torch.arange(seq, device=self.lengths.device)
        self.positions = self.lengths[:, None] + steps
        self.added_now = torch.full_like(self.lengths, seq) if self.added is None else self.added
        self.real = steps < self.added_now[:, None]
        self.masks.clear()
        for store in self.layers:
            store.begin()
        return self.positions

    def finish(self) -> None:
        """Count the new tokens as cached, after the last layer has stored them."""
        self.lengths.add_(self.added_now)
        self.added = None
        self.reserved = False


class Slots:
    """Tensors per token, one slot for each position, written in place.

    A step reads all slots, filled or not, so there are few at first: SLOT_STEP, and SLOT_STEP more whenever they are
    full. It grows by steps because a compiled decode step is compiled again for every new size.
    """

    def __init__(self, clock: KVCache, sizes: tuple[tuple[int, int], ...], dtype: torch.dtype) -> None:
        self.clock = clock
        batch, device = len(clock.lengths), clock.lengths.device
        shapes = [(batch, heads, self.n_slots(), width) for heads, width in sizes]
        self.replace([torch.zeros(shape, device=device, dtype=dtype) for shape in shapes])

    def n_slots(self) -> int:
        """Number of slots that the tokens counted so far need."""
        steps = max(1, -(-self.clock.longest // SLOT_STEP))
        return min(steps * SLOT_STEP, self.clock.capacity)

    def replace(self, tensors: list[Float[Tensor, "batch heads slots width"]]) -> None:
        """Use these slots from now on."""
        self.tensors = tensors
        self.positions = torch.arange(tensors[0].shape[2], device=tensors[0].device)
        _fix_address(self.clock.lengths, *tensors)

    def reserve(self) -> None:
        more = self.n_slots() - len(self.positions)
        if more > 0:
            self.replace([F.pad(tensor, (0, 0, 0, more)) for tensor in self.tensors])

    def begin(self) -> None:
        if None not in self.clock.masks:
            queries = self.clock.positions
            self.clock.masks[None] = causal_mask(queries, self.positions.expand(len(queries), -1))[:, None]

    def update(self, *new: Float[Tensor, "batch heads seq width"]) -> Stored:
        """Write in place, and return all slots with the mask that hides what is not written yet.

        The first tokens attend only to each other, so they need no mask, and attention without one is faster.
        """
        new = [each.to(tensor.dtype) for each, tensor in zip(new, self.tensors, strict=True)]
        rows = torch.arange(len(new[0]), device=new[0].device)[:, None]
        for each, tensor in zip(new, self.tensors, strict=True):
            tensor[rows, :, self.clock.positions] = each.transpose(1, 2)
        return (new, None) if self.clock.first else (self.tensors, self.clock.masks[None])


class Ring:
    """Tensors per token, `window` slots that are reused in turn: the token at position p is in slot p mod window.

    Source: Jiang et al. 2023, Mistral 7B (arXiv 2310.06825), section 2.
    """

    def __init__(self, clock: KVCache, sizes: tuple[tuple[int, int], ...], window: int, dtype: torch.dtype) -> None:
        self.clock = clock
        self.window = window
        batch, device = len(clock.lengths), clock.lengths.device
        self.slots = torch.arange(window, device=device)
        self.tensors = [torch.zeros(batch, heads, window, width, device=device, dtype=dtype) for heads, width in sizes]
        _fix_address(clock.lengths, *self.tensors)

    def reserve(self) -> None:
        """Do nothing: new tokens replace old ones."""

    def begin(self) -> None:
        clock = self.clock
        if self.window in clock.masks:  # another layer has the same window
            return
        # Positions in each slot before this call; slots that were never written have negative positions.
        cached = self.newest(clock.lengths)
        keys = torch.cat((cached, clock.positions), dim=1)
        mask = causal_mask(clock.positions, keys, self.window) & (keys >= 0)[:, None]
        clock.masks[self.window] = mask[:, None]
        clock.sources[self.window] = self.newest(clock.lengths + clock.added_now) - clock.lengths[:, None]

    def newest(self, lengths: Int[Tensor, "batch"]) -> Int[Tensor, "batch slots"]:
        """Last position before `lengths` that maps to each slot."""
        last = lengths[:, None] - 1
        return last - (last - self.slots) % self.window

    def update(self, *new: Float[Tensor, "batch heads seq width"]) -> Stored:
        """Return the ring followed by the new tokens, then store the newest real ones in their slots."""
        source = self.clock.sources[self.window][:, None, :, None]
        everything = []
        for each, tensor in zip(new, self.tensors, strict=True):
            each = each.to(tensor.dtype)
            everything.append(torch.cat((tensor, each), dim=2))
            index = source.clamp(min=0).expand_as(tensor)
            tensor.copy_(torch.where(source >= 0, each.gather(2, index), tensor))
        return everything, self.clock.masks[self.window]


class States:
    """Tensors of fixed size that summarize all tokens so far, in float32; zero before the first token."""

    def __init__(self, clock: KVCache, shapes: tuple[tuple[int, ...], ...]) -> None:
        self.clock = clock
        batch, device = len(clock.lengths), clock.lengths.device
        self.tensors = [torch.zeros(batch, *shape, device=device) for shape in shapes]
        _fix_address(clock.lengths, *self.tensors)

    def reserve(self) -> None:
        """Do nothing: the size of a state does not depend on the number of tokens."""

    def begin(self) -> None:
        self.real = self.clock.real

    def read(self) -> list[Float[Tensor, "batch ..."]]:
        """Return the state after the cached tokens."""
        return self.tensors

    def write(self, *state: Float[Tensor, "batch ..."]) -> None:
        """Replace the state by the one after the new tokens, of which only the real ones count."""
        for tensor, new in zip(self.tensors, state, strict=True):
            tensor.copy_(new)


def _fix_address(*tensors: Tensor) -> None:
    """Mark the address of tensors as static for the compiler: only then does a CUDA graph write in place."""
    for tensor in tensors:
        if tensor.device.type == "cuda":
            torch._dynamo.mark_static_address(tensor)


def new_cache(model: Stack, batch: int, capacity: int | None = None) -> KVCache:
    """Make an empty cache for a model, on its device and in its dtype; `capacity` in tokens, by default max_seq_len.

    Raises ContextError if the model has no positions for that many tokens.
    """
    capacity = model.config.max_seq_len if capacity is None else capacity
    return KVCache(model, batch, capacity, model.device, model.dtype)
