"""Training runs: from the configs of model and training to a trained model in a folder; resuming a run."""

import hashlib
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.files import read_torch
from pocketgpt.models.classes import build_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack
from pocketgpt.text import corpora
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.text.shards import TokenFolder
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer
from pocketgpt.training.checkpoint import Checkpoint, checkpoints, find_damage, load_checkpoint, step_of
from pocketgpt.training.distributed import barrier, is_main, rank, world_size
from pocketgpt.training.initial_weights import begin_with, check_tokenizer, origin
from pocketgpt.training.objectives import OBJECTIVES, find_objective
from pocketgpt.training.prepare import autocast, check_compiler
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run_folder import check_folder, owned
from pocketgpt.training.trainer import RunResult, Trainer

# Settings that may change when a run is resumed: they do not change the result.
MAY_CHANGE = {"device", "compile", "activation_checkpointing", "head_chunk", "fsdp", "max_skipped"}
MAY_CHANGE |= {"eval_every", "save_every", "keep_every", "prompt", "batch_size", "accumulation"}
# Settings that may change too, with another result from there on.
CHANGES_RESULT = {"steps", "schedule", "warmup", "decay", "lr", "muon_lr", "final_lr", "weight_decay", "beta1", "beta2"}
CHANGES_RESULT |= {"clip", "repeats", "corpus", "text_field", "eval_tokens"}


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    folder: Path,
    device: torch.device | None = None,
    preset_name: str | None = None,
    initial: Checkpoint | None = None,
) -> RunResult:
    """Fetch and tokenize the corpus, build the model, train it, and save everything in `folder`.

    The vocabulary of the model is the tokenizer's and the extra tokens of the objective; its dropout is the recipe's.
    On several ranks, `device` is the one that `process_group` gave. `preset_name` is written into the checkpoints. With
    `initial`, the run begins with the weights and the tokenizer of that model; its files are not changed.
    Raises PocketError if the folder contains a run already.
    """
    check_folder(folder)
    config = with_absolute_paths(config)
    device = device or choose_device(config.device)
    check_machine(config, device)
    if initial is None:
        if config.lora_rank is not None:
            raise PocketError("--lora-rank trains pairs beside trained weights: use --init-from FOLDER with it.")
        tokenizer = load_tokenizer(config.tokenizer)
        vocab_size = tokenizer.vocab_size + len(OBJECTIVES[config.objective].extra_tokens)
        model_config = replace(model_config, vocab_size=vocab_size)
    else:
        tokenizer = check_tokenizer(config.tokenizer, initial)
    model_config = replace(model_config, dropout=config.dropout)
    find_objective(config, model_config, tokenizer)  # raises ConfigError before anything is fetched
    if config.seq_len > model_config.max_seq_len:
        raise PocketError(
            f"TrainConfig.seq_len = {config.seq_len} cannot work: use at most {model_config.max_seq_len}, "
            "the max_seq_len of the model."
        )
    with owned(folder):
        data = prepare_both(config.corpus, tokenizer, config.text_field)
        torch.manual_seed(config.seed)
        model = build_model(model_config) if initial is None else begin_with(initial, model_config)
        metadata = {"preset": preset_name, "data": fingerprints(data)}
        if initial is not None:
            metadata["initial_weights"] = origin(initial)
        return build_trainer(model, tokenizer, data, config, folder, device, metadata).run()


def resume(
    checkpoint: Path,
    config: TrainConfig | None = None,
    device: torch.device | None = None,
    folder: Path | None = None,
) -> RunResult:
    """Resume a run from one of its checkpoints, in its own folder or in a new one.

    As if it had never stopped, bit for bit, if the device, the number of processes and `config` are those of before.
    Settings of CHANGES_RESULT may change, which is reported on stderr. Raises PocketError for other changes, if the
    text of the same corpus has changed, or if later checkpoints of the folder would be replaced.
    """
    folder = folder or checkpoint.parent
    if folder == checkpoint.parent:
        check_last(checkpoint)
    else:
        check_folder(folder)
    with owned(folder):
        loaded = load_checkpoint(checkpoint)
        state = read_torch(checkpoint / "state.pt")
        saved = TrainConfig.from_dict(loaded.training["recipe"])
        config = with_absolute_paths(config or saved)
        check_changes(saved, config, loaded.training["processes"], loaded.training["step"])
        device = device or choose_device(config.device)
        check_machine(config, device)
        data = prepare_both(config.corpus, loaded.tokenizer, config.text_field)
        now, before = fingerprints(data), loaded.training.get("data")
        same_place = (config.corpus, config.text_field) == (with_absolute_paths(saved).corpus, saved.text_field)
        if before not in (now, None) and same_place:
            raise PocketError(
                f"The text of corpus {config.corpus!r} has changed since {checkpoint.parent} began to train on it. "
                "Restore the old text, or train from the beginning into another folder."
            )
        report_changes(saved, config, loaded.training["step"], same_text=now == before, text_known=before is not None)
        metadata = {"preset": loaded.training.get("preset"), "data": now}
        if "initial_weights" in loaded.training:
            metadata["initial_weights"] = loaded.training["initial_weights"]
        trainer = build_trainer(loaded.model, loaded.tokenizer, data, config, folder, device, metadata)
        trainer.restore(state)
        if config.eval_tokens != saved.eval_tokens or now["validation"] != (before or now)["validation"]:
            trainer.best = None  # measured on other text
        if folder != checkpoint.parent and is_main():
            copy_metrics(checkpoint.parent, folder)
        return trainer.run()


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make the paths of corpus and tokenizer absolute, so that the run resumes from any directory."""

    def absolute(name_or_path: str, names: tuple[str, ...]) -> str:
        path = Path(os.path.expanduser(name_or_path))
        return str(path.resolve()) if name_or_path not in ("", *names) and path.exists() else name_or_path

    return replace(
        config,
        corpus=absolute(config.corpus, corpora.NAMES),
        tokenizer=absolute(config.tokenizer, ("shakespeare", "gpt2")),
    )


def check_last(checkpoint: Path) -> None:
    """Raises PocketError if the run has later intact checkpoints, which resuming here would replace."""
    if checkpoint not in checkpoints(checkpoint.parent):
        raise PocketError(f"{checkpoint} is not in the folder of a run: use --out FOLDER to continue in a new one.")
    later = [each for each in checkpoints(checkpoint.parent) if step_of(each) > step_of(checkpoint)]
    intact = [each.name for each in later if find_damage(each) is None]
    if intact:
        raise PocketError(
            f"{checkpoint.parent} has later checkpoints, up to {intact[-1]}, which a run resumed from "
            f"{checkpoint.name} would replace: use --out FOLDER to continue in a folder of its own."
        )


def report_changes(saved: TrainConfig, config: TrainConfig, step: int, *, same_text: bool, text_known: bool) -> None:
    """Print on stderr what changes the result from this step on."""
    if not is_main():
        return
    old, new = asdict(saved), asdict(config)
    changed = [name for name in sorted(CHANGES_RESULT) if old[name] != new[name] and name != "corpus"]
    values = [f"{name} = {new[name]!r} instead of {old[name]!r}" for name in changed]
    if text_known and not same_text:
        values.append(f"the text of {config.corpus!r} instead of {saved.corpus!r}")
    if values:
        print(
            f"From step {step} on: {', '.join(values)}. The result is no longer that of one uninterrupted run.",
            file=sys.stderr,
        )
    if not text_known:
        print(
            f"This run has no record of its text: it continues on the corpus {config.corpus!r}, in our order.",
            file=sys.stderr,
        )


def copy_metrics(source: Path, target: Path) -> None:
    """Copy the metrics of a run to one that continues it; its log removes what is later than its first step."""
    if (source / "metrics.jsonl").is_file():
        shutil.copyfile(source / "metrics.jsonl", target / "metrics.jsonl")


def build_trainer(
    model: Stack,
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


def prepare_both(corpus: str, tokenizer: Tokenizer, text_field: str = "text") -> dict[str, TokenFolder]:
    """Load both splits; the main rank writes the token files, and the others open them."""
    if not is_main():
        barrier()
    data = {
        split: tokenize_corpus(corpus, tokenizer, split, text_field=text_field) for split in ("train", "validation")
    }
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


def check_changes(saved: TrainConfig, config: TrainConfig, processes: int, step: int) -> None:
    """Raises PocketError, with the old and the new value, for settings that a resumed run cannot change."""
    old, new = asdict(with_absolute_paths(saved)), asdict(config)
    changed = [name for name in old if old[name] != new[name] and name not in MAY_CHANGE | CHANGES_RESULT]
    if changed:
        values = ", ".join(f"{name} = {old[name]!r} and not {new[name]!r}" for name in changed)
        raise PocketError(
            f"This run was begun with {values}. Leave {'them' if len(changed) > 1 else 'it'} out to resume it, or "
            "train from the beginning into another folder."
        )
    if config.steps < step:
        raise PocketError(f"The checkpoint is at step {step} already: use --steps {step + 1} or more.")
    before, now = saved.tokens_per_step * processes, config.tokens_per_step * world_size()
    if before != now:
        raise PocketError(
            f"This run was begun with {before:,} tokens in a step: processes = {processes}, batch_size = "
            f"{saved.batch_size}, accumulation = {saved.accumulation}; now they would be {now:,}: {world_size()}, "
            f"{config.batch_size}, {config.accumulation}. Use values whose product is the same."
        )
