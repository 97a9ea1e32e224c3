"""Limits are plain values, and hold in the process that applies them and in all that it starts."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict

import psutil
import pytest

from pocketgpt.grading.protection.limits import MIB, Limits
from pocketgpt.grading.protection.watch import overuse

linux = pytest.mark.skipif(sys.platform != "linux", reason="what the system limits differs; this is what Linux does")
APPLY = (
    "from pocketgpt.grading.protection.limits import MIB, Limits, apply; "
    "apply(Limits(memory=300 * MIB, file_size=MIB));"
)


def said(code: str, check: bool = True) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check).stdout.strip()


def child(code: str) -> str:
    """Code that runs `code` in a child process."""
    return f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"


def test_limits_survive_json():
    limits = Limits(memory=7, cell_seconds=1.5)
    assert Limits(**json.loads(json.dumps(asdict(limits)))) == limits


def test_limits_are_imported_with_the_standard_library_alone():
    code = "import sys, pocketgpt.grading.protection.limits; print({'torch', 'numpy', 'psutil'} & set(sys.modules))"
    assert said(code) == "set()"


@linux
def test_too_much_memory_is_a_memory_error_in_a_child_too():
    hog = "\ntry: bytearray(400 * 1024**2)\nexcept MemoryError: print('MemoryError')"
    assert said(APPLY + hog) == "MemoryError"
    assert said(APPLY + child(hog)).startswith("MemoryError")


@linux
def test_a_file_that_is_too_large_is_an_error(tmp_path):
    write = (
        f"\ntry: open({str(tmp_path / 'file')!r}, 'wb').write(bytes(2 * MIB))\nexcept OSError as e: print(e.strerror)"
    )
    assert said(APPLY + write) == "File too large"
    assert (tmp_path / "file").stat().st_size <= MIB


@linux
def test_a_crash_writes_no_memory_to_disk():
    assert said("import resource;" + APPLY + "print(resource.getrlimit(resource.RLIMIT_CORE))") == "(0, 0)"


@linux
def test_a_lower_limit_of_the_system_stays():
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5, 9));"
    assert said(code + APPLY + "print(resource.getrlimit(resource.RLIMIT_FSIZE))") == "(5, 9)"


@linux
def test_outside_a_namespace_the_processes_of_the_user_are_not_limited():
    code = "import resource; before = resource.getrlimit(resource.RLIMIT_NPROC);"
    assert said(code + APPLY + "print(resource.getrlimit(resource.RLIMIT_NPROC) == before)") == "True"


@linux
def test_no_program_that_is_started_gains_capabilities():
    status = said(APPLY + child("print(open('/proc/self/status').read())"))
    lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert lines["NoNewPrivs"] == "1"
    assert int(lines["CapEff"], 16) == 0


def test_overuse_names_the_limit_that_is_exceeded():
    here = [psutil.Process()]
    assert overuse(here, Limits(memory=10 * 1024 * MIB, processes=10_000)) is None
    assert "10 MiB is the limit" in overuse(here, Limits(memory=10 * MIB, processes=10_000))
    assert "1 is the limit" in overuse(here, Limits(processes=1))


@linux
def test_memory_that_processes_share_counts_once():
    code = """
import os, psutil, time
from pocketgpt.grading.protection.limits import MIB, Limits
from pocketgpt.grading.protection.watch import overuse
kept = bytearray(os.urandom(1) * 100 * MIB)
for _ in range(5):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
children = psutil.Process().children()
print(overuse([psutil.Process(), *children], Limits(memory=300 * MIB)))
for each in children:
    each.kill()
"""
    assert said(code) == "None"


@linux
def test_memory_that_belongs_to_no_process_is_refused():
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create("hoard")
except OSError as error:
    print(error.strerror)
name, any_key, create = b"/hoard", 0, 0o1600
calls = [(libc.shmget, any_key, 4096, create), (libc.semget, any_key, 1000, create), (libc.msgget, any_key, create)]
for call, *values in [*calls, (libc.mq_open, name, os.O_CREAT | os.O_RDWR, 0o600, None)]:
    print(call(*values), os.strerror(ctypes.get_errno()))
"""
    assert said(APPLY + code).splitlines() == ["Function not implemented"] + 4 * ["-1 Function not implemented"]


@linux
def test_the_buffers_of_sockets_are_bounded_by_their_number():
    code = """
import socket
pairs = []
try:
    while len(pairs) < 10_000:
        pairs.append(socket.socketpair())
except OSError as error:
    print(error.strerror, len(pairs) <= 128)
"""
    assert said(APPLY + code) == "Too many open files True"


@linux
def test_the_keys_of_the_session_cannot_be_read():
    calls = "{'x86_64': 250, 'aarch64': 219}"
    code = f"import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); n = {calls}[os.uname().machine];"
    code += "libc.syscall(n, 0, -3, 1); print(os.strerror(ctypes.get_errno()))"
    assert said(APPLY + code) == "Function not implemented"


@linux
def test_the_numbers_of_another_architecture_are_refused_too():
    """A 64-bit program can make the calls of a 32-bit one, where memfd_create has the number 356."""
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\xb8" + (356).to_bytes(4, "little") + b"\\x53\\x31\\xdb\\x31\\xc9\\xcd\\x80\\x5b\\xc3")
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    if platform.machine() != "x86_64" or said(code, check=False) != "-14":  # EFAULT: the call was made
        pytest.skip("this machine does not run 32-bit programs")
    assert said(APPLY + code) == "-38"  # ENOSYS
