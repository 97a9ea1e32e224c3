"""Models that commands accept as `--model`: by name, our own checkpoints and runs, and published models."""

from pathlib import Path

import torch

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.saving import parse_config
from pocketgpt.pretrained.huggingface import convert_config, load_huggingface
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.training.checkpoint import Checkpoint, check_vocabulary, find_checkpoint, load_checkpoint, load_shipped

SHIPPED = "pocket-shakespeare"


def load_model_folder(model: str | Path = SHIPPED, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a model in evaluation mode, and its tokenizer.

    | `model`                                      | is                                     |
    |----------------------------------------------|----------------------------------------|
    | pocket-shakespeare, and no such folder       | the model that ships with the project  |
    | a folder of `pocketgpt train`                | its best checkpoint                    |
    | a checkpoint, such as step-000800            | that one                               |
    | a folder in the layout of the Hugging Face   | the published model, in float32        |
    | Hub                                          |                                        |

    Raises PocketError that names what is missing or damaged.
    """
    if _is_name(model, SHIPPED):
        return load_shipped(device)
    folder = Path(model)
    if not is_published(folder):
        return load_checkpoint(folder, device)
    gpt = load_huggingface(folder)
    if not (folder / "tokenizer.json").is_file():
        raise PocketError(
            f"{folder} contains a published model but no tokenizer.json, without which its tokens have no text: "
            "`hf download NAME tokenizer.json tokenizer_config.json --local-dir FOLDER` fetches it."
        )
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return check_vocabulary(Checkpoint(folder=folder, model=gpt.to(device), tokenizer=tokenizer, training={}))


def read_model_config(model: str | Path) -> ModelConfig:
    """The config of a model that `load_model_folder` loads, without its weights."""
    folder = find_checkpoint(Path(model))
    values = read_json(folder / "config.json")
    return convert_config(values) if is_published(folder) else parse_config(values, folder / "config.json")


def is_published(folder: Path) -> bool:
    """Return True for a folder in the layout of the Hugging Face Hub: its config.json names a `model_type`."""
    file = folder / "config.json"
    if not file.is_file():
        return False
    values = read_json(file)
    return isinstance(values, dict) and "model_type" in values


def _is_name(model: str | Path, name: str) -> bool:
    """Return True for the name of a model, unless a folder of that name exists."""
    return str(model) == name and not Path(model).exists()
