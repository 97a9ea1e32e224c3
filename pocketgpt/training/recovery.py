"""Recovery: saving before an interrupted run stops, and error messages that name the last checkpoint to resume from."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from pocketgpt.errors import PocketError
from pocketgpt.training.checkpoint import CheckpointError, latest_intact
from pocketgpt.training.objectives import OBJECTIVES
from pocketgpt.training.prepare import compiler_failure
from pocketgpt.training.recipes import TrainConfig


class OutOfMemory(PocketError):
    """Error for a step that does not fit into the memory of the device."""


@contextmanager
def with_recovery_hint(folder: Path, config: TrainConfig) -> Iterator[None]:
    """Convert errors the user can fix (out of memory, full disk, no compiler) into a PocketError with instructions.

    A KeyboardInterrupt stays one, with how to continue.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(how_to_continue(folder)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{error} {how_to_continue(folder)}") from error
    except OSError as error:
        place = os.fsdecode(error.filename or folder)
        raise PocketError(
            f"{place} cannot be used: {error.strerror or error}. {remedy(error)} {how_to_continue(folder)}"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"Out of memory. {memory_advice(config)} {how_to_continue(folder)}") from error
        if failure := compiler_failure(error):
            raise PocketError(f"{failure} {how_to_continue(folder)}") from error
        raise


def remedy(error: OSError) -> str:
    """What to do, before a run continues, about a file or folder that cannot be used."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Make room first."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Make it writable first."
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return "Another file or folder is in its place: move that away first."
    return "Look after the disk first."


def is_out_of_memory(error: Exception) -> bool:
    """True if memory ran out, which is an error class of its own on GPUs and one of many RuntimeErrors on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def memory_advice(config: TrainConfig) -> str:
    """Suggest settings that need less memory and do not change the result, with values that would work."""
    ways = []
    if config.batch_size > 1:
        halves = f"--batch-size {config.batch_size // 2} --accumulation {config.accumulation * 2}"
        same = ", the same batch in smaller parts" if config.batch_size % 2 == 0 else ""
        ways.append(f"{halves}{same}")
    if not config.activation_checkpointing:
        ways.append("--activation-checkpointing")
    smaller = 4096 if config.head_chunk is None else config.head_chunk // 2
    if OBJECTIVES[config.objective].in_chunks and 0 < smaller < config.batch_size * config.seq_len:
        ways.append(f"--head-chunk {smaller}")
    return f"Use {', or '.join(ways)}." if ways else f"Use a shorter --seq-len, such as {config.seq_len // 2}."


def how_to_continue(folder: Path) -> str:
    """Name the last intact checkpoint of a run, and the command that continues from it."""
    try:
        last = latest_intact(folder)
    except CheckpointError:
        return "Nothing has been saved yet."
    return f"The last good checkpoint is {last}; `pocketgpt train --resume {folder}` continues from it."


@contextmanager
def interrupt_after_step() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C, and the SIGTERM that clusters send before the end of a job, to the end of the step.

    Yields a function that is true after either of them.

    A second Ctrl-C interrupts at once, but not under torchrun, which forwards the Ctrl-C that its processes received
    already; it kills them itself, after 30 seconds. Outside the main thread, where signals cannot be caught, nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    interrupted, passed_on = False, "TORCHELASTIC_RUN_ID" in os.environ

    def remember(signal_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted and os.environ.get("RANK", "0") == "0":
            # os.write, because a handler may run in the middle of a print.
            again = "" if passed_on else " Ctrl-C again stops at once."
            os.write(2, f"\nFinishing the step, then saving.{again}\n".encode())
        interrupted = True
        if not passed_on:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    if hasattr(signal, "SIGHUP"):  # a closed terminal ends the printing, not the training
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield lambda: interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
