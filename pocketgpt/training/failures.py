"""What can stop a run, and what its message says: what happened, what is safe, and how to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pocketgpt.errors import PocketError
from pocketgpt.training.checkpoint import CheckpointError, latest_intact
from pocketgpt.training.compiling import compiler_failure
from pocketgpt.training.recipe import TrainConfig


class OutOfMemory(PocketError):
    """The step does not fit into the memory of the device."""


@contextmanager
def explained(folder: Path, config: TrainConfig) -> Iterator[None]:
    """Inside the block, an error that a person can mend becomes a PocketError that says how."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{error} {how_to_go_on(folder)}") from error
    except OSError as error:
        raise PocketError(f"{error.filename or folder} cannot be used: {error}. {how_to_go_on(folder)}") from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"Out of memory. {what_to_lower(config)} {how_to_go_on(folder)}") from error
        if failure := compiler_failure(error):
            raise PocketError(f"{failure} {how_to_go_on(folder)}") from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """PyTorch has an error of its own for GPUs; on the CPU it is one among many RuntimeErrors."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def what_to_lower(config: TrainConfig) -> str:
    """Settings that need less memory and leave what is computed as it is, with values that would work."""
    ways = []
    if config.batch_size > 1:
        halves = f"--batch-size {config.batch_size // 2} --accumulation {config.accumulation * 2}"
        same = ", the same batch in smaller parts" if config.batch_size % 2 == 0 else ""
        ways.append(f"{halves}{same}")
    if not config.activation_checkpointing:
        ways.append("--activation-checkpointing")
    smaller = 4096 if config.head_chunk is None else config.head_chunk // 2
    if 0 < smaller < config.batch_size * config.seq_len:
        ways.append(f"--head-chunk {smaller}")
    return f"Use {', or '.join(ways)}." if ways else f"Use a shorter --seq-len, such as {config.seq_len // 2}."


def how_to_go_on(folder: Path) -> str:
    """What is safe, and the command that goes on from there."""
    try:
        last = latest_intact(folder)
    except CheckpointError:
        return "Nothing has been saved yet."
    return f"The last good checkpoint is {last}; `pocketgpt train --resume {folder}` goes on from it."
