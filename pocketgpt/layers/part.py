"""The contract of a layer: a mixer lets tokens exchange information, a feed-forward treats each token alone.

A new kind of layer is one file: a config (`PartConfig`), a module (`Mixer` or `Part`), and a line in the tables of
`block.py`. The model asks a part the questions below and needs to know nothing else about it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pocketgpt.checked import Checked
from pocketgpt.layers.rope_scaling import RopeConfig


@runtime_checkable
class ModelShape(Protocol):
    """Fields of `ModelConfig` that a layer may read."""

    d_model: int
    n_layers: int
    max_seq_len: int
    positions: str
    rope: RopeConfig
    norm_eps: float
    causal: bool
    dropout: float


class PartConfig(Checked):
    """Config of one kind of layer; `kind` names it in JSON."""

    kind: ClassVar[str]

    def resolved(self, model: ModelShape) -> "PartConfig":
        """The same config with every width filled in. Raises ConfigError for one that cannot work in this model."""
        return self


@dataclass(frozen=True)
class PerToken:
    """Cached per token: tensors of shape (batch, heads, tokens, width), one (heads, width) for each.

    With a `window`, only the first `n_anchors` tokens and the newest `window` of the others are kept.
    """

    sizes: tuple[tuple[int, int], ...]
    window: int | None = None
    n_anchors: int = 0

    def n_bytes(self, batch: int, seq: int, dtype: torch.dtype) -> int:
        """Bytes for `seq` tokens: batch · kept tokens · Σ heads · width · bytes per value."""
        kept = seq if self.window is None else min(seq, self.n_anchors + self.window)
        return batch * kept * sum(heads * width for heads, width in self.sizes) * dtype.itemsize


@dataclass(frozen=True)
class State:
    """Cached once, whatever the length: tensors of shape (batch, *shape), in float32 as every token adds to them."""

    shapes: tuple[tuple[int, ...], ...]

    def n_bytes(self, batch: int, seq: int, dtype: torch.dtype) -> int:
        """Bytes, the same for every `seq` and `dtype`: batch · Σ values · 4."""
        return batch * sum(torch.Size(shape).numel() for shape in self.shapes) * torch.float32.itemsize


class Part(nn.Module):
    """Base class of mixers and feed-forwards: their cost, and how their parameters are trained and stored."""

    adamw: ClassVar[tuple[str, ...]] = ()
    """Names of matrices that Muon must leave to AdamW, such as a router's."""
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Names of parameters that have two or more axes and still are not pulled toward zero."""

    full_precision: ClassVar[tuple[str, ...]] = ()
    """Names of projections that are not quantized, because a small error in them changes much."""

    def flops_per_token(self, seq: int) -> int:
        """Floating-point operations per token of a forward pass over `seq` tokens, two per multiply-add.

        Counted are products of matrices and convolutions, as PyTorch's FlopCounterMode does.
        """
        raise NotImplementedError

    def output_weights(self) -> Iterator[nn.Parameter]:
        """Weights of the projections whose results are added to the residual stream."""
        raise NotImplementedError

    def n_active_params(self) -> int:
        """Parameters that one token uses: all of them, except in a mixture of experts."""
        return sum(parameter.numel() for parameter in self.parameters())

    def init_weights(self, std: float, output_std: float) -> None:
        """Initialize the parameters that are not those of nn.Linear. `output_std` is for `output_weights`."""

    def auxiliary_loss(self) -> Tensor | None:
        """A term that the last forward pass in training adds to the loss, such as a balancing loss; None for none."""
        return None

    def after_step(self, sum_over_ranks: Callable[[Tensor], Tensor], skipped: bool = False) -> None:
        """Update what is not learned by gradients, after each step of training, from sums over all processes.

        A skipped step, whose loss or gradient was not finite, changes nothing.
        """


class Mixer(Part):
    """A layer in which tokens see each other: `mixer(x, context, cache=None) -> y`."""

    rotary_width: int = 0
    """Coordinates per head that RoPE rotates; the context has their angles. 0: none."""

    def cached(self) -> PerToken | State:
        """Sizes of the tensors that decoding must cache."""
        raise NotImplementedError
