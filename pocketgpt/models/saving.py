"""Models on disk: a folder with config.json and model.safetensors."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors, write_json, write_safetensors
from pocketgpt.models.config import ModelConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: nn.Module, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write config and weights into the folder, in `dtype` if given; tied weights once.

    The weights decide whether the head is tied, not the config: one that was replaced is saved as a head of its own.
    Raises PocketError for a model that `load` could not rebuild from its config, such as one in int8.
    """
    folder = Path(folder)
    config, weights = model.config, model.state_dict()
    check_saveable(model, weights)
    head, embedding = weights["head.weight"], weights["embedding.weight"]
    # One tensor, which may contain NaN, or two that are still equal.
    tied = head.data_ptr() == embedding.data_ptr() or (config.tie_embeddings and torch.equal(head, embedding))
    config = replace(config, tie_embeddings=tied)
    weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.items()}
    if tied:
        del weights["head.weight"]
    write_safetensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config.to_dict())


def check_saveable(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raises PocketError if the model's weights are not those of a model with its config, by name, shape and kind."""
    original = next(cls for cls in type(model).__mro__ if cls.__module__.startswith("pocketgpt.models."))
    with torch.device("meta"):  # shapes without memory
        expected = {name: tensor.shape for name, tensor in original(model.config).state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items() if tensor.is_floating_point()}
    changed = {name for name in expected.keys() | weights.keys() if found.get(name) != expected.get(name)}
    if changed:
        raise PocketError(
            f"This model cannot be saved: {CONFIG} does not describe its weights {', '.join(sorted(changed)[:3])}"
            f"{', …' if len(changed) > 3 else ''}. Save the original model, and quantize or change it after loading."
        )


def load_config(folder: str | Path, classes: Iterable[type[ModelConfig]] = (ModelConfig,)) -> ModelConfig:
    """The config in a model's folder, of one of these classes. Raises PocketError if a file is missing or the config
    cannot work."""
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PocketError(f"There is no model in {folder}: {name} is missing. `pocketgpt train` writes one.")
    return parse_config(read_json(folder / CONFIG), folder / CONFIG, classes)


def parse_config(values: Any, file: Path, classes: Iterable[type[ModelConfig]] = (ModelConfig,)) -> ModelConfig:
    """Parse the config of a JSON file, whose `kind` names one of the classes. Raises PocketError if it describes no
    model of ours."""
    if isinstance(values, dict) and "model_type" in values:
        raise PocketError(
            f"{file} is of a Hugging Face model (model_type {values['model_type']!r}): load it with "
            "pocketgpt.pretrained.huggingface.load_huggingface(folder).save(new_folder), and use new_folder."
        )
    try:
        by_kind = {each.kind: each for each in classes}
        return by_kind.get(values.get("kind"), ModelConfig).from_dict(values)
    except (
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
    ) as error:  # not an object, a field missing, a word for a number
        raise PocketError(f"{file} does not describe a model: {error}") from error


def load_weights(model: nn.Module, folder: str | Path) -> None:
    """Fill the model with the weights in the folder. Raises PocketError if they are damaged or of another model."""
    file = Path(folder) / WEIGHTS
    weights = read_safetensors(file)
    if model.config.tie_embeddings and "embedding.weight" in weights:
        embedding = weights["embedding.weight"]
        head = weights.setdefault("head.weight", embedding)
        if head is not embedding and not torch.equal(head, embedding):
            raise PocketError(f"{file} has a head of its own: set tie_embeddings to false in {CONFIG} beside it.")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise PocketError(f"{file} does not belong to {CONFIG} beside it: {error}") from error
