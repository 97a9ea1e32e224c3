"""Files: written so that a crash in the middle loses nothing (beside the old one, then renamed over it), and read so
that a damaged one says so."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketgpt.errors import PocketError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as beside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)


def read_json(path: Path) -> Any:
    """Raises PocketError if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise PocketError(f"{path} is damaged ({error}). Take it from another copy of the model.") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Raises PocketError if the file is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise PocketError(f"{path} is damaged or cut short ({error}). Copy or train it again.") from error
