"""LoRA: fine-tuning by low-rank pairs. A matrix W that was trained stays as it is; what is learned is added to it:

    y = W x + (α / r) · B A x        W (d_out, d_in) frozen; A (r, d_in) and B (d_out, r) trained

The change that fine-tuning makes to W has few directions that matter, so r can be small: a matrix of 576 × 576 has
331,776 weights, its pair of rank 8 has 9,216. Gradients and the optimizer's two moments exist for the pairs alone. B
starts at zero, so the first step starts from the trained model itself, bit for bit. Afterwards the product is added to
W, and the result is an ordinary model of the old shape and speed.

Source: Hu et al. 2021, LoRA (arXiv 2106.09685), eq. 3 and section 4.1.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.part import Part

Model = TypeVar("Model", bound=nn.Module)


class LoRALinear(nn.Linear):
    """A frozen projection and its pair: x Wᵀ + bias + (α / r) · (x Aᵀ) Bᵀ.

    The pair has r · (d_in + d_out) parameters and costs twice as many operations per token, beside the 2 · d_in · d_out
    of the projection. A begins Gaussian with variance 1 / d_in, so that A x is about as large as a coordinate of x.
    Code that reads `weight` does not see the pair: merge before decoding.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        # In float32 whatever the format of W: in bf16 a small update of a large value would be rounded away.
        pair = {"device": linear.weight.device, "dtype": torch.float32}
        self.lora_A = nn.Parameter(torch.randn(rank, linear.in_features, **pair) * linear.in_features**-0.5)
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, **pair))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        # Of a frozen matrix and an x that is not contiguous, PyTorch would round the product in another way.
        x = x.contiguous()
        y = F.linear(x, self.weight, self.bias)
        narrow = F.linear(x, self.lora_A.to(x.dtype))  # (…, rank)
        return y + self.scale * F.linear(narrow, self.lora_B.to(x.dtype))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The ordinary projection with W + (α / r) · B A."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        change = self.scale * (self.lora_B @ self.lora_A)  # (d_out, d_in)
        linear.weight = nn.Parameter((self.weight.float() + change).to(self.weight.dtype))
        linear.bias = self.bias
        return linear


def add_lora(model: Model, rank: int, alpha: float) -> Model:
    """A copy of the model that shares its weights, frozen, with a pair beside every projection of its layers.

    What training moves without gradients, such as the bias of a router, is copied, so that the model stays as it is.

    Embedding, head, norms and biases get none, nor do the projections that a layer lists in `Part.no_lora`.
    """
    frozen = {id(each): nn.Parameter(each.data, requires_grad=False) for each in model.parameters()}
    copy = deepcopy(model, frozen)
    _add_pairs(copy, rank, alpha)
    return copy


def _add_pairs(module: nn.Module, rank: int, alpha: float, inside: bool = False) -> None:
    inside = inside or isinstance(module, Part)
    for name, child in module.named_children():
        if name in getattr(module, "no_lora", ()):
            continue
        if inside and isinstance(child, nn.Linear):
            setattr(module, name, LoRALinear(child, rank, alpha))
        else:
            _add_pairs(child, rank, alpha, inside)


def merge_lora(model: Model) -> Model:
    """A copy of the model as an ordinary one, with every pair added to its matrix; all other weights are shared.

    A model without pairs is returned as it is.
    """
    pairs = dict(lora_layers(model))
    if not pairs:
        return model
    shared = [*model.parameters(), *model.buffers()]
    # Tensors that a layer remembers from its last step belong to a graph, which cannot be copied.
    shared += [each for module in model.modules() for each in vars(module).values() if isinstance(each, Tensor)]
    copy = deepcopy(model, {id(each): each for each in shared})
    for name, layer in pairs.items():
        parent, _, child = name.rpartition(".")
        setattr(copy.get_submodule(parent), child, layer.merged())
    return copy


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The projections that have a pair, with their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear))


def lora_state(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """W, A and B of each projection, by name: they cannot be recovered from their rounded sum."""
    return {
        name: {"weight": layer.weight.data, "lora_A": layer.lora_A.data, "lora_B": layer.lora_B.data}
        for name, layer in lora_layers(model)
    }


@torch.no_grad()
def load_lora_state(model: nn.Module, state: dict[str, dict[str, Tensor]]) -> None:
    """Restore W, A and B of each projection, bit for bit."""
    for name, layer in lora_layers(model):
        for tensor, saved in state[name].items():
            getattr(layer, tensor).copy_(saved)
