"""Models on disk: a folder with config.json and model.safetensors."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pocketgpt.checked import ConfigError
from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors, write_json, write_safetensors
from pocketgpt.models.config import ModelConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: nn.Module, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write config and weights into the folder, in `dtype` if given; tied weights once."""
    folder = Path(folder)
    weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    write_safetensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, model.config.to_dict())


def load_config(folder: str | Path) -> ModelConfig:
    """The config in a model's folder. Raises PocketError if a file is missing or the config cannot work."""
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PocketError(f"There is no model in {folder}: {name} is missing. `pocketgpt train` writes one.")
    return parse_config(read_json(folder / CONFIG), folder / CONFIG)


def parse_config(values: Any, file: Path) -> ModelConfig:
    """The config that a JSON file contains. Raises PocketError if it describes no model."""
    try:
        return ModelConfig.from_dict(values)
    except (TypeError, AttributeError, ConfigError) as error:  # not an object, a field missing, a word for a number
        raise PocketError(f"{file} does not describe a model: {error}") from error


def load_weights(model: nn.Module, folder: str | Path) -> None:
    """Fill the model with the weights in the folder. Raises PocketError if they are damaged or of another model."""
    file = Path(folder) / WEIGHTS
    weights = read_safetensors(file)
    if model.config.tie_embeddings and "embedding.weight" in weights:
        weights["head.weight"] = weights["embedding.weight"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise PocketError(f"{file} does not belong to {CONFIG} beside it: {error}") from error
