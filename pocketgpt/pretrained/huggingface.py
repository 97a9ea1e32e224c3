"""Published weights: loads Hugging Face checkpoints into our model, and maps their names to ours.

Reads a folder in the layout of the Hub: config.json and model.safetensors, in one file or in shards. The library
`transformers` is not needed. `to_huggingface.py` is the other direction, with the same table of names.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors
from pocketgpt.models.classes import build_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack
from pocketgpt.pretrained.configs import Translation, bert, gpt2, llama, mistral, openai_gpt, qwen3, t5
from pocketgpt.pretrained.t5_names import UNUSED, rename_t5


@dataclass(frozen=True)
class Architecture:
    """Architecture of a published model: the conversion of its config, and our name of each module.

    In the files a module of layer 3 is called `{body}.{layers}.3.{module}`.
    """

    config: Translation
    modules: dict[str, str]
    body: str = ""
    """Prefix of the weights of everything but the head."""
    layers: str = ""
    """Name of the list of layers."""
    unused: tuple[str, ...] = ()
    """Beginnings of names of weights that our model has no use for."""
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    """Renames the weights, where more than a table of modules is needed."""


# Both store matrices as (in, out), the transpose of nn.Linear, and queries, keys and values as one.
_GPT_BLOCK = {
    "ln_1": "mixer_norm",
    "attn.c_attn": "mixer.q_proj mixer.k_proj mixer.v_proj",
    "attn.c_proj": "mixer.o_proj",
    "ln_2": "feedforward_norm",
    "mlp.c_fc": "feedforward.up_proj",
    "mlp.c_proj": "feedforward.down_proj",
    "lm_head": "head",
}
_GPT2 = {"wte": "embedding", "wpe": "positions.embedding", "ln_f": "final_norm", **_GPT_BLOCK}
_OPENAI_GPT = {"tokens_embed": "embedding", "positions_embed": "positions.embedding", **_GPT_BLOCK}
TRANSPOSED = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}

_LLAMA = {
    "embed_tokens": "embedding",
    "input_layernorm": "mixer_norm",
    "self_attn.q_proj": "mixer.q_proj",
    "self_attn.k_proj": "mixer.k_proj",
    "self_attn.v_proj": "mixer.v_proj",
    "self_attn.o_proj": "mixer.o_proj",
    "self_attn.q_norm": "mixer.q_norm",
    "self_attn.k_norm": "mixer.k_norm",
    "post_attention_layernorm": "feedforward_norm",  # the norm before the feed-forward, in spite of its name
    "mlp.gate_proj": "feedforward.gate_proj",
    "mlp.up_proj": "feedforward.up_proj",
    "mlp.down_proj": "feedforward.down_proj",
    "norm": "final_norm",
    "lm_head": "head",
}

_BERT = {
    "embeddings.word_embeddings": "embedding",
    "embeddings.position_embeddings": "positions.embedding",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "embedding_norm",
    "attention.self.query": "mixer.q_proj",
    "attention.self.key": "mixer.k_proj",
    "attention.self.value": "mixer.v_proj",
    "attention.output.dense": "mixer.o_proj",
    "attention.output.LayerNorm": "mixer_norm",
    "intermediate.dense": "feedforward.up_proj",
    "output.dense": "feedforward.down_proj",
    "output.LayerNorm": "feedforward_norm",
    "cls.predictions.transform.dense": "head_dense",
    "cls.predictions.transform.LayerNorm": "head_norm",
    "cls.predictions": "head",  # the bias
    "cls.predictions.decoder": "head",
}
# Its other heads: the sentence as one vector, and the guess if a second sentence follows the first.
_BERT_UNUSED = ("bert.pooler.", "cls.seq_relationship.")

ARCHITECTURES = {
    "gpt2": Architecture(gpt2, _GPT2, "transformer", "h"),
    "openai-gpt": Architecture(openai_gpt, _OPENAI_GPT, "transformer", "h"),
    "llama": Architecture(llama, _LLAMA, "model", "layers"),
    "mistral": Architecture(mistral, _LLAMA, "model", "layers"),
    "qwen3": Architecture(qwen3, _LLAMA, "model", "layers"),
    "bert": Architecture(bert, _BERT, unused=_BERT_UNUSED),
    "t5": Architecture(t5, {}, unused=UNUSED, rename=rename_t5),
}
"""By the `model_type` in config.json."""

# Masks and angles that older files contain; they follow from the config.
_CONSTANTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "position_ids")
_NAME = re.compile(
    r"(?:transformer\.|model\.|bert\.)?(?:(?:h|layers|encoder\.layer)\.(?P<layer>\d+)\.)?"
    r"(?P<module>.+)\.(?P<kind>weight|bias|gamma|beta)"
)
_KINDS = {"gamma": "weight", "beta": "bias"}  # of the norms in BERT's first files


def load_huggingface(folder: str | Path) -> Stack:
    """Load the published model in a folder, in float32 and evaluation mode.

    Raises PocketError if a file is missing or damaged, or if our model does not support the architecture.
    """
    folder = Path(folder)
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    index_file = folder / "model.safetensors.index.json"
    if not config_file.is_file() or not (weights_file.is_file() or index_file.is_file()):
        raise PocketError(
            f"{folder} contains no published model: config.json and model.safetensors (or its shards and "
            "model.safetensors.index.json) are needed. `hf download NAME --local-dir FOLDER` fetches them."
        )
    config = read_json(config_file)
    if weights_file.is_file():
        return from_huggingface(config, read_safetensors(weights_file))
    weights = {}
    try:
        shards = sorted({str(shard) for shard in read_json(index_file)["weight_map"].values()})
    except (KeyError, TypeError, AttributeError) as error:
        raise PocketError(f"{index_file} lists no shards of weights: download it again.") from error
    for shard in shards:
        if not (folder / shard).is_file():
            raise PocketError(f"{folder} is incomplete: {shard} is missing. Download it again.")
        weights |= read_safetensors(folder / shard)
    return from_huggingface(config, weights)


def from_huggingface(config: dict[str, Any], weights: dict[str, Tensor]) -> Stack:
    """Convert a Hugging Face config and state dict to our model, in float32 and evaluation mode; the logits are equal.

    `config` is the content of config.json, in the layout of any release of transformers.
    Raises PocketError that names an unsupported architecture, option or weight.
    """
    ours_config = convert_config(config)
    kind = config["model_type"]
    with _damage_named(kind):
        model = build_model(ours_config)
    used = {name: tensor for name, tensor in weights.items() if not name.startswith(ARCHITECTURES[kind].unused)}
    ours = (ARCHITECTURES[kind].rename or partial(rename, modules=ARCHITECTURES[kind].modules))(used)
    if model.config.tie_embeddings and "embedding.weight" in ours:
        ours["head.weight"] = ours["embedding.weight"]
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise PocketError(f"The weights do not belong to the {kind} model of config.json: {error}") from error
    return model.eval()


def convert_config(config: dict[str, Any]) -> ModelConfig:
    """Convert the content of a Hugging Face config.json. Raises PocketError as `from_huggingface` does."""
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise PocketError(f"model_type = {kind!r} is not one we can load: {', '.join(sorted(ARCHITECTURES))} are.")
    with _damage_named(kind):
        return ARCHITECTURES[kind].config(config).resolved()


@contextmanager
def _damage_named(kind: str) -> Iterator[None]:
    """Context in which a config.json that lacks a field or makes no sense ends in a PocketError."""
    try:
        yield
    except KeyError as missing:
        raise PocketError(
            f"config.json of a {kind} model is missing the field {missing}: download it again."
        ) from missing
    except PocketError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:  # a word for a number, …
        raise PocketError(
            f"config.json does not describe a {kind} model that works ({error}): download it again."
        ) from error


def rename(weights: dict[str, Tensor], modules: dict[str, str]) -> dict[str, Tensor]:
    """Rename Hugging Face's weights to our names, transposed and split where our layout differs.

    Raises PocketError for a weight that our model does not have.
    """
    ours = {}
    for name, tensor in weights.items():
        if name.endswith(_CONSTANTS):
            continue
        found = _NAME.fullmatch(name)
        if found is None or found["module"] not in modules:
            raise PocketError(f"The weight {name!r} has no place in our model: its architecture is a different one.")
        prefix = f"blocks.{found['layer']}." if found["layer"] else ""
        parts = modules[found["module"]].split()
        tensor = tensor.t() if found["module"] in TRANSPOSED else tensor
        for part, piece in zip(parts, tensor.chunk(len(parts)), strict=False):
            ours[f"{prefix}{part}.{_KINDS.get(found['kind'], found['kind'])}"] = piece
    return ours
