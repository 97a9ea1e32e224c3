"""Models that commands accept as `--model`: by name, our own checkpoints and runs, and published models."""

from pathlib import Path

import torch

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.saving import parse_config
from pocketgpt.pretrained.gguf import load_gguf, load_gguf_config
from pocketgpt.pretrained.gguf_tokenizer import load_gguf_tokenizer
from pocketgpt.pretrained.huggingface import convert_config, load_huggingface
from pocketgpt.pretrained.smollm2 import NAME as SMOLLM2
from pocketgpt.pretrained.smollm2 import fetch_smollm2
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
    | smollm2, and no such folder                  | SmolLM2-135M-Instruct, fetched once    |
    | a folder in the layout of the Hugging Face   | the published model, in float32        |
    | Hub                                          |                                        |
    | a file that ends in .gguf                    | the published model, in float32        |

    Raises PocketError that names what is missing or damaged.
    """
    if _is_name(model, SHIPPED):
        return load_shipped(device)
    folder = find_model(model)
    if folder.suffix == ".gguf" and not folder.is_dir():
        gpt, tokenizer = load_gguf(folder), load_gguf_tokenizer(folder)
        return check_vocabulary(Checkpoint(folder=folder, model=gpt.to(device), tokenizer=tokenizer, training={}))
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
    folder = find_model(model)
    if folder.suffix == ".gguf" and not folder.is_dir():
        return load_gguf_config(folder)
    folder = find_checkpoint(folder)
    values = read_json(folder / "config.json")
    return convert_config(values) if is_published(folder) else parse_config(values, folder / "config.json")


def find_model(model: str | Path) -> Path:
    """The folder or file of a model; that of smollm2 is fetched if it is not there yet."""
    return fetch_smollm2() if _is_name(model, SMOLLM2) else Path(model)


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
