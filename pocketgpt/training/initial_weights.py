"""Initial weights: a run that begins with a model that is trained already, to fine-tune it on another text."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer
from pocketgpt.training.checkpoint import Checkpoint


def begin_with(initial: Checkpoint, config: ModelConfig) -> Stack:
    """A new model of this config with the weights of a trained one, which itself stays as it is.

    The config may differ in whatever needs no other weights: dropout, and for a longer context `max_seq_len` and
    `rope`. Raises PocketError that names the weights that do not fit.
    """
    weights = initial.model.state_dict()
    with torch.device("meta"):  # shapes without memory
        shapes = {name: weight.shape for name, weight in type(initial.model)(config).state_dict().items()}
    names = shapes.keys() | weights.keys()
    wrong = sorted(name for name in names if name not in weights or shapes.get(name) != weights[name].shape)
    if wrong:
        raise PocketError(
            f"The weights of {initial.folder} do not fit the model: {', '.join(wrong[:3])}"
            f"{', …' if len(wrong) > 3 else ''} would have another shape. Leave out the options --model.… that change "
            "shapes, or train from random weights without --init-from."
        )
    if config.tie_embeddings and not torch.equal(weights["head.weight"], weights["embedding.weight"]):
        raise PocketError(f"The model of {initial.folder} has a head of its own: leave out --model.tie-embeddings.")
    model = type(initial.model)(config)
    model.load_state_dict(weights)
    return model


def tokenizer_of(initial: Checkpoint) -> str:
    """The value of `TrainConfig.tokenizer` that means the tokenizer of a trained model: its file, or else its name, or
    else the model itself, which has the vocabulary inside."""
    file = initial.folder / "tokenizer.json"
    return str(file) if file.is_file() else initial.training.get("recipe", {}).get("tokenizer", str(initial.folder))


def check_tokenizer(name_or_path: str, initial: Checkpoint) -> Tokenizer:
    """The tokenizer of a trained model. Raises PocketError if another is asked for, whose ids would mean other text."""
    own = tokenizer_of(initial)
    is_own = Path(name_or_path).resolve() == Path(own).resolve()
    if not is_own and load_tokenizer(name_or_path).hash != initial.tokenizer.hash:
        raise PocketError(
            f"The model of {initial.folder} knows the tokens of its own tokenizer and not those of {name_or_path!r}: "
            f"leave out --tokenizer, or use {own}."
        )
    return initial.tokenizer


def origin(initial: Checkpoint) -> dict[str, Any]:
    """Where the weights of a run came from, for its metadata: the folder, and a checksum of the weights."""
    return {"source": str(initial.folder.absolute()), "sha256": weights_sha256(initial.model)}


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all weights, by name: the same for the same numbers, whatever file they were read from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
