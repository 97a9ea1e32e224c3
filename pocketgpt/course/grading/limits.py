"""What a notebook may use: set from within, by the system, and watched from outside.

The worker imports this before anything else, so the top of the file needs the standard library alone.
"""

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

MIB = 1024**2

# From linux/prctl.h.
_SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 4, 24, 38


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes, counts and seconds. `asdict` gives plain values for JSON, and `Limits(**values)` reads them.

    memory     of each process (a MemoryError), and of all together (the watch ends them)
    file_size  of one file
    processes  threads count too
    scratch    bytes in the scratch folder
    """

    memory: int = 4096 * MIB
    file_size: int = 256 * MIB
    processes: int = 256
    scratch: int = 512 * MIB
    cell_seconds: float = 60.0
    notebook_seconds: float = 600.0


def apply(limits: Limits) -> None:
    """Limit this process and all that it starts from now on; on a system that cannot, do what it can.

    Memory is limited as RLIMIT_DATA, what a process can write to, not as RLIMIT_AS: address space also counts what is
    only reserved or mapped from files, 0.6 GB for a PyTorch without CUDA and many more with it.
    No other process of the same user can then look into this one (its open files, its memory).
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    _lower(resource, "RLIMIT_CORE", 0)
    _lower(resource, "RLIMIT_FSIZE", limits.file_size)
    if (
        sys.platform != "linux"
    ):  # elsewhere RLIMIT_DATA limits little, and other programs of the user count as processes
        return
    _lower(resource, "RLIMIT_DATA", limits.memory)
    if _counts_alone():
        _lower(resource, "RLIMIT_NPROC", limits.processes)
    renounce()


def renounce() -> None:
    """No capability can be gained by starting a program, and no process without capabilities can look into this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):  # those that the kernel does not have, or that are gone already, are refused: fine
        libc.prctl(_CAPBSET_DROP, ctypes.c_ulong(capability), *_zeros(3))
    libc.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *_zeros(3))
    libc.prctl(_SET_DUMPABLE, *_zeros(4))


def kernel_release() -> tuple[int, ...]:
    """(6, 1) on Linux 6.1.55."""
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def _lower(resource: Any, name: str, most: int) -> None:
    """Never raised: an instructor's own lower limit stays."""
    which = getattr(resource, name)
    soft, hard = (most if now == resource.RLIM_INFINITY else min(most, now) for now in resource.getrlimit(which))
    resource.setrlimit(which, (soft, hard))


def _counts_alone() -> bool:
    """Whether processes are counted in a user namespace of our own (one user in it, Linux 5.14).

    Elsewhere the limit would count the browser of the instructor too, and an honest notebook could start nothing.
    """
    with open("/proc/self/uid_map") as file:
        users = [line.split()[2] for line in file]
    return users == ["1"] and kernel_release() >= (5, 14)


def _zeros(n: int) -> list[ctypes.c_ulong]:
    return [ctypes.c_ulong(0)] * n


def overuse(processes: list[Any], limits: Limits) -> str | None:
    """The sentence that says which limit these processes (of psutil) exceed together, or None."""
    import psutil

    tasks, resident = 0, 0
    for process in processes:
        try:
            with process.oneshot():
                tasks += process.num_threads()
                resident += process.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
    if tasks >= limits.processes:
        return f"It started {tasks} processes and threads; {limits.processes} is the limit."
    # Pages that processes share count once for each of them; the exact number takes milliseconds, so it comes second.
    if resident > limits.memory and (used := sum(map(_share, processes))) > limits.memory:
        return f"It used {used / MIB:,.0f} MiB of memory; {limits.memory / MIB:,.0f} MiB is the limit."
    return None


def _share(process: Any) -> int:
    """The memory of a process, with its part of what it shares."""
    import psutil

    try:
        return getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
    except psutil.AccessDenied:
        return process.memory_info().rss
    except psutil.Error:
        return 0
