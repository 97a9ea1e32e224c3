"""Running a command that is not trusted: without network, with the interpreter and this package as all that it sees.

Bubblewrap or our own namespaces.py mounts the same list; a container does it instead. Where there is none
of them, the report says so.
"""

import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.grading.protection import namespaces
from pocketgpt.grading.protection.limits import MIB, Limits
from pocketgpt.grading.protection.mounts import INSIDE, SCRATCH, environment, font_caches, plan
from pocketgpt.grading.protection.watch import Running, watched

_TRIAL = """
import pocketgpt.grading.protection.limits, socket
socket.create_server(('127.0.0.1', 0))
print('entered', pocketgpt.__path__[0])
"""


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A way of running things that was tried and works.

    kind    bubblewrap, namespaces, docker or none
    lines   what it protects and what not: the first lines of a report
    hidden  files and folders that stay hidden where a visible folder contains them
    proc    whether /proc can be mounted in it (some containers forbid it)
    image   of the container
    place   the folder of this package inside
    package a folder that is seen there instead; None for the package itself
    """

    kind: str
    lines: tuple[str, ...]
    limits: Limits
    hidden: tuple[Path, ...] = ()
    proc: bool = True
    image: str | None = None
    place: str = ""
    package: Path | None = None


def choose(
    limits: Limits, *, kind: str | None = None, docker: str | None = None, hidden: Sequence[Path] = ()
) -> Sandbox:
    """The best sandbox of this machine, each tried by running Python in it.

    kind: take this one; docker: take a container of this image; hidden: what a notebook must not see, even inside a
    folder that it sees.

    Raises PocketError if the one that was asked for does not work.
    """
    kinds = ["bubblewrap", "namespaces"]
    if _is_root():  # who owns the devices; bubblewrap cannot make them read-only, nor limit the processes of root
        kinds.reverse()
    if docker is not None:
        kinds = ["docker"]
    elif kind is not None:
        kinds = [kind]
    hidden = tuple(path.resolve() for path in hidden)
    reasons = []
    for each, proc in itertools.product(kinds, (True, False)):
        lines = _lines(each, limits, proc)
        sandbox = Sandbox(kind=each, lines=lines, limits=limits, hidden=hidden, proc=proc, image=docker)
        place, reason = _tried(sandbox)
        if place:
            return replace(sandbox, place=place)
        if proc:  # one reason for each kind
            reasons.append(f"{each}: {reason}")
    if len(kinds) == 1:
        raise PocketError(f"This sandbox does not work here. {reasons[0]}")
    lines = (*_lines("none", limits, True), *reasons)
    return Sandbox(kind="none", lines=lines, limits=limits, hidden=hidden)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _lines(kind: str, limits: Limits, proc: bool) -> tuple[str, ...]:
    amounts = (
        f"{limits.memory / MIB:,.0f} MiB of memory, {limits.processes} processes and threads, "
        f"files of {limits.file_size / MIB:,.0f} MiB, a scratch folder of {limits.scratch / MIB:,.0f} MiB"
    )
    if kind == "none":
        return (
            "No sandbox: neither bubblewrap nor user namespaces are used. A notebook can read and write your files and "
            "use the network. Grade in a container (--docker IMAGE), or on Linux with bubblewrap.",
            f"Limits, watched from outside: {amounts}. What a notebook leaves running is found by a mark in its "
            "environment, which hostile code can remove.",
        )
    name = {"namespaces": "user namespaces", "docker": "a Docker container"}.get(kind, kind)
    sees = "only its image" if kind == "docker" else "only Python, the programs of the system and this package"
    exposed = kind == "bubblewrap" and _is_root()
    return (
        f"Sandbox: {name}. No network. Outside its scratch folder a notebook sees {sees}, read-only.",
        f"Limits: {amounts}. When a run ends, so does everything that it started.",
        *(("You are root, so a notebook could change the permissions of /dev/null.",) if exposed else ()),
        *(() if proc else ("This system forbids a /proc of its own to a sandbox, so notebooks run without /proc.",)),
    )


def _tried(sandbox: Sandbox) -> tuple[str, str]:
    """The folder of this package in the sandbox, or "" and why Python does not run in it."""
    if sandbox.kind not in ("bubblewrap", "namespaces", "docker", "none"):
        return "", "it is not known. Choose bubblewrap, namespaces, docker or none."
    if sandbox.kind in ("bubblewrap", "namespaces") and sys.platform != "linux":
        return "", "it needs Linux."
    if sandbox.kind == "docker" and sandbox.image is None:
        return "", "it needs the name of an image (--docker IMAGE)."
    needed = {"bubblewrap": "bwrap", "docker": "docker"}.get(sandbox.kind)
    if needed and shutil.which(needed) is None:
        return "", f"the program {needed} is not installed."
    with run(sandbox, [sys.executable, "-c", _TRIAL]) as running:
        try:
            said, _ = running.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            return "", "Python did not start in it within a minute."
        entered, _, place = said.decode(errors="replace").strip().partition(" ")
        if running.process.returncode == 0 and entered == "entered":
            return place, ""
    errors = running.errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return "", f"{errors[-1]} (status {running.process.returncode})."


@contextmanager
def run(sandbox: Sandbox, argv: Sequence[str]) -> Iterator[Running]:
    """Start a command in a fresh, empty folder, pipes for stdin and stdout; when the block ends, all of it is gone.

    Use it within one thread: when the thread that starts a sandbox ends, the system ends the sandbox.
    """
    folder = Path(tempfile.mkdtemp(prefix="pocketgpt-"))
    try:
        with watched(_start(sandbox, list(argv), folder), sandbox.limits) as running:
            yield running
    finally:
        _remove(folder)


def _start(sandbox: Sandbox, argv: list[str], folder: Path) -> Running:
    mark = secrets.token_hex(16)
    (folder / "scratch").mkdir()
    surroundings = environment(INSIDE)
    if sandbox.kind == "bubblewrap":
        argv = [*_bubblewrap(_mounts(sandbox)), *argv]
    elif sandbox.kind == "namespaces":
        job = {"mounts": _mounts(sandbox), "folder": SCRATCH, "processes": sandbox.limits.processes}
        argv = [sys.executable, "-P", "-m", namespaces.__name__, json.dumps(job), *argv]
    elif sandbox.kind == "docker":
        argv, surroundings = _docker(sandbox, argv, mark), dict(os.environ)
    else:
        surroundings = environment(str(folder), sandbox.package) | {"POCKETGPT_RUN": mark}
        (folder / "home" / "matplotlib").mkdir(parents=True)
        for font_cache in font_caches():
            shutil.copy(font_cache, folder / "home" / "matplotlib")
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder / "scratch",
        env=surroundings,
        start_new_session=True,  # no terminal to write to, and Ctrl-C is ours alone
    )
    return Running(process, sandbox.kind, folder, mark)


def _mounts(sandbox: Sandbox) -> list[list[str]]:
    return plan(sandbox.limits.scratch, sandbox.hidden, sandbox.proc, sandbox.package)


def _bubblewrap(mounts: list[list[str]]) -> list[str]:
    """The same as namespaces.py does. What bubblewrap makes can be written to until it is sealed, all but devices."""
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    # As the first process, a worker has no other around it that holds its pipes and lets the notebook look into it.
    options += ["--die-with-parent", "--as-pid-1"]
    words = {"bind": "--ro-bind", "link": "--symlink", "empty": "--tmpfs", "dev": "--dev", "proc": "--proc"}
    sealed = ["/"]
    for how, what, where in mounts:
        if how == "scratch":
            options += ["--size", what, "--tmpfs", where]
        else:
            options += [words[how], *([what] if how in ("bind", "link") else []), where]
        if how in ("empty", "dev", "proc"):
            sealed.append(where)
    for where in sealed:
        options += ["--remount-ro", where]
    return ["bwrap", *options, "--dir", SCRATCH, "--chdir", SCRATCH, "--"]


def _docker(sandbox: Sandbox, argv: list[str], mark: str) -> list[str]:
    """The worker is the first process, as in bubblewrap, and a container ends with it, even when we are gone."""
    limits = sandbox.limits
    kept = {
        name: value
        for name, value in environment(INSIDE).items()
        if name not in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
    }
    options = ["--rm", "--interactive", "--name", f"pocketgpt-{mark}", "--network", "none", "--read-only"]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534:65534"]
    options += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
    options += ["--pids-limit", str(limits.processes)]
    for folder in (INSIDE, SCRATCH):
        options += ["--tmpfs", f"{folder}:size={limits.scratch},mode=1777"]
    options += ["--workdir", SCRATCH]
    if sandbox.package is not None:
        options += ["--volume", f"{sandbox.package}:{sandbox.place}:ro"]
    options += [word for name, value in kept.items() for word in ("--env", f"{name}={value}")]
    inside = ["python" if word == sys.executable else word for word in argv]
    return ["docker", "run", *options, "--entrypoint", inside[0], sandbox.image, *inside[1:]]


def _remove(folder: Path) -> None:
    """Also folders that are locked, or deeper than Python's own function can go."""
    if os.name == "nt":
        shutil.rmtree(folder, ignore_errors=True)
        return
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, folder], stderr=subprocess.DEVNULL)
