"""Running a command that is not trusted: without network, with the interpreter and this package as all that it sees.

What is visible is a list of what is allowed, never of what is forbidden. Bubblewrap or our own enter.py builds it from
the same list; a container does instead; where there is none of them, the report says so.
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import pocketgpt
from pocketgpt.course.grading import enter
from pocketgpt.course.grading.limits import MIB, Limits, overuse
from pocketgpt.errors import PocketError

_PACKAGE = Path(pocketgpt.__file__).resolve().parent
_PROJECT = None if _PACKAGE.parent.name.endswith("-packages") else _PACKAGE.parent  # a checkout, installed or not
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_LINKER, _NAMES = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d"), ("passwd", "group", "nsswitch.conf", "hosts")
_SETTINGS = (*_LINKER, *_NAMES, "localtime", "fonts", "alternatives")
_PARTS_OF_PREFIX = ("bin", "lib", "lib64", "share", "etc", "ssl", "pyvenv.cfg")
_ONE_THREAD = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
_INSIDE = "/tmp"  # of a sandbox: what a notebook may write to
_TRIAL = "import pocketgpt.course.grading.limits, socket; socket.create_server(('127.0.0.1', 0)); print('entered')"
_POLL_SECONDS, _PATIENCE_SECONDS = 0.2, 20.0


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A way of running things that was tried and works.

    kind    bubblewrap, namespaces, docker or none
    lines   what it protects and what not: the first lines of a report
    hidden  files and folders that stay hidden where a visible folder contains them
    proc    whether /proc can be mounted in it (some containers forbid it)
    """

    kind: str
    lines: tuple[str, ...]
    limits: Limits
    hidden: tuple[Path, ...] = ()
    proc: bool = True
    image: str | None = None


@dataclass
class Running:
    """A started command.

    stopped   why the watch ended it, a sentence
    errors    the end of what it wrote to stderr
    mark      in the environment of everything that it starts
    """

    process: subprocess.Popen
    mark: str
    stopped: str | None = None
    errors: bytearray = field(default_factory=bytearray)


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
    if docker is not None or kind is not None:
        kinds = ["docker" if docker is not None else kind]
    hidden = tuple(path.resolve() for path in hidden)
    reasons = []
    for each, proc in itertools.product(kinds, (True, False)):
        lines = _lines(each, limits, proc)
        sandbox = Sandbox(kind=each, lines=lines, limits=limits, hidden=hidden, proc=proc, image=docker)
        reason = _fails(sandbox)
        if reason is None:
            return sandbox
        reasons += [f"{each}: {reason}"] if proc else []
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


def _fails(sandbox: Sandbox) -> str | None:
    """Why Python does not run in the sandbox, or None if it does."""
    if sandbox.kind not in ("bubblewrap", "namespaces", "docker", "none"):
        return "it is not known. Choose bubblewrap, namespaces, docker or none."
    if sandbox.kind in ("bubblewrap", "namespaces") and sys.platform != "linux":
        return "it needs Linux."
    if sandbox.kind == "docker" and sandbox.image is None:
        return "it needs the name of an image (--docker IMAGE)."
    needed = {"bubblewrap": "bwrap", "docker": "docker"}.get(sandbox.kind)
    if needed and shutil.which(needed) is None:
        return f"the program {needed} is not installed."
    with run(sandbox, [sys.executable, "-c", _TRIAL]) as running:
        try:
            said, _ = running.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            return "Python did not start in it within a minute."
        if running.process.returncode == 0 and said.strip() == b"entered":
            return None
    errors = running.errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return f"{errors[-1]} (status {running.process.returncode})."


@contextmanager
def run(sandbox: Sandbox, argv: Sequence[str]) -> Iterator[Running]:
    """Start a command in a fresh, empty folder, pipes for stdin and stdout; when the block ends, all of it is gone.

    Use it within one thread: when the thread that starts a sandbox ends, the system ends the sandbox.
    """
    folder = Path(tempfile.mkdtemp(prefix="pocketgpt-"))
    try:
        running, errors = _start(sandbox, list(argv), folder)
        over = threading.Event()
        reader = threading.Thread(target=_keep_end, args=(errors, running.errors), daemon=True)
        watch = threading.Thread(target=_watch, args=(sandbox, running, folder, over), daemon=True)
        try:
            reader.start()
            watch.start()
            yield running
        finally:
            over.set()
            watch.join()
            end(sandbox, running)
            reader.join(timeout=1)
            for pipe in (running.process.stdin, running.process.stdout):
                with contextlib.suppress(OSError):  # what was not read by a process that is dead
                    pipe.close()
    finally:
        _remove(folder)


def _start(sandbox: Sandbox, argv: list[str], folder: Path) -> tuple[Running, int]:
    """The started command, and the end of a pipe that its stderr comes out of."""
    mark = secrets.token_hex(16)
    command, environment = _command(sandbox, argv, mark, folder)
    errors, writing = os.pipe()
    with os.fdopen(writing) as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder / "scratch",
            env=environment,
            start_new_session=True,  # no terminal to write to, and Ctrl-C is ours alone
        )
    return Running(process, mark), errors


def _command(sandbox: Sandbox, argv: list[str], mark: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """What to start, and in which environment."""
    (folder / "scratch").mkdir()
    environment = _environment(_INSIDE if sandbox.kind != "none" else str(folder))
    if sandbox.kind == "bubblewrap":
        return [*_bubblewrap(_plan(sandbox)), *argv], environment
    if sandbox.kind == "namespaces":
        plan = {"mounts": _plan(sandbox), "folder": f"{_INSIDE}/scratch", "processes": sandbox.limits.processes}
        return [sys.executable, "-P", "-m", enter.__name__, json.dumps(plan), *argv], environment
    if sandbox.kind == "docker":
        return _docker(sandbox, argv, mark), dict(os.environ)
    for font_cache in _font_caches():
        (folder / "home" / "matplotlib").mkdir(parents=True, exist_ok=True)
        shutil.copy(font_cache, folder / "home" / "matplotlib")
    return argv, {**environment, "POCKETGPT_RUN": mark}


def _plan(sandbox: Sandbox) -> list[list[str]]:
    """The mounts that enter.py describes, outermost folders first, so that what is deeper covers what is above."""
    system = [Path(name) for name in _SYSTEM if Path(name).exists()]
    links = [["link", os.readlink(path), str(path)] for path in system if path.is_symlink()]
    settings = [Path("/etc", name) for name in _SETTINGS] + list(Path("/etc").glob("python3*"))
    visible = {path: path for path in system if not path.is_symlink()}
    visible |= {path: path.resolve() for path in settings if path.exists()}
    for path in _python():
        visible[path.resolve()] = path.resolve()
        if not any(path.is_relative_to(folder) for folder in system):  # else the link that leads there is visible too
            visible[path] = path.resolve()
    visible |= {Path(_INSIDE, "home", "matplotlib", path.name): path for path in _font_caches()}

    size = str(sandbox.limits.scratch)
    mounts = {where: ["bind", str(what), str(where)] for where, what in visible.items()}
    for path in filter(Path.exists, (*([_PROJECT] if _PROJECT else []), *sandbox.hidden)):
        for where, what in visible.items():
            if path.is_relative_to(what):
                place = where / path.relative_to(what)
                mounts[place] = ["empty", "", str(place)] if path.is_dir() else ["bind", os.devnull, str(place)]
    for where, how in {"/dev": "dev", "/proc": "proc"}.items():
        mounts[Path(where)] = [how, "", where]
    for where in (_INSIDE, "/dev/shm"):
        mounts[Path(where)] = ["scratch", size, where]
    cpus = Path("/sys/devices/system/cpu")
    if cpus.exists():
        mounts[cpus] = ["bind", str(cpus), str(cpus)]
    if not sandbox.proc:
        mounts[Path("/proc")] = ["empty", "", "/proc"]
        for name in ("/proc/cpuinfo", "/proc/meminfo"):  # what libraries read when they start
            mounts[Path(name)] = ["bind", name, name]
    return links + [mounts[path] for path in sorted(mounts, key=lambda path: len(path.parts))]


def _python() -> set[Path]:
    """The interpreter, its packages, this package and its assets: existing paths, links not followed."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)}
    paths = {prefix / part for prefix in prefixes for part in _PARTS_OF_PREFIX}
    paths |= {Path(path) for path in sys.path if Path(path).name.endswith("-packages")}
    paths |= {_PACKAGE, _PACKAGE.parent / "assets"}
    link = Path(sys.executable)
    while link.is_symlink():  # each step on the way to the interpreter
        link = Path(os.path.normpath(link.parent / os.readlink(link)))
        if not any(link.is_relative_to(path) for path in paths):
            paths.add(link)
    return {path for path in paths if path.is_absolute() and path.exists()}


def _font_caches() -> list[Path]:
    """Matplotlib's list of the fonts of this machine: without it, every kernel would look through all of them."""
    import matplotlib

    caches = list(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))
    if not caches:
        import matplotlib.font_manager  # writes it

        caches = list(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))
    return caches


def _environment(writable: str) -> dict[str, str]:
    """All of it: nothing of the instructor's shell comes along that Python does not need to start."""
    home = f"{writable}/home"
    folders = {"HOME": "", "USERPROFILE": "", "MPLCONFIGDIR": "/matplotlib", "IPYTHONDIR": "/ipython"}
    folders |= {f"JUPYTER_{name}_DIR": f"/jupyter/{name.lower()}" for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"XDG_{name}_HOME": f"/{name.lower()}" for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    needed = ("LD_LIBRARY_PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT", *(("PATH",) if os.name == "nt" else ()))
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        **{name: os.environ[name] for name in needed if name in os.environ},
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        **{name: home + below for name, below in folders.items()},
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), writable),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"{name}_NUM_THREADS": "1" for name in _ONE_THREAD},
        "CUDA_VISIBLE_DEVICES": "",
    }
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        environment["PYTHONUSERBASE"] = site.getuserbase()
    else:
        environment["PYTHONNOUSERSITE"] = "1"
    if _PROJECT is not None:
        environment["PYTHONPATH"] = str(_PROJECT)
    return environment


def _bubblewrap(mounts: list[list[str]]) -> list[str]:
    """The same as enter.py does. What bubblewrap makes can be written to until it is sealed, all but devices."""
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    # As the first process, a worker has no other around it that holds its pipes and lets the notebook look into it.
    options += ["--die-with-parent", "--new-session", "--as-pid-1"]
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
    scratch = f"{_INSIDE}/scratch"
    return ["bwrap", *options, "--dir", scratch, "--chdir", scratch, "--"]


def _docker(sandbox: Sandbox, argv: list[str], mark: str) -> list[str]:
    """The worker is the first process, as in bubblewrap, and a container ends with it, even when we are gone."""
    limits = sandbox.limits
    environment = _environment(_INSIDE)
    kept = {name: value for name, value in environment.items() if name not in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")}
    options = ["--rm", "--interactive", "--name", f"pocketgpt-{mark}", "--network", "none", "--read-only"]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534:65534"]
    options += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
    options += ["--pids-limit", str(limits.processes)]
    for folder in (_INSIDE, f"{_INSIDE}/scratch"):
        options += ["--tmpfs", f"{folder}:size={limits.scratch},mode=1777"]
    options += ["--workdir", f"{_INSIDE}/scratch"]
    options += [word for name, value in kept.items() for word in ("--env", f"{name}={value}")]
    inside = ["python" if word == sys.executable else word for word in argv]
    return ["docker", "run", *options, "--entrypoint", inside[0], sandbox.image, *inside[1:]]


def _watch(sandbox: Sandbox, running: Running, folder: Path, over: threading.Event) -> None:
    """End what exceeds a limit, and say so. A thread."""
    while not over.wait(_POLL_SECONDS) and running.process.poll() is None:
        try:
            reason = overuse(list(_members(sandbox, running)), sandbox.limits)
            if reason is None and sandbox.kind == "none" and _size(folder) > sandbox.limits.scratch:
                reason = f"It wrote more than {sandbox.limits.scratch / MIB:,.0f} MiB, the limit of its scratch folder."
        except Exception as error:  # nothing runs unwatched
            reason = f"It could not be watched ({error!r})."
        if reason is not None:
            running.stopped = reason
            end(sandbox, running)


def _members(sandbox: Sandbox, running: Running) -> set[psutil.Process]:
    """All that a run has started and that is alive. In a PID namespace nothing can leave the tree of processes."""
    found: set[psutil.Process] = set()
    if running.process.poll() is None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(running.process.pid)
            found = {root, *root.children(recursive=True)}
    if sandbox.kind == "none":
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("POCKETGPT_RUN") == running.mark:
                    found.add(process)
    return {process for process in found if _alive(process)}


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(sandbox: Sandbox, running: Running) -> None:
    """Kill everything that a run has started, and wait until it is gone."""
    if sandbox.kind == "docker":
        subprocess.run(["docker", "kill", f"pocketgpt-{running.mark}"], capture_output=True)
    found: set[psutil.Process] = set()
    patience = time.monotonic() + _PATIENCE_SECONDS
    while found := {process for process in found if _alive(process)} | _members(sandbox, running):
        for act in (psutil.Process.suspend, psutil.Process.kill):  # first none of them can start another
            for process in found:
                with contextlib.suppress(psutil.Error):
                    act(process)
        if time.monotonic() > patience:  # without a sandbox: a program of another user, which we may not kill
            break
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(timeout=_PATIENCE_SECONDS)


def _keep_end(descriptor: int, kept: bytearray, most: int = 20_000) -> None:
    """Read all that comes, and keep the end of it. A thread."""
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while piece := pipe.read(65536):
            kept += piece
            del kept[:-most]


def _size(folder: Path) -> int:
    if os.name != "nt":  # du goes deeper than Python can, and does not count holes
        said = subprocess.run(["du", "-sk", folder], capture_output=True).stdout
        return int(said.split()[0]) * 1024 if said else 0
    return sum(path.stat().st_size for path in folder.rglob("*"))


def _remove(folder: Path) -> None:
    """Also folders that are locked, or deeper than Python's own function can go."""
    if os.name != "nt":
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, folder], stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)
