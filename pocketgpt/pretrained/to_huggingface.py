"""Our model as a Hugging Face folder, which `transformers` and the tools around it load; the inverse of huggingface.py.

    config.json              their fields, and the name of the architecture
    generation_config.json   the token that ends a text
    model.safetensors        the weights under their names
    tokenizer.json           the vocabulary; tokenizer_config.json names its end-of-text token, and chat_template.jinja
                             writes a conversation, if the model has learned to hold one
    README.md                the model card

The architecture follows from the config (to_configs.py). The library `transformers` is not needed.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing_folder, write_json, write_safetensors
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.saving import check_saveable
from pocketgpt.pretrained.huggingface import ARCHITECTURES, TRANSPOSED
from pocketgpt.pretrained.model_card import model_card
from pocketgpt.pretrained.to_configs import their_config
from pocketgpt.text.tokenizer import Tokenizer


def save_huggingface(
    model: GPT, tokenizer: Tokenizer, folder: str | Path, training: dict[str, Any] | None = None
) -> None:
    """Write the model and its tokenizer so that AutoModelForCausalLM and AutoTokenizer of transformers load them.

    The folder appears once every file is on the disk. `training`, the metadata of a checkpoint, goes into the model
    card. Dropout is not written: it belongs to a training run.

    Raises PocketError for a model that transformers has no architecture for (with the field and its value), for a
    tokenizer of another model, for a folder that is not empty, and if the disk is full.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PocketError(f"{folder} exists and is not an empty folder: give the name of a new one.")
    config, weights = their_config(model.config), model.state_dict()
    check_saveable(model, weights)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise PocketError(
            f"The tokenizer has {tokenizer.vocab_size} tokens and the model {model.config.vocab_size}: they do not "
            "belong together. Use the tokenizer that the model was trained with."
        )
    tied = model.config.tie_embeddings and torch.equal(weights["head.weight"], weights["embedding.weight"])
    if tied:
        del weights["head.weight"]
    names = role_names(tokenizer)
    ids = getattr(tokenizer, "special_tokens", {names["eos_token"]: tokenizer.end_of_text})
    ends = {f"{role}_id": ids.get(names.get(role)) for role in ("bos_token", "eos_token")}
    dtype = str(model.dtype).removeprefix("torch.")
    config |= {"tie_word_embeddings": tied, **ends, "dtype": dtype, "torch_dtype": dtype}
    their_weights = renamed(weights, config["model_type"], model.config.n_layers)
    try:
        with replacing_folder(folder) as beside:
            write_json(beside / "config.json", config)
            write_json(beside / "generation_config.json", ends)
            write_safetensors(beside / "model.safetensors", their_weights)
            tokenizer.save(beside / "tokenizer.json")
            write_json(beside / "tokenizer_config.json", tokenizer_config(names, model.config))
            card = model_card(model, tokenizer, config["architectures"][0], folder.name, training or {})
            (beside / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        needed = sum(tensor.nbytes for tensor in their_weights.values())
        place = next(parent for parent in folder.parents if parent.exists())
        raise PocketError(
            f"{folder} cannot be written: {error.strerror or error}. It needs about {needed / 1e6:,.1f} MB, and "
            f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free in {place}."
        ) from error


def role_names(tokenizer: Tokenizer) -> dict[str, str]:
    """Names of the special tokens by role. As in GPT-2, the token that ends a text begins one where no other does."""
    end = tokenizer.token_bytes(tokenizer.end_of_text).decode()
    return getattr(tokenizer, "roles", {"bos_token": end, "eos_token": end})


def tokenizer_config(names: dict[str, str], config: ModelConfig) -> dict[str, Any]:
    """The content of tokenizer_config.json: the names of special tokens, and that decoding changes no spaces."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # as tokenizer.json says, whatever the architecture
        **names,
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": False,
    }


def renamed(weights: dict[str, Tensor], kind: str, n_layers: int) -> dict[str, Tensor]:
    """Our weights under the names of an architecture, joined and transposed where its layout differs.

    The inverse of `huggingface.rename`, by the same table.
    """
    architecture = ARCHITECTURES[kind]
    theirs = {}
    for module, parts in architecture.modules.items():
        if parts.startswith(("mixer", "feedforward")):
            body = f"{architecture.body}.{architecture.layers}"
            places = [(f"blocks.{layer}.", f"{body}.{layer}.") for layer in range(n_layers)]
        else:
            places = [("", "" if parts == "head" else f"{architecture.body}.")]
        for ours, their in places:
            for suffix in ("weight", "bias"):
                names = [f"{ours}{part}.{suffix}" for part in parts.split()]
                if all(name in weights for name in names):
                    tensor = torch.cat([weights[name] for name in names]) if len(names) > 1 else weights[names[0]]
                    theirs[f"{their}{module}.{suffix}"] = tensor.t() if module in TRANSPOSED else tensor
    return theirs
