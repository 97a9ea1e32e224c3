"""From a preset and a recipe to a trained model in a folder."""

from collections.abc import Callable
from pathlib import Path

import torch

from pocketgpt.config import preset
from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT
from pocketgpt.text.batches import RandomWindows
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.text.tokens import prepare
from pocketgpt.training.precision import autocast, choose_device
from pocketgpt.training.recipe import TrainConfig
from pocketgpt.training.trainer import RunResult, Trainer


def train(
    preset_name: str,
    config: TrainConfig,
    folder: Path,
    write_sample: Callable[[GPT, Tokenizer], str] | None = None,
) -> RunResult:
    """Fetch and tokenize the corpus, build the model, train it, and leave everything in `folder`.

    The vocabulary of the model is the tokenizer's, and its dropout the recipe's.
    Raises PocketError if the folder holds a run already, and for all that the parts raise.
    """
    if folder.exists() and any(folder.iterdir()):
        raise PocketError(f"{folder} is not empty: give the run a folder of its own, such as {free_folder(folder)}.")
    autocast(choose_device(config.device), config.precision)  # a mistake here shows before the corpus is fetched
    tokenizer = Tokenizer.load(config.tokenizer)
    model_config = preset(preset_name, vocab_size=tokenizer.vocab_size, dropout=config.dropout)
    if config.seq_len > model_config.max_seq_len:
        raise PocketError(
            f"TrainConfig.seq_len = {config.seq_len} cannot work: use at most {model_config.max_seq_len}, "
            f"the max_seq_len of {preset_name}."
        )
    tokens = prepare(config.corpus, tokenizer, "train").tokens
    validation = prepare(config.corpus, tokenizer, "validation").tokens
    torch.manual_seed(config.seed)
    model = GPT(model_config)
    trainer = Trainer(
        model,
        tokenizer,
        RandomWindows(tokens, config.batch_size, config.seq_len, config.seed),
        validation,
        config,
        folder,
        preset=preset_name,
        write_sample=write_sample and (lambda model: write_sample(model, tokenizer)),
    )
    return trainer.run()


def free_folder(wanted: Path) -> Path:
    """`wanted` if nothing is there, else the first of wanted-2, wanted-3, … that is free."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder
