"""Training runs: from the configs of model and training to a trained model in a folder; resuming a run."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.files import read_torch
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.text.shards import TokenFolder
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer
from pocketgpt.training.checkpoint import load_checkpoint
from pocketgpt.training.distributed import barrier, is_main, rank, world_size
from pocketgpt.training.prepare import autocast, check_compiler
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run_folder import check_folder, owned
from pocketgpt.training.trainer import RunResult, Trainer

# Settings that may change when a run is resumed: they do not change the result.
MAY_CHANGE = {"device", "compile", "activation_checkpointing", "head_chunk", "fsdp", "max_skipped"}
MAY_CHANGE |= {"eval_every", "save_every", "keep_every", "prompt", "batch_size", "accumulation"}


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    folder: Path,
    device: torch.device | None = None,
    preset_name: str | None = None,
) -> RunResult:
    """Fetch and tokenize the corpus, build the model, train it, and save everything in `folder`.

    The vocabulary of the model is the tokenizer's, and its dropout the recipe's. On several ranks, `device` is the one
    that `process_group` gave. `preset_name` is written into the checkpoints. Raises PocketError if the folder contains
    a run already.
    """
    check_folder(folder)
    device = device or choose_device(config.device)
    check_machine(config, device)
    tokenizer = load_tokenizer(config.tokenizer)
    model_config = replace(model_config, vocab_size=tokenizer.vocab_size, dropout=config.dropout)
    if config.seq_len > model_config.max_seq_len:
        raise PocketError(
            f"TrainConfig.seq_len = {config.seq_len} cannot work: use at most {model_config.max_seq_len}, "
            "the max_seq_len of the model."
        )
    with owned(folder):
        data = prepare_both(config.corpus, tokenizer)
        torch.manual_seed(config.seed)
        model = GPT(model_config)
        metadata = {"preset": preset_name, "data": fingerprints(data)}
        return build_trainer(model, tokenizer, data, config, folder, device, metadata).run()


def resume(
    checkpoint: Path,
    config: TrainConfig | None = None,
    device: torch.device | None = None,
) -> RunResult:
    """Resume a run from one of its checkpoints, as if it had never stopped.

    Bit for bit, if the device, the number of processes and `config` are those of before. Raises PocketError if `config`
    would change the result, or the corpus is not the one that the run began with.
    """
    with owned(checkpoint.parent):
        loaded = load_checkpoint(checkpoint)
        state = read_torch(checkpoint / "state.pt")
        saved = TrainConfig.from_dict(loaded.training["recipe"])
        config = config or saved
        check_changes(saved, config, loaded.training["processes"])
        device = device or choose_device(config.device)
        check_machine(config, device)
        data = prepare_both(config.corpus, loaded.tokenizer)
        if fingerprints(data) != loaded.training["data"]:
            raise PocketError(
                f"The text of corpus {config.corpus!r} has changed since {checkpoint.parent} began to train on it. "
                "Restore the old text, or train from the beginning into another folder."
            )
        metadata = {name: loaded.training[name] for name in ("preset", "data")}
        trainer = build_trainer(loaded.model, loaded.tokenizer, data, config, checkpoint.parent, device, metadata)
        trainer.restore(state)
        return trainer.run()


def build_trainer(
    model: GPT,
    tokenizer: Tokenizer,
    data: dict[str, TokenFolder],
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    metadata: dict[str, Any],
) -> Trainer:
    """Build the trainer of a run, with the windows of this rank."""
    batches = ShuffledWindows(
        data["train"].tokens,
        config.batch_size,
        config.seq_len,
        config.seed,
        rank=rank(),
        world_size=world_size(),
        repeats=config.repeats,
    )
    return Trainer(
        model,
        tokenizer,
        batches,
        data["validation"].tokens,
        config,
        folder,
        device=device,
        validation_bytes=data["validation"].n_bytes,
        metadata=metadata,
    )


def prepare_both(corpus: str, tokenizer: Tokenizer) -> dict[str, TokenFolder]:
    """Load both splits; the main rank writes the token files, and the others open them."""
    if not is_main():
        barrier()
    data = {split: tokenize_corpus(corpus, tokenizer, split) for split in ("train", "validation")}
    if is_main():
        barrier()
    return data


def fingerprints(data: dict[str, TokenFolder]) -> dict[str, str]:
    """Checksum of the tokens of each split, from the checksums of its shards."""
    shards = {split: "".join(header.ids_sha256 for header in tokens.headers) for split, tokens in data.items()}
    return {split: hashlib.sha256(checksums.encode()).hexdigest() for split, checksums in shards.items()}


def check_machine(config: TrainConfig, device: torch.device) -> None:
    """Raises PocketError, before anything is fetched or built, if the device cannot do what the recipe asks for."""
    autocast(device, config.precision)
    if config.compile:
        check_compiler(device)


def check_changes(saved: TrainConfig, config: TrainConfig, processes: int) -> None:
    """Raises PocketError, with the old and the new value, if a resumed run has settings that change its result."""
    old, new = asdict(saved), asdict(config)
    changed = [name for name in old if old[name] != new[name] and name not in MAY_CHANGE]
    if changed:
        values = ", ".join(f"{name} = {old[name]!r} and not {new[name]!r}" for name in changed)
        raise PocketError(
            f"This run was begun with {values}. Leave {'them' if len(changed) > 1 else 'it'} out to resume it, or "
            "train from the beginning into another folder."
        )
    before, now = saved.tokens_per_step * processes, config.tokens_per_step * world_size()
    if before != now:
        raise PocketError(
            f"This run was begun with {before:,} tokens in a step: processes = {processes}, batch_size = "
            f"{saved.batch_size}, accumulation = {saved.accumulation}; now they would be {now:,}: {world_size()}, "
            f"{config.batch_size}, {config.accumulation}. Use values whose product is the same."
        )
