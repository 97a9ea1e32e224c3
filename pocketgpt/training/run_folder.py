"""The folder of a run: a new one for each run, and one process at a time that writes to it."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pocketgpt.errors import PocketError
from pocketgpt.training.checkpoint import checkpoints
from pocketgpt.training.distributed import is_main

LOCK, OWNER = ".lock", ".owner"
"""Files of a run that is being written: the lock, and who has it."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own a run folder inside the block, created if missing; a process may do so several times.

    The operating system releases the lock of a process that was killed. Of several ranks, the main one owns the folder.
    Raises PocketError that names the owner, if another process has the folder, or if it cannot be written.
    """
    if not is_main():
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        owner = "another process"
        with suppress(OSError):
            owner = (folder / OWNER).read_text(encoding="utf-8")
        raise PocketError(
            f"{folder} is in use by {owner}. Wait until that run ends, stop it, or train into another folder."
        ) from error
    except OSError as error:
        raise PocketError(f"{folder} cannot be written: {error.strerror}. Give the run another folder.") from error
    (folder / OWNER).write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()
        if not lock.is_locked:
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()  # empty, if the run failed before its first checkpoint


def check_folder(folder: Path) -> None:
    """Raises PocketError if the folder is not empty. Partial checkpoints and locks do not count."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PocketError(f"{folder} is a file: give the run a folder, such as {free_folder(folder)}.")
    if all(file.name.endswith(".partial") or file.name in (LOCK, OWNER) for file in folder.iterdir()):
        return
    resume_it = f"resume it with `pocketgpt train --resume {folder}`, or " if checkpoints(folder) else ""
    raise PocketError(
        f"{folder} is not empty: {resume_it}give the run a folder of its own, such as {free_folder(folder)}."
    )


def new_folder(wanted: Path) -> Path:
    """Create `wanted`, or else the first of wanted-2, wanted-3, … that does not exist: no two runs get the same."""
    while True:
        folder = free_folder(wanted)
        with suppress(FileExistsError):  # another run was faster
            folder.mkdir(parents=True)
            return folder


def free_folder(wanted: Path) -> Path:
    """Return `wanted` if it does not exist, else the first of wanted-2, wanted-3, … that does not."""
    folder = wanted = wanted if wanted.name else wanted.resolve()  # "." has no name
    number = 2
    while folder.exists():
        folder = wanted.with_name(f"{wanted.name or 'run'}-{number}")
        number += 1
    return folder
