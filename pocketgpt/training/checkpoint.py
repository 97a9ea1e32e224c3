"""A trained model as a folder that needs nothing else: weights, config, tokenizer, and how it came about.

    config.json          the ModelConfig
    model.safetensors    the weights
    tokenizer.json       the vocabulary
    training.json        preset, recipe, step and what was measured

A run's folder holds two of them, `best` (lowest validation loss so far) and `last`.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, write_json
from pocketgpt.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer


class CheckpointError(PocketError):
    """A checkpoint that is missing, incomplete or damaged."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a folder held."""

    folder: Path
    model: GPT
    tokenizer: Tokenizer
    training: dict[str, Any]
    """Contents of training.json: preset, recipe, step, measured."""


def save_checkpoint(folder: Path, model: GPT, tokenizer: Tokenizer, training: dict[str, Any]) -> None:
    """Write a checkpoint to `folder`, in place of the one that may be there.

    All files are written beside it first and the folder is renamed when they are complete, so that an interruption
    leaves the old checkpoint or the new one, never half of each.
    """
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    model.save(new)
    tokenizer.save(new / "tokenizer.json")
    write_json(new / "training.json", training)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The checkpoint in a folder, or the best one of a run's folder; the model is ready to run (`eval`).

    Raises PocketError that says what is missing or damaged.
    """
    folder = find_checkpoint(Path(folder))
    model = GPT.load(folder, device=device)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} holds a model but no tokenizer.json: copy it from where the model was trained."
        )
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return _fitting(Checkpoint(folder=folder, model=model, tokenizer=tokenizer, training=_read_training(folder)))


def load_shipped(device: torch.device | str = "cpu") -> Checkpoint:
    """The trained pocket-shakespeare model that comes with the project. Raises CheckpointError if it is not there."""
    try:
        folder = asset("pocket-shakespeare")
    except PocketError as error:
        raise CheckpointError(
            f"{error} Or train your own in minutes with `pocketgpt train --out FOLDER`, and give --model FOLDER."
        ) from error
    model, tokenizer = GPT.load(folder, device=device), Tokenizer.load("shakespeare")
    return _fitting(Checkpoint(folder=folder, model=model, tokenizer=tokenizer, training=_read_training(folder)))


def find_checkpoint(folder: Path) -> Path:
    """The folder itself, or `best` or `last` in it if it is the folder of a run.

    Raises CheckpointError if there is no checkpoint in any of them.
    """
    for candidate in (folder, folder / "best", folder / "last"):
        if (candidate / "config.json").is_file():
            return candidate
    found = "holds no checkpoint" if folder.is_dir() else "does not exist"
    raise CheckpointError(f"{folder} {found}. `pocketgpt train --out FOLDER` writes one.")


def _read_training(folder: Path) -> dict[str, Any]:
    file = folder / "training.json"
    return read_json(file) if file.is_file() else {}


def _fitting(checkpoint: Checkpoint) -> Checkpoint:
    tokens, rows = checkpoint.tokenizer.vocab_size, checkpoint.model.config.vocab_size
    if tokens > rows:
        raise CheckpointError(
            f"The parts of {checkpoint.folder} do not belong together: its tokenizer has {tokens} tokens, its model "
            f"{rows}. Copy tokenizer.json and model.safetensors from the same run."
        )
    return checkpoint
