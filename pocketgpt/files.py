"""File input and output: atomic writes (a temporary file, then a rename), and reads that report damaged files."""

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketgpt.errors import PocketError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically: yields a temporary path, renamed to `path` if the block ends without an error.

    Raises PocketError for a device, a pipe or a folder: renaming a file over /dev/null would break the machine.
    """
    if path.exists() and not path.is_file():
        raise PocketError(f"{path} is not a regular file and is not replaced: use the name of another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Replace a folder atomically: a temporary one beside it, on the disk with all its files before it is renamed.

    An existing folder at `path` is first renamed, and removed afterwards.
    """
    beside, old = (path.with_name(f".{path.name}.{os.getpid()}.{state}") for state in ("partial", "old.partial"))
    try:
        beside.mkdir(parents=True)
        yield beside
        for file in beside.iterdir():
            sync(file)
        sync(beside)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(beside, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise
        sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def check_writable(folder: Path, advice: str = "Use another folder.") -> None:
    """Create a folder, if missing, before work whose result goes there. Raises PocketError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PocketError(f"Nothing can be written to {folder}: {error.strerror}. {advice}") from error


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, so that a power failure does not lose them."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders and flushes names itself
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """Write JSON atomically."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors atomically. Raises OSError if that fails, as the other functions do."""
    with replacing(path) as beside:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def write_torch(path: Path, values: Any) -> None:
    """Write nested dictionaries and lists of tensors and plain values; `read_torch` reads them."""
    with replacing(path) as beside, beside.open("wb") as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:  # PyTorch hides a full disk behind a message about positions
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def read_json(path: Path) -> Any:
    """Read JSON. Raises PocketError if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        raise PocketError(f"{path} is damaged ({error}). Take it from another copy of the model.") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors onto the CPU. Raises PocketError if the file is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise PocketError(f"{path} is damaged or truncated ({error}). Copy or train it again.") from error


def read_torch(path: Path) -> Any:
    """Read a file of `write_torch` onto the CPU; no code in it is executed. Raises PocketError if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise PocketError(f"{path} is damaged ({error}). Take an earlier checkpoint.") from error
