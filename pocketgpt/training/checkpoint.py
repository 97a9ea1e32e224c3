"""Checkpoints: a trained model as a self-contained folder, and the series of them that a run writes.

    config.json          the ModelConfig
    model.safetensors    the weights
    tokenizer.json       the vocabulary
    training.json        preset, recipe, step and measurements
    state.pt             optimizers and random numbers, to resume bit for bit; not needed to use the model
    checksums.json       SHA-256 of every other file

A run's folder contains several, named by step, such as `step-000800`. No index lists them: the last checkpoint is the
intact one with the most steps, the best is the intact one with the lowest validation loss in its training.json. A
checkpoint is complete when it appears, by a rename, and is never changed afterwards.
"""

import hashlib
import math
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, replacing_folder, write_json, write_torch
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "training.json")


class CheckpointError(PocketError):
    """Error for a checkpoint that is missing, incomplete or damaged, or cannot be written."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint: model, tokenizer and training metadata."""

    folder: Path
    model: GPT
    tokenizer: Tokenizer
    training: dict[str, Any]
    """Contents of training.json: preset, recipe, step, measured."""


def save_checkpoint(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    training: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically: `folder` appears once every byte of it is on the disk.

    Raises CheckpointError, with the space needed and the space free, if that fails; no partial folder is left then.
    """
    try:
        with replacing_folder(folder) as beside:
            model.save(beside)
            tokenizer.save(beside / "tokenizer.json")
            write_json(beside / "training.json", training)
            if state is not None:
                write_torch(beside / "state.pt", state)
            write_json(beside / "checksums.json", {file.name: _sha256(file) for file in sorted(beside.iterdir())})
    except OSError as error:
        needed, place = _n_bytes(model.state_dict()) + _n_bytes(state), _existing(folder)
        raise CheckpointError(
            f"{folder} cannot be written: {error.strerror or error}. It needs about {needed / 1e6:,.1f} MB, and "
            f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free in {place}."
        ) from error


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Load the checkpoint in a folder, or the best one of a run's folder; the model is in evaluation mode.

    Raises PocketError that names the missing or damaged file.
    """
    folder = find_checkpoint(Path(folder))
    if (folder / "checksums.json").is_file() and (damage := find_damage(folder, MODEL_FILES)):
        raise CheckpointError(f"{folder} is damaged: {damage}. Take another checkpoint, or train it again.")
    model = GPT.load(folder, device=device)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} contains a model but no tokenizer.json: copy it from where the model was trained."
        )
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return check_vocabulary(Checkpoint(folder=folder, model=model, tokenizer=tokenizer, training=read_training(folder)))


def load_shipped(device: torch.device | str = "cpu") -> Checkpoint:
    """Load the trained pocket-shakespeare model that ships with the project.

    Raises CheckpointError if it is missing.
    """
    try:
        folder = asset("pocket-shakespeare")
    except PocketError as error:
        raise CheckpointError(
            f"{error} Or train your own in minutes with `pocketgpt train --out FOLDER`, and give --model FOLDER."
        ) from error
    model, tokenizer = GPT.load(folder, device=device), load_tokenizer("shakespeare")
    return check_vocabulary(Checkpoint(folder=folder, model=model, tokenizer=tokenizer, training=read_training(folder)))


def find_checkpoint(folder: Path) -> Path:
    """Find a checkpoint: the folder itself, or a run's best checkpoint, or its last if none was evaluated.

    Raises CheckpointError if there is none.
    """
    if (folder / "config.json").is_file():
        return folder
    return best_intact(folder) or latest_intact(folder)


def checkpoints(run: Path) -> list[Path]:
    """List the checkpoints of a run, intact or damaged, by step."""
    found = [folder for folder in run.glob("step-*") if folder.is_dir() and folder.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def latest_intact(run: Path) -> Path:
    """Find the last intact checkpoint of a run; damaged ones are skipped, with the reason on stderr.

    Raises CheckpointError if there is none.
    """
    for folder in reversed(checkpoints(run)):
        if _is_intact(folder):
            return folder
    found = "contains no intact checkpoint" if run.is_dir() else "is a file" if run.exists() else "does not exist"
    raise CheckpointError(f"{run} {found}. `pocketgpt train --out FOLDER` writes one.")


def best_intact(run: Path) -> Path | None:
    """Find the intact checkpoint of the lowest validation loss, the first of equals; None if none was evaluated.

    Only losses on the same text compare: if the run changed its corpus, those on the last one count.
    """
    best = _best_by_text(run)
    return list(best.values())[-1] if best else None


def _best_by_text(run: Path) -> dict[str, Path]:
    """Find the intact checkpoint of the lowest validation loss on each text that the run was evaluated on, in order."""
    by_text: dict[str, list[Path]] = {}
    for folder in checkpoints(run):
        if _validation_loss(folder) < math.inf and _is_intact(folder):
            training = read_training(folder)
            text = f"{training.get('data')} {training.get('recipe', {}).get('eval_tokens')}"
            by_text.setdefault(text, []).append(folder)
    return {text: min(found, key=_validation_loss) for text, found in by_text.items()}


def prune(run: Path, step: int, keep_every: int | None = None) -> None:
    """Remove old checkpoints once the one of `step` is on the disk.

    The best, the last two (if the last is damaged, the run resumes from the one before) and those of every `keep_every`
    steps are kept. Checkpoints beyond `step` are damaged: the run resumed from an earlier one.
    """
    found = checkpoints(run)
    written = [folder for folder in found if step_of(folder) <= step]
    kept = {*_best_by_text(run).values(), *written[-2:]}
    if keep_every is not None:
        kept |= {folder for folder in written if step_of(folder) and step_of(folder) % keep_every == 0}
    for folder in found:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def remove_partial(run: Path) -> None:
    """Remove the unfinished checkpoints of processes that were killed."""
    for folder in run.glob(".step-*.partial"):
        shutil.rmtree(folder, ignore_errors=True)


def find_damage(folder: Path, names: Iterable[str] | None = None) -> str | None:
    """Describe the first file of a checkpoint that is missing or does not match its checksum; None if all match.

    `names` are the files to check; by default all.
    """
    name = "checksums.json"
    try:
        checksums = dict(read_json(folder / name))
        for name in checksums if names is None else names:
            if _sha256(folder / name) != checksums.get(name):
                return f"{name} does not match its checksum"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, PocketError, TypeError, ValueError):
        return f"{name} cannot be read"
    return None


def _is_intact(folder: Path) -> bool:
    damage = find_damage(folder)
    if damage:
        _report(folder, damage)
    return damage is None


@cache
def _report(folder: Path, damage: str) -> None:  # cached: printed once, however often the folder is checked
    print(f"pocketgpt: {folder} is damaged and was skipped: {damage}.", file=sys.stderr)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _n_bytes(values: Any) -> int:
    """Count the bytes of all tensors in nested dictionaries and lists."""
    if isinstance(values, torch.Tensor):
        return values.nbytes
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return sum(_n_bytes(value) for value in inner)


def _existing(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


def _validation_loss(folder: Path) -> float:
    try:
        return float(read_training(folder).get("validation_loss", math.inf))
    except (PocketError, OSError):
        return math.inf


def read_training(folder: Path) -> dict[str, Any]:
    """Read training.json; an empty dictionary if there is none."""
    file = folder / "training.json"
    return read_json(file) if file.is_file() else {}


def check_vocabulary(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint. Raises CheckpointError if its model has fewer tokens than its tokenizer."""
    tokens, rows = checkpoint.tokenizer.vocab_size, checkpoint.model.config.vocab_size
    if tokens > rows:
        raise CheckpointError(
            f"The parts of {checkpoint.folder} do not belong together: its tokenizer has {tokens} tokens, its model "
            f"{rows}. Copy tokenizer.json and model.safetensors from the same model."
        )
    return checkpoint
