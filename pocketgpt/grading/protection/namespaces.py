"""A program that enters a root of its own and runs a command there: `python -m …namespaces PLAN COMMAND…`.

What bubblewrap does, for systems without it (Linux 5.12). PLAN is JSON: {"mounts": [[how, what, where], …], "folder":
…, "processes": …}; the mounts are made in their order:
  bind      what is outside at `what` is seen at `where`, and cannot be changed
  link      a symbolic link to `what`
  empty     an empty folder that stays empty: it hides what a bind would show
  scratch   an empty folder to write to, of `what` bytes
  proc, dev the processes of the sandbox, the harmless devices
Three processes: the outer one waits, the first inside reaps orphans, the second is the command. When any of them dies,
all that runs inside dies. Only the standard library is needed.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from pocketgpt.grading.protection.limits import kernel_release, prctl, renounce

# From linux/sched.h, mount.h, prctl.h, if.h and sockios.h.
_NEW_ALL = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user mount pid net ipc uts
_BIND, _REC, _PRIVATE, _DETACH = 4096, 16384, 1 << 18, 2
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SET_PDEATHSIG = 1
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_LEAST_PID_MAX = 301  # the kernel keeps 300 for itself
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict, command: list[str]) -> int:
    """The exit status of the command, 128 + the signal's number if it was killed."""
    die_with_parent()
    user, group = os.geteuid(), os.getegid()
    call("unshare", _NEW_ALL)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return in_child(lambda: inside(plan, command))


def inside(plan: dict, command: list[str]) -> int:
    die_with_parent()
    limit_namespace(plan["processes"])
    raise_loopback()
    build_root(plan["mounts"])
    os.makedirs(plan["folder"], exist_ok=True)
    os.chdir(plan["folder"])
    drop_capabilities()
    return in_child(lambda: os.execvp(command[0], command))


def in_child(work) -> int:
    """Run `work` in a child, and reap every orphan meanwhile."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except OSError as error:
            os.write(2, f"{error.strerror}: {error.filename or ''}\n".encode())
        finally:
            os._exit(126)
    while True:
        ended, status = os.wait()
        if ended == child:
            return status >> 8 if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def limit_namespace(processes: int) -> None:
    """No user namespaces in this one; and no more than so many process numbers, which binds root too.

    Before Linux 6.14 the second was a setting of the whole machine.
    """
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    if kernel_release() >= (6, 14):
        Path("/proc/sys/kernel/pid_max").write_text(str(_LEAST_PID_MAX + processes))


def raise_loopback() -> None:
    """Bring up the only network interface: Jupyter's kernels talk over 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1] | _UP
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags))


def build_root(mounts: list[list[str]]) -> None:
    """Mount what the plan says below an empty folder, and make that the root; the old one is gone."""
    mount(None, "/", None, _REC | _PRIVATE)  # what the machine mounts later stays outside
    mount("tmpfs", "/tmp", "tmpfs", _NO_SUID | _NO_DEV, "mode=755,size=1m")  # any folder that every system has
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    call("pivot_root", b"/tmp", b"/tmp/old")
    old, new = Path("/old"), Path("/new")
    mount("tmpfs", new, "tmpfs", _NO_SUID | _NO_DEV, "mode=755,size=1m")
    sealed = [new]
    for how, what, where in mounts:
        place, source = new / where.lstrip("/"), old / what.lstrip("/")
        if how == "link":
            place.symlink_to(what)
            continue
        make(place, folder=how != "bind" or source.is_dir())
        if how == "bind":
            mount(source, place, None, _BIND | _REC)
            restrict(place, _READ_ONLY | _NO_SUID | _NO_DEV, _AT_RECURSIVE)
        elif how == "empty":
            mount("tmpfs", place, "tmpfs", _NO_SUID | _NO_DEV, "mode=755,size=1m")
            sealed.append(place)
        elif how == "scratch":
            mount("tmpfs", place, "tmpfs", _NO_SUID | _NO_DEV, f"mode=700,size={what},nr_inodes=100k")
        elif how == "proc":
            mount("proc", place, "proc", _READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC)
        elif how == "dev":
            mount("tmpfs", place, "tmpfs", _NO_SUID | _NO_EXEC, "mode=755,size=1m")
            build_dev(place, old / "dev")
            sealed.append(place)
    for place in sealed:
        restrict(place, _READ_ONLY)
    os.chdir(new)
    call("pivot_root", b".", b".")
    call("umount2", b".", _DETACH)
    os.chdir("/")


def build_dev(dev: Path, old: Path) -> None:
    for name in DEVICES:
        make(dev / name, folder=False)
        mount(old / name, dev / name, None, _BIND)
        restrict(dev / name, _READ_ONLY | _NO_SUID | _NO_EXEC)  # can still be written to, but not changed
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (dev / name).symlink_to(f"/proc/self/fd{target}")
    make(dev / "shm", folder=True)
    make(dev / "pts", folder=True)  # IPython's `!command` runs in a terminal of its own
    mount("devpts", dev / "pts", "devpts", _NO_SUID | _NO_EXEC, "newinstance,ptmxmode=0666,mode=620")
    (dev / "ptmx").symlink_to("pts/ptmx")


def make(place: Path, folder: bool) -> None:
    """An empty place to mount on, if nothing is there."""
    (place if folder else place.parent).mkdir(parents=True, exist_ok=True)
    if not folder and not place.exists():
        place.touch()


def restrict(place: Path, flags: int, how: int = 0) -> None:
    """Add flags to a mount; those it has stay."""
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)  # struct mount_attr: set, clear, propagation, user namespace
    call("syscall", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(place), how, attributes, len(attributes))


def mount(what, where, kind: str | None, flags: int, options: str = "") -> None:
    texts = [None if text is None else os.fsencode(text) for text in (what, where, kind)]
    call("mount", *texts, ctypes.c_ulong(flags), options.encode() or None, about=where)


def drop_capabilities() -> None:
    """None now (version 3, this process: all zero), and none by starting a program."""
    renounce()
    call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def die_with_parent() -> None:
    prctl(_SET_PDEATHSIG, signal.SIGKILL)


def call(name: str, *arguments, about="") -> None:
    """Call a function of the C library; raises OSError if it fails."""
    if getattr(libc, name)(*arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}", str(about))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
