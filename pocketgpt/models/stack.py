"""The stack that all models share: embedding, blocks, last norm; their cost, and the size of their cache."""

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import BACKENDS, Backend
from pocketgpt.layers.block import build_block
from pocketgpt.layers.context import Context, StateStore, TokenStore
from pocketgpt.layers.norm import build_norm
from pocketgpt.layers.part import Mixer, Part
from pocketgpt.layers.positions import build_positions
from pocketgpt.layers.rope import frequencies, rotation
from pocketgpt.layers.rope_scaling import attention_factor
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.saving import save_model


class ContextError(PocketError, ValueError):
    """More tokens than the model has positions for."""


@runtime_checkable
class Cache(Protocol):
    """Interface the model expects of a cache: positions for the next tokens, a store per layer, and a `finish`
    hook after the last layer. `pocketgpt.inference.kv_cache` implements it."""

    layers: list[TokenStore | StateStore]
    capacity: int

    def begin(self, seq: int) -> Int[Tensor, "batch seq"]: ...

    def finish(self) -> None: ...


class Stack(nn.Module):
    """Embedding, positions, blocks and last norm: tokens in, features out.

    With `recompute_blocks`, training stores only the input of each block and computes the block again in the backward
    pass: less memory for a third more computing (Chen et al. 2016, arXiv 1604.06174).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config = config.resolved()
        self.recompute_blocks = False
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = build_positions(config)
        self.embedding_norm = build_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(build_block(*parts, config) for parts in config.layers())
        # A post-norm block ends with a norm already.
        self.final_norm = build_norm(config) if config.norm_order == "pre" else nn.Identity()
        self.attention_factor = attention_factor(config.rope)
        self.rotary_widths = sorted({mixer.rotary_width for mixer in self.mixers()} - {0})

    def features(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """The residual stream after the last norm: what a head reads.

        Raises ContextError for more tokens than there are positions for.
        """
        return self.transform(self.embedding(tokens), self.context(tokens, cache), cache)

    def transform(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: Cache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """From the embedded tokens to the features: positions, blocks, last norm."""
        if self.positions is not None:
            x = self.positions(x, context.positions)
        x = self.dropout(self.embedding_norm(x))
        recompute = self.recompute_blocks and self.training and torch.is_grad_enabled()
        for i, block in enumerate(self.blocks):
            store = None if cache is None else cache.layers[i]
            x = checkpoint(block, x, context, store, use_reentrant=False) if recompute else block(x, context, store)
        if cache is not None:
            cache.finish()
        return self.final_norm(x)

    def context(
        self,
        tokens: Int[Tensor, "batch seq"],
        cache: Cache | None = None,
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Context:
        """Positions of the tokens, and the angles of the layers that rotate. `mask` is False for padding."""
        if cache is None:
            length = tokens.shape[1]
            check_length(self.config, length)
            positions = torch.arange(length, device=tokens.device)[None]
        else:
            length = cache.capacity
            positions = cache.begin(tokens.shape[1])
        rotations = {}
        for width in self.rotary_widths:
            per_pair = frequencies(width, self.config.rope, length, positions.device)
            rotations[width] = rotation(positions[:, None], per_pair, self.attention_factor)
        if mask is not None:
            mask = mask[:, None, None].expand(-1, -1, tokens.shape[1], -1)  # (B, 1, T, T): the same for every query
        return Context(positions, rotations, mask)

    def use_attention(self, backend: str | Backend) -> "Stack":
        """Let every attention layer compute softmax(QKᵀ/√d + M) V with this backend; returns the model.

        `backend` is a name of `layers.attention_backends.BACKENDS` or a function of the same signature. Raises
        PocketError for another name.
        """
        if isinstance(backend, str):
            if backend not in BACKENDS:
                raise PocketError(f"There is no attention backend {backend!r}: use one of {', '.join(BACKENDS)}.")
            backend = BACKENDS[backend]
        for mixer in self.mixers():
            if hasattr(mixer, "attend"):
                mixer.attend = backend
        return self

    def mixers(self) -> Iterator[Mixer]:
        """The mixer of each layer."""
        return (block.mixer for block in self.blocks)

    def parts(self) -> Iterator[Part]:
        """The mixer of each layer, and its feed-forward if it has one."""
        return (part for block in self.blocks for part in block.children() if isinstance(part, Part))

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def n_params(self) -> int:
        """Number of parameters; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def n_active_params(self) -> int:
        """Parameters that one token uses: fewer than all of them in a mixture of experts."""
        idle = sum(sum(p.numel() for p in part.parameters()) - part.n_active_params() for part in self.parts())
        return self.n_params() - idle

    def flops_per_token(self, seq: int) -> int:
        """Floating-point operations of a forward pass over `seq` tokens through the blocks, divided by `seq`; training
        takes three times that.

        Two per multiply-add of matrix products and convolutions, as PyTorch's FlopCounterMode counts. The embedding is
        a lookup and costs none. The same for prepared and quantized models.
        """
        return sum(part.flops_per_token(seq) for part in self.parts())

    def cache_bytes(self, batch: int, seq: int, dtype: torch.dtype = torch.float32) -> int:
        """Bytes that the cache needs for `seq` tokens. For attention 2 · n_kv_heads · d_head · batch · seq · bytes per
        value in each layer, with a sliding window up to the window; states of fixed size are float32. A model that is
        not causal has no cache."""
        if not self.config.causal:
            return 0
        return sum(mixer.cached().n_bytes(batch, seq, dtype) for mixer in self.mixers())

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors into the folder, in `dtype` if given; tied weights once.

        `load_model` of `models/classes.py` loads them.
        """
        save_model(self, folder, dtype)


Model = TypeVar("Model", bound=nn.Module)


def sharing_weights(model: Model) -> Model:
    """A copy of the model with the same parameters and buffers, not copies of them.

    To change how a model computes (`use_attention`) without changing the model that was given.
    """
    tensors = (*model.parameters(), *model.buffers())
    return deepcopy(model, {id(tensor): tensor for tensor in tensors})


def check_length(config: ModelConfig, length: int) -> None:
    """Raises ContextError if the model has no positions for a sequence of that length."""
    stretches = config.positions == "rope" and config.rope.scaling == "dynamic"
    if length > config.max_seq_len and not stretches:
        stretch = ", or a config with rope.scaling = 'dynamic'" if config.positions == "rope" else ""
        raise ContextError(
            f"{length} tokens are more than the {config.max_seq_len} this model has positions for (max_seq_len): "
            f"give it the last ones only{stretch}."
        )


def init_weights(model: Stack) -> None:
    """Fill a new model with random weights.

    | weights                      | distribution                       | why                                       |
    |------------------------------|------------------------------------|-------------------------------------------|
    | embedding, head, projections | normal, std 0.02                   | first loss close to ln(vocab_size)        |
    | output projections of the    | normal, std 0.02 / √n_outputs,     | n_outputs = 2 · n_layers of them add up   |
    | layers (o_proj, down_proj)   | over all blocks                    | in the residual stream                    |
    | biases                       | 0                                  |                                           |
    | norm weights                 | 1                                  |                                           |
    | other weights of a layer     | see its `init_weights`             |                                           |

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """
    parts = list(model.parts())
    output_std = 0.02 / math.sqrt(len(parts))
    outputs = {id(weight) for part in parts for weight in part.output_weights()}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=output_std if id(module.weight) in outputs else 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for part in parts:
        part.init_weights(0.02, output_std)
