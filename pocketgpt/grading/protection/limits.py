"""Resource limits of a notebook, set from within by the system; watch.py watches from outside.

The worker imports this before anything else, so the top of the file needs the standard library alone.
"""

import ctypes
import os
import re
import struct
import sys
from dataclasses import dataclass
from typing import Any

MIB = 1024**2

# From linux/prctl.h, seccomp.h, filter.h and audit.h.
_SET_DUMPABLE, _SET_SECCOMP, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _FILTER = 4, 22, 24, 38, 2
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN, _ALLOW, _NO_SUCH_CALL = 0x20, 0x15, 0x35, 0x06, 0x7FFF0000, 0x50000 + 38
# Memory that belongs to no process, which no limit and no watch would see (memfd_create, shmget, memfd_secret, semget,
# msgget, mq_open), and the keys of the instructor's session (add_key, request_key, keyctl).
_REFUSED = {
    "x86_64": (0xC000003E, (319, 29, 447, 64, 68, 240, 248, 249, 250)),
    "aarch64": (0xC00000B7, (279, 194, 447, 190, 186, 180, 217, 218, 219)),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes, counts and seconds. `asdict` gives plain values for JSON, and `Limits(**values)` reads them.

    memory     of each process (a MemoryError), and of all together (the watch ends them)
    file_size  of one file
    processes  threads count too
    open_files of each process, sockets too: what a socket buffers is memory of no process
    scratch    bytes in the scratch folder
    """

    memory: int = 4096 * MIB
    file_size: int = 256 * MIB
    processes: int = 256
    open_files: int = 256
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
    # Elsewhere RLIMIT_DATA limits little, and other programs of the user count as processes.
    if sys.platform != "linux":
        return
    _lower(resource, "RLIMIT_DATA", limits.memory)
    _lower(resource, "RLIMIT_NOFILE", limits.open_files)
    if _counts_alone():
        _lower(resource, "RLIMIT_NPROC", limits.processes)
    renounce()
    _refuse_calls()


def renounce() -> None:
    """No capability can be gained by starting a program, and no process without capabilities can look into this one."""
    for capability in range(64):  # those that the kernel does not have, or that are gone already, are refused: fine
        prctl(_CAPBSET_DROP, capability)
    prctl(_SET_NO_NEW_PRIVS, 1)
    prctl(_SET_DUMPABLE, 0)


def prctl(option: int, *values: int) -> None:
    """Each value as an unsigned long: after the first argument, a plain int of Python would be half of what is read."""
    padded = (*values, 0, 0, 0, 0)[:4]
    ctypes.CDLL(None).prctl(option, *map(ctypes.c_ulong, padded))


def _refuse_calls() -> None:
    """These calls fail as on a kernel without them. For memory that is shared, /dev/shm remains, which is limited."""
    if os.uname().machine not in _REFUSED:
        return
    architecture, calls = _REFUSED[os.uname().machine]
    refused = len(calls) + 2  # the last instruction
    program = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 0, refused + 1, architecture)]  # others number differently
    program += [(_LOAD, 0, 0, 0), (_IF_AT_LEAST, refused - 1, 0, 1 << 30)]  # so does x32
    program += [(_IF_EQUAL, len(calls) - at, 0, call) for at, call in enumerate(calls)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(header))


def kernel_release() -> tuple[int, ...]:
    """(6, 1) on Linux 6.1.55."""
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def _lower(resource: Any, name: str, most: int) -> None:
    """Never raised: an instructor's own lower limit stays."""
    which = getattr(resource, name)
    soft, hard = (most if now == resource.RLIM_INFINITY else min(most, now) for now in resource.getrlimit(which))
    resource.setrlimit(which, (soft, hard))


def _counts_alone() -> bool:
    """Return True if processes are counted in a user namespace of our own (one user in it, Linux 5.14).

    Elsewhere the limit would count the browser of the instructor too, and an honest notebook could start nothing.
    """
    if kernel_release() < (5, 14):
        return False
    try:
        with open("/proc/self/uid_map") as file:
            return [line.split()[2] for line in file] == ["1"]
    except FileNotFoundError:  # a sandbox of ours where /proc is forbidden
        return True
