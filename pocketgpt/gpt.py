"""The model, assembled from layers/: tokens in, logits out."""

import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.config import ConfigError, ModelConfig
from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors, write_json, write_safetensors
from pocketgpt.layers.attention import LayerCache
from pocketgpt.layers.block import BLOCKS
from pocketgpt.layers.norm import build_norm
from pocketgpt.layers.positions import build_positions
from pocketgpt.layers.rope import Rope, Rotation, no_rope


class ContextError(PocketError, ValueError):
    """More tokens than the model has positions for."""


@runtime_checkable
class Cache(Protocol):
    """What the model asks of a cache: where the next tokens stand, a place per layer, and to be told when they are
    in."""

    layers: list[LayerCache]
    capacity: int

    def begin(self, seq: int) -> Int[Tensor, "batch seq"]: ...

    def finish(self) -> None: ...


def run_block(
    block: nn.Module, x: Float[Tensor, "batch seq d_model"], rope: Rotation | None, cache: LayerCache | None
) -> Float[Tensor, "batch seq d_model"]:
    return block(x, rope, cache)


class GPT(nn.Module):
    """A decoder-only transformer: embedding, blocks, norm, head.

    `run_block` runs one block; an attribute, so that training can put a function in its place that saves memory.
    Sources: Radford et al. 2019 (GPT-2); Touvron et al. 2023, LLaMA (arXiv 2302.13971).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = build_positions(config)
        self.rope = Rope(config) if config.positions == "rope" else no_rope
        self.embedding_norm = build_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(BLOCKS[config.norm_order](config) for _ in range(config.n_layers))
        # A post-norm block ends with a norm already.
        self.final_norm = build_norm(config) if config.norm_order == "pre" else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self.run_block = run_block
        init_weights(self)

    def forward(self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None) -> Float[Tensor, "batch seq vocab"]:
        """Scores for the token after each position. With a cache, `tokens` are the ones that follow what it holds.

        Raises ContextError for more tokens than there are positions for.
        """
        return self.head(self.features(tokens, cache))

    def features(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head sees: the residual stream after the last norm."""
        if cache is None:
            check_length(self.config, tokens.shape[1])
            positions, length = torch.arange(tokens.shape[1], device=tokens.device)[None], tokens.shape[1]
        else:
            positions, length = cache.begin(tokens.shape[1]), cache.capacity
        x = self.positions(self.embedding(tokens), positions)
        x = self.dropout(self.embedding_norm(x))
        rope = self.rope(positions, length)
        for i, block in enumerate(self.blocks):
            x = self.run_block(block, x, rope, cache.layers[i] if cache is not None else None)
        if cache is not None:
            cache.finish()
        return self.final_norm(x)

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def n_params(self) -> int:
        """Number of parameters; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self, seq: int) -> int:
        """Floating-point operations of a forward pass over `seq` tokens, divided by `seq`; training takes three times
        that.

        Two per weight of every matrix product (the embedding is a lookup and costs none), and 4 · n_heads · d_head ·
        seq per layer for QKᵀ and the weighted sum, both over the whole square as attention kernels are usually
        counted.
        """
        products = sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))
        attention = self.config.n_layers * self.config.n_heads * self.config.d_head * seq
        return 2 * products + 4 * attention

    def kv_cache_bytes(self, batch: int, seq: int, dtype: torch.dtype = torch.float32) -> int:
        """Bytes of keys and values for `seq` tokens: 2 · n_layers · n_kv_heads · d_head · batch · seq · bytes per
        value.

        With a sliding window, `seq` counts up to the window.
        """
        kept = seq if self.config.window is None else min(seq, self.config.window)
        values = 2 * self.config.n_layers * self.config.n_kv_heads * self.config.d_head * batch * kept
        return values * dtype.itemsize

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors into the folder, in `dtype` if given; tied weights once."""
        folder = Path(folder)
        weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in self.state_dict().items()}
        if self.config.tie_embeddings:
            del weights["head.weight"]
        write_safetensors(folder / "model.safetensors", weights)
        write_json(folder / "config.json", self.config.to_dict())

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "GPT":
        """The model that `save` wrote, in float32 and ready to run (`eval`).

        Raises PocketError if a file is missing, damaged, or does not belong to the config.
        """
        folder = Path(folder)
        config_file, weights_file = folder / "config.json", folder / "model.safetensors"
        for file in (config_file, weights_file):
            if not file.is_file():
                raise PocketError(
                    f"There is no model in {folder}: {file.name} is missing. `pocketgpt train` writes one."
                )
        try:
            config = ModelConfig.from_dict(read_json(config_file))
        except (TypeError, AttributeError, ConfigError) as error:  # not an object, a field missing, a word for a number
            raise PocketError(f"{config_file} does not describe a model: {error}") from error
        weights = read_safetensors(weights_file)
        model = cls(config)
        if config.tie_embeddings and "embedding.weight" in weights:
            weights["head.weight"] = weights["embedding.weight"]
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise PocketError(f"{weights_file} does not belong to {config_file}: {error}") from error
        return model.to(device).eval()


def check_length(config: ModelConfig, length: int) -> None:
    """Raises ContextError if the model has no positions for a sequence of that length."""
    stretches = config.positions == "rope" and config.rope.scaling == "dynamic"
    if length > config.max_seq_len and not stretches:
        raise ContextError(
            f"{length} tokens are more than the {config.max_seq_len} this model has positions for (max_seq_len): "
            "give it the last ones only, or a config with rope.scaling = 'dynamic'."
        )


def init_weights(model: GPT) -> None:
    """Fill a new model with random weights.

    | weights                      | distribution                       | why                                       |
    |------------------------------|------------------------------------|-------------------------------------------|
    | embedding, head, projections | normal, std 0.02                   | first loss close to ln(vocab_size)        |
    | o_proj, down_proj            | normal, std 0.02 / √(2 · n_layers) | 2 · n_layers of them add up in the stream |
    | biases                       | 0                                  |                                           |
    | norm weights                 | 1                                  |                                           |

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """
    depth_std = 0.02 / math.sqrt(2 * model.config.n_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=depth_std if name.endswith(("o_proj", "down_proj")) else 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
