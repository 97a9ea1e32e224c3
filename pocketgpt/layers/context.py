"""Inputs of every layer besides the residual stream: the context of the pass, and the layer's store in the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Rotation = tuple[Float[Tensor, "rows 1 seq half"], Float[Tensor, "rows 1 seq half"]]
"""cos and sin of every position's angles, in float32; they broadcast over heads."""


@dataclass(frozen=True)
class Memory:
    """Output of an encoder: everything that a decoder knows of the input."""

    features: Float[Tensor, "batch keys d_model"]
    mask: Bool[Tensor, "batch keys"] | None = None
    """True where there is a token, False where there is padding. None: no padding."""


@dataclass(frozen=True)
class Context:
    """Values that all layers share in one forward pass; the model computes them once.

    `rows` is 1 where all sequences of the batch have the same positions, else the batch.
    """

    positions: Int[Tensor, "rows seq"]
    rotations: dict[int, Rotation]
    """By the number of coordinates that are rotated (`Mixer.rotary_width`)."""
    mask: Bool[Tensor, "batch 1 seq keys"] | None = None
    """Padding mask: True where the key is a token, False where it is padding. None: no padding."""
    bias: Float[Tensor, "_ heads seq keys"] | None = None
    """Bias of relative positions, for the scores of every layer; the lowest number where a query may not attend."""
    memory: Memory | None = None
    """Output of the encoder, for the layers of a decoder that look at it."""


@runtime_checkable
class TokenStore(Protocol):
    """Interface of a layer's cache for tensors with one entry per token: keys and values, or a latent."""

    def update(
        self, *new: Float[Tensor, "batch heads seq width"]
    ) -> tuple[list[Float[Tensor, "batch heads keys width"]], Bool[Tensor, "rows 1 seq keys"] | None]:
        """Append the new tokens; return all tokens that the new ones may attend to, and the mask that says which may
        attend to which. No mask means the causal one of a sequence that begins."""
        ...


@runtime_checkable
class MemoryStore(Protocol):
    """Interface of a layer's cache for keys and values of the encoder's output, which do not change while decoding."""

    def once(self, compute: Callable[[], list[Tensor]]) -> list[Float[Tensor, "batch heads keys width"]]:
        """Return what `compute` returned at the first call; later ones do not compute it again."""
        ...


@runtime_checkable
class StateStore(Protocol):
    """Interface of a layer's cache for a state of fixed size, which is zero before the first token."""

    real: Bool[Tensor, "batch seq"]
    """False for the padding of a batch of unequal prompts, which comes last and must not change the state."""

    def read(self) -> list[Float[Tensor, "batch ..."]]: ...

    def write(self, *state: Float[Tensor, "batch ..."]) -> None: ...
