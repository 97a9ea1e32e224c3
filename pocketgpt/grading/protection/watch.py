"""Watching a command that is not trusted: what exceeds a limit is ended, and afterwards everything that it started."""

import os
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pocketgpt.grading.protection.limits import MIB, Limits

_POLL_SECONDS, _PATIENCE_SECONDS = 0.2, 20.0
_KEPT_OF_STDERR = 20_000  # bytes


@dataclass
class Running:
    """A started command.

    kind     of its sandbox
    folder   of its files, without a sandbox
    mark     in the environment of everything that it starts
    stopped  why the watch ended it, a sentence
    errors   the end of what it wrote to stderr
    """

    process: subprocess.Popen
    kind: str
    folder: Path
    mark: str
    stopped: str | None = None
    errors: bytearray = field(default_factory=bytearray)


@contextmanager
def watched(running: Running, limits: Limits) -> Iterator[Running]:
    """Watch it while the block runs; when the block ends, end all that it started, and close its pipes."""
    # Taken away from the process: whoever talks to it with `communicate` would read there too.
    stderr, running.process.stderr = running.process.stderr, None
    over = threading.Event()
    reader = threading.Thread(target=_keep_end, args=(stderr, running.errors), daemon=True)
    watch = threading.Thread(target=_watch, args=(running, limits, over), daemon=True)
    try:
        reader.start()
        watch.start()
        yield running
    finally:
        over.set()
        watch.join()
        end(running)
        reader.join(timeout=1)
        for pipe in (running.process.stdin, running.process.stdout):
            with suppress(OSError):  # what was not read by a process that is dead
                pipe.close()


def _keep_end(pipe: Any, kept: bytearray) -> None:
    """Read all that comes, so that it never waits for us, and keep the end. A thread."""
    with pipe:
        while piece := pipe.read1(65536):
            kept += piece
            del kept[:-_KEPT_OF_STDERR]


def _watch(running: Running, limits: Limits, over: threading.Event) -> None:
    """End what exceeds a limit, and say so. A thread."""
    while not over.wait(_POLL_SECONDS) and running.process.poll() is None:
        try:
            reason = overuse(_members(running), limits)
            if reason is None and running.kind == "none" and _size(running.folder) > limits.scratch:
                reason = f"It wrote more than {limits.scratch / MIB:,.0f} MiB, the limit of its scratch folder."
        except Exception as error:  # nothing runs unwatched
            reason = f"It could not be watched ({error!r})."
        if reason is not None:
            running.stopped = reason
            end(running)


def end(running: Running) -> None:
    """Kill everything that a run has started, and wait until it is gone."""
    if running.kind == "docker":
        subprocess.run(["docker", "kill", f"pocketgpt-{running.mark}"], capture_output=True)
    found: set[psutil.Process] = set()
    patience = time.monotonic() + _PATIENCE_SECONDS
    while found := {process for process in found if _alive(process)} | _members(running):
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        if time.monotonic() > patience:  # without a sandbox: a program of another user, which we may not kill
            break
        time.sleep(0.002)
    with suppress(subprocess.TimeoutExpired):
        running.process.wait(timeout=_PATIENCE_SECONDS)


def _members(running: Running) -> set[psutil.Process]:
    """All that a run has started and that is alive. In a PID namespace nothing can leave the tree of processes."""
    found: set[psutil.Process] = set()
    if running.process.poll() is None:
        with suppress(psutil.Error):
            root = psutil.Process(running.process.pid)
            found = {root, *root.children(recursive=True)}
    if running.kind == "none":
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get("POCKETGPT_RUN") == running.mark:
                    found.add(process)
    return {process for process in found if _alive(process)}


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def overuse(processes: Collection[psutil.Process], limits: Limits) -> str | None:
    """The sentence that says which limit these processes exceed together, or None."""
    tasks, resident = 0, 0
    for process in processes:
        with suppress(psutil.Error), process.oneshot():  # an error: it ended meanwhile
            tasks += process.num_threads()
            resident += process.memory_info().rss
    if tasks >= limits.processes:
        return f"It started {tasks} processes and threads; {limits.processes} is the limit."
    # Pages that processes share count once for each of them; the exact number takes milliseconds, so it comes second.
    if resident > limits.memory and (used := sum(map(_share, processes))) > limits.memory:
        return f"It used {used / MIB:,.0f} MiB of memory; {limits.memory / MIB:,.0f} MiB is the limit."
    return None


def _share(process: psutil.Process) -> int:
    """The memory of a process, with its part of what it shares where the system tells."""
    try:
        return getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
    except psutil.AccessDenied:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _size(folder: Path) -> int:
    if os.name != "nt":  # du goes deeper than Python can, and does not count holes
        said = subprocess.run(["du", "-sk", folder], capture_output=True).stdout
        return int(said.split()[0]) * 1024 if said else 0
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                size += os.path.getsize(os.path.join(place, name))
    return size
