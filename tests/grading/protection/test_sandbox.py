"""Hostile code in each kind of sandbox: what it sees, reaches and leaves behind is nothing."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import psutil
import pytest

import pocketgpt
from pocketgpt.errors import PocketError
from pocketgpt.grading.protection import mounts, watch
from pocketgpt.grading.protection import sandbox as sandboxes
from pocketgpt.grading.protection.limits import MIB, Limits, kernel_release
from pocketgpt.grading.protection.sandbox import Sandbox, choose, run

KINDS = ["bubblewrap", "namespaces"]
ROOT = Path(pocketgpt.__file__).parents[1]
LIMITS = Limits(scratch=8 * MIB, processes=100)

# A trusted worker, which starts the hostile code as a kernel is started.
WORKER = """
import subprocess, sys
from pocketgpt.grading.protection.limits import Limits, apply
apply(Limits(processes=100))
sys.exit(subprocess.run([sys.executable, "-c", *sys.argv[1:]]).returncode)
"""
PROBE = """
import ctypes, glob, json, os, resource, socket, sys
question = json.load(open("/dev/stdin"))
libc = ctypes.CDLL(None, use_errno=True)

def result(act, *values):
    try:
        return repr(act(*values))
    except OSError as error:
        return type(error).__name__

def look(path):
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)

def touch(path):
    return look(path) if not path[-1].isdigit() else os.open(path, os.O_RDWR | os.O_NONBLOCK)

def system(name, *values):
    return "done" if getattr(libc, name)(*values) == 0 else os.strerror(ctypes.get_errno())

def echo():
    with socket.create_server(("localhost", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        one.sendall(b"hello")
        return other.recv(5).decode()

def fill(path):
    with open(path, "wb") as file:
        for _ in range(100):
            file.write(bytes(1024**2))

around = [f"/proc/{pid}/{way}" for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()
          for way in ("root", "cwd", "fd/0", "fd/1", "environ", "mem", "maps")]
answer = {
    "cwd": os.getcwd(), "here": os.listdir("."), "environment": dict(os.environ),
    "read": {path: result(look, path) for path in question["read"]},
    "write": {path: result(open, path, "w") for path in question["write"]},
    "connect": {str(port): result(socket.create_connection, (host, port), 2) for host, port in question["connect"]},
    "interfaces": [name for _, name in socket.if_nameindex()],
    "echo": result(echo),
    "others": {path: result(touch, path) for path in around},
    "unmount": {path: system("umount2", path.encode(), 2) for path in question["unmount"]},
    "unshare": system("unshare", 0x10000000),
    "setuid": system("setuid", 0) if os.getuid() else "not asked",
    "chmod": result(os.chmod, "/dev/null", 0o666),
    "status": dict(line.strip().split(":", 1) for line in open("/proc/self/status")),
    "fonts": glob.glob(os.environ["MPLCONFIGDIR"] + "/fontlist-*.json"),
    "pid_max": int(open("/proc/sys/kernel/pid_max").read()),
    "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
    "inodes": os.statvfs(".").f_files,
    "null": result(open, "/dev/null", "r+b", 0),
    "fill": {path: result(fill, path) for path in ("./large", "/dev/shm/large")},
}
print(json.dumps(answer))
"""


@cache
def available(kind: str) -> Sandbox | str:
    try:
        return choose(LIMITS, kind=kind)
    except PocketError as error:
        return str(error)


def working(kind: str) -> Sandbox:
    found = available(kind)
    return found if isinstance(found, Sandbox) else pytest.skip(found)


@pytest.fixture(params=KINDS)
def sandbox(request) -> Sandbox:
    return working(request.param)


def said(sandbox: Sandbox, code: str, *arguments: str, asked: str = "") -> str:
    with run(sandbox, [sys.executable, "-c", code, *arguments]) as running:
        out, _ = running.process.communicate(asked.encode())
    assert running.process.returncode == 0, running.errors.decode()
    return out.decode()


@pytest.fixture
def word() -> str:
    """To find a process by: no other on the machine has it in its command line."""
    return secrets.token_hex(8)


def alive(word: str) -> list[psutil.Process]:
    """Processes of the machine with this word in their command line; one that is dead and not yet buried has none."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(word in part for part in process.cmdline()):
                found.append(process)
    return found


def soon(condition) -> bool:
    """Whether it becomes true; the minute is for a machine that is very busy."""
    patience = time.monotonic() + 60
    while not condition() and time.monotonic() < patience:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module", params=KINDS)
def answer(request) -> dict:
    """What hostile code finds out, in one run; with a folder of secrets inside one that is visible."""
    found = working(request.param)
    share = Path(sys.prefix, "share")
    share.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=share) as masked,
        tempfile.TemporaryDirectory(dir=Path.home()) as home,
        tempfile.TemporaryDirectory() as elsewhere,
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.MonkeyPatch.context() as shell,
    ):
        shell.setenv("SECRET_OF_THE_INSTRUCTOR", "42")
        places = {"masked": masked, "home": home, "elsewhere": elsewhere}
        for place in places.values():
            Path(place, "grades").write_text("1.0")
        places |= {f"{name} file": f"{place}/grades" for name, place in places.items()}
        places |= {name: str(ROOT / name) for name in ("solutions", ".git", "tests", "pyproject.toml")}
        places |= {
            "shadow": "/etc/shadow",
            "above the root": f"/../old{ROOT}",
            "package": str(ROOT / "pocketgpt"),
            "assets": str(ROOT / "assets"),
            "processors": "/sys/devices/system/cpu",
            "the rest of /sys": "/sys/kernel",
        }
        package = ROOT / "pocketgpt" / "course"
        outside = [
            f"{folder}/new" for folder in ("", "/usr", "/etc", "/dev", "/proc/sys/kernel", package, sys.prefix, masked)
        ]
        question = {
            "read": list(places.values()),
            "write": [*outside, str(package / "__init__.py"), "/proc/sys/kernel/core_pattern", "/tmp/mine", "mine"],
            "connect": [server.getsockname(), ("192.0.2.1", 80)],
            "unmount": [masked, "/proc", "/usr", "/"],
        }
        found = replace(found, hidden=(Path(masked).resolve(),))
        answer = json.loads(said(found, WORKER, PROBE, asked=json.dumps(question)))
    answer["read"] = {name: answer["read"][place] for name, place in places.items()}
    return {**answer, "kind": found.kind}


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("bubblewrap", "bwrap --unshare-all --unshare-user --disable-userns --bind / / --proc /proc true"),
        ("namespaces", "unshare --user --map-root-user --mount --net --ipc --uts --pid --fork --mount-proc true"),
    ],
)
def test_a_machine_that_has_namespaces_has_a_sandbox(kind, command):
    """Without this, a sandbox that is broken would only skip the other tests."""
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not: {error}")
    assert isinstance(available(kind), Sandbox), available(kind)


@pytest.mark.parametrize(
    "place", ["home", "elsewhere", "solutions", ".git", "tests", "pyproject.toml", "shadow", "above the root"]
)
def test_what_is_not_allowed_is_not_there(answer, place):
    assert answer["read"][place] == "FileNotFoundError"


def test_a_hidden_folder_inside_a_visible_one_is_empty(answer):
    assert answer["read"]["masked"] == "[]"
    assert answer["read"]["masked file"] == "FileNotFoundError"


def test_the_package_and_its_assets_are_visible(answer):
    assert "__init__.py" in answer["read"]["package"]
    assert "shakespeare-tokenizer.json" in answer["read"]["assets"]


def test_the_processors_are_visible_and_no_other_device(answer):
    assert "cpu0" in answer["read"]["processors"]
    assert answer["read"]["the rest of /sys"] == "FileNotFoundError"


def test_nothing_outside_the_scratch_folder_can_be_written(answer):
    inside = {path for path, result in answer["write"].items() if not result.endswith("Error")}
    ours = {path for path in inside if path.startswith("/tmp/")}  # /tmp is a file system of the sandbox's own
    assert inside - ours == {"mine"} and "/tmp/mine" in ours
    assert not any(Path(path).exists() for path in ours)


def test_the_scratch_folder_is_empty_and_the_current_one(answer):
    assert answer["here"] == []
    assert answer["cwd"] == "/tmp/scratch"


def test_there_is_no_network_not_even_to_the_machine_itself(answer):
    assert answer["interfaces"] == ["lo"]
    assert all(result.endswith("Error") for result in answer["connect"].values())


def test_the_loopback_inside_works(answer):
    assert answer["echo"] == "'hello'"


def test_no_other_process_can_be_looked_into(answer):
    assert answer["others"]
    assert {path: result for path, result in answer["others"].items() if not result.endswith("Error")} == {}


def test_nothing_can_be_unmounted_and_no_namespace_made(answer):
    assert set(answer["unmount"].values()) == {"Operation not permitted"}
    assert answer["unshare"] != "done"
    assert answer["setuid"] != "done"


CAPABILITIES = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")


def test_no_capability_is_left(answer):
    assert all(int(answer["status"][name], 16) == 0 for name in CAPABILITIES)
    assert answer["status"]["NoNewPrivs"].strip() == "1"


def test_the_worker_has_no_capability_from_the_start_nor_has_what_reaps_orphans(sandbox):
    status = said(sandbox, "print(open('/proc/self/status').read(), open('/proc/1/status').read())")
    assert all(status.count(f"{name}:\t{0:016x}\n") == 2 for name in CAPABILITIES)


def test_the_environment_holds_nothing_of_the_instructors_shell(answer):
    environment = answer["environment"]
    assert "SECRET_OF_THE_INSTRUCTOR" not in environment
    assert environment["HOME"].startswith("/tmp/") and environment["LC_ALL"] == "C.UTF-8"
    ours = mounts.environment("/tmp").keys()
    assert environment.keys() - ours <= {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}


def test_the_scratch_folder_and_shared_memory_are_limited(answer):
    assert set(answer["fill"].values()) == {"OSError"}


def test_devices_can_be_written_to_but_not_changed(answer):
    assert not answer["null"].endswith("Error")
    if answer["kind"] == "bubblewrap" and os.geteuid() == 0:
        pytest.skip("bubblewrap cannot make devices read-only, and root owns them")
    assert answer["chmod"].endswith("Error")


def test_process_numbers_run_out_for_root_too_and_only_inside(answer):
    if answer["kind"] == "bubblewrap" or kernel_release() < (6, 14):
        pytest.skip("bubblewrap does not limit them; before Linux 6.14 they are a setting of the whole machine")
    assert answer["pid_max"] == 301 + 100
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) != 301 + 100


def test_processes_are_limited_where_they_are_counted_alone(answer):
    if kernel_release() < (5, 14):
        pytest.skip("before Linux 5.14 all processes of the user are counted")
    assert answer["processes"] == 100


def test_empty_files_cannot_fill_the_memory_of_the_machine(answer):
    if answer["kind"] == "bubblewrap":
        pytest.skip("bubblewrap does not limit their number")
    assert 0 < answer["inodes"] <= 102_400


def test_matplotlib_finds_the_list_of_fonts(answer):
    assert [Path(path).name for path in answer["fonts"]] == [path.name for path in mounts.font_caches()]


# A child that leaves its session and its parent, and says on stdout that it has begun.
DAEMON = """
import os, sys, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"begun")
        os.write(writing, b"begun")
        time.sleep(600)
    os._exit(0)
os.read(reading, 1)
"""


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_a_daemon_is_dead_when_the_block_ends(kind, word):
    found = working(kind)
    with run(found, [sys.executable, "-c", DAEMON, word]) as running:
        assert running.process.stdout.read(5) == b"begun"
        running.process.wait()
    assert alive(word) == []


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_a_command_that_does_not_end_is_ended_by_leaving_the_block(kind, word):
    found = working(kind)
    with run(found, [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)", word]) as running:
        running.process.stdout.readline()
    assert running.process.returncode is not None
    assert running.stopped is None
    assert alive(word) == []


def test_a_command_that_is_killed_does_not_look_as_if_it_had_ended_well():
    with run(working("namespaces"), [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) as running:
        assert running.process.wait() == 128 + 9


BOMB = """
import os, time
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        pass
time.sleep(60)
"""


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_a_fork_bomb_is_stopped_with_its_sentence(kind, word):
    found = working(kind)
    with run(found, [sys.executable, "-c", BOMB, word]) as running:
        assert running.process.wait() != 0
    assert running.stopped.endswith("100 is the limit.")
    assert alive(word) == []


def test_the_system_itself_limits_how_many_processes_are_started(sandbox):
    if os.geteuid() == 0:
        pytest.skip("the processes of root are limited by their numbers or by the watch alone")
    code = """
import os, time
started = 0
for _ in range(90):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        started += 1
    except OSError:
        break
os.write(1, f"{started}\\n".encode())
"""
    with run(sandbox, [sys.executable, "-c", WORKER.replace("100", "50"), code]) as running:
        assert 0 < int(running.process.stdout.readline()) < 50


HOG = "import time; kept = b'x' * 400 * 1024**2; time.sleep(60)"


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_too_much_memory_is_stopped_with_its_sentence(kind):
    found = working(kind)
    found = replace(found, limits=replace(found.limits, memory=200 * MIB))
    with run(found, [sys.executable, "-c", HOG]) as running:
        assert running.process.wait() != 0
    assert running.stopped.endswith("200 MiB is the limit.")


GRADER = """
import sys
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import choose, run
with run(choose(Limits(), kind=sys.argv[1]), [sys.executable, "-c", sys.argv[2], sys.argv[3]]) as running:
    print(running.process.stdout.readline().decode(), flush=True)
    running.process.wait()
"""


def test_nothing_outlives_a_grader_that_is_killed(sandbox, word, tmp_path):
    code = "import time; print('begun', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", GRADER, sandbox.kind, code, word]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # it leaves an empty folder behind
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as grader:
        assert grader.stdout.readline() == b"begun\n"
        assert len(alive(word)) > 1
        grader.send_signal(signal.SIGKILL)
    assert soon(lambda: alive(word) == [])


KERNEL = """
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
for code in ("print(1 + 1)", "!echo $((1 + 2))"):
    client.execute_interactive(code, output_hook=lambda m: print(m["content"].get("text", "").strip(), end=""))
manager.shutdown_kernel(now=True)
"""


def test_a_jupyter_kernel_and_its_shell_commands_run_inside(sandbox):
    assert said(sandbox, KERNEL) == "23"


def test_where_proc_is_forbidden_a_sandbox_does_without(sandbox):
    code = "import os, resource; print(sorted(os.listdir('/proc')), resource.getrlimit(resource.RLIMIT_NPROC)[0])"
    seen, processes = said(replace(sandbox, proc=False), WORKER, code).rsplit(maxsplit=1)
    assert seen == "['cpuinfo', 'meminfo']"
    assert processes == "100" or kernel_release() < (5, 14)


def test_without_a_sandbox_the_scratch_folder_is_watched_and_removed():
    code = """
import os, time
print(os.getcwd(), flush=True)
open("large", "wb").write(bytes(16 * 1024**2))
time.sleep(60)
"""
    with run(working("none"), [sys.executable, "-c", code]) as running:
        folder = Path(running.process.stdout.readline().decode().strip())
        assert running.process.wait() != 0
    assert running.stopped.endswith("8 MiB, the limit of its scratch folder.")
    assert not folder.exists()
    assert working("none").lines[0].startswith("No sandbox")


def test_without_a_sandbox_what_python_writes_lands_in_the_folder_that_is_removed():
    code = """
import json, matplotlib, os, tempfile
print(json.dumps([os.getcwd(), tempfile.gettempdir(), os.path.expanduser("~"), matplotlib.get_cachedir()]))
print(json.dumps([name for name in os.listdir(matplotlib.get_cachedir()) if name.startswith("fontlist-")]))
"""
    folders, fonts = map(json.loads, said(working("none"), code).splitlines())
    assert all(Path(folder).is_relative_to(Path(folders[0]).parent) for folder in folders)
    assert fonts == [path.name for path in mounts.font_caches()]
    assert not Path(folders[0]).parent.exists()


def test_without_a_sandbox_the_end_of_one_run_leaves_another_alone():
    argv = [sys.executable, "-c", "print(1, flush=True); print(input())"]
    with run(working("none"), argv) as first:
        first.process.stdout.readline()
        with run(working("none"), argv) as second:
            second.process.stdout.readline()
        assert first.process.communicate(b"alive\n")[0] == b"alive\n"


def test_folders_that_are_locked_or_deep_are_removed_too():
    code = """
import os
print(os.getcwd(), flush=True)
os.makedirs("locked/inner"); os.chmod("locked", 0)
for _ in range(1200):
    os.mkdir("d"); os.chdir("d")
"""
    with run(working("none"), [sys.executable, "-c", code]) as running:
        folder = Path(running.process.communicate()[0].decode().strip())
    assert not folder.exists()


def test_the_end_of_what_is_written_to_stderr_is_kept():
    code = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end')"
    with run(working("none"), [sys.executable, "-c", code]) as running:
        running.process.wait()
    assert running.errors.endswith(b"the end")
    assert len(running.errors) <= 20_000


def test_ctrl_c_in_the_terminal_does_not_reach_the_command():
    code = "import os; print(os.getsid(0) == os.getpid())"
    assert said(working("none"), code) == "True\n"


def test_an_unknown_kind_says_which_there_are():
    with pytest.raises(PocketError, match="bubblewrap, namespaces, docker or none"):
        choose(LIMITS, kind="prison")


def test_a_container_without_docker_says_so(monkeypatch):
    monkeypatch.setattr(sandboxes.shutil, "which", lambda name: None)
    with pytest.raises(PocketError, match="docker is not installed"):
        choose(LIMITS, docker="course")


def test_where_nothing_works_the_report_says_that_there_is_no_protection(monkeypatch):
    monkeypatch.setattr(sandboxes, "_tried", lambda sandbox: ("", "forbidden."))
    chosen = choose(LIMITS)
    assert chosen.kind == "none"
    assert chosen.lines[0].startswith("No sandbox")
    assert {"bubblewrap: forbidden.", "namespaces: forbidden."} <= set(chosen.lines)


def test_a_container_gets_every_protection(monkeypatch):
    command = sandboxes._docker(
        Sandbox(kind="docker", lines=(), limits=LIMITS, image="course"), [sys.executable, "-V"], "m"
    )
    text = " ".join(command)
    for option in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "no-new-privileges",
        "--pids-limit 100",
        "--memory ",
    ):
        assert option in text
    assert text.endswith("--entrypoint python course -V")


def test_a_container_shows_the_package_of_a_blind_run_in_place_of_its_own():
    sandbox = Sandbox(
        kind="docker", lines=(), limits=LIMITS, image="course", place="/opt/pocketgpt", package=Path("/blind/pocketgpt")
    )
    assert "--volume /blind/pocketgpt:/opt/pocketgpt:ro" in " ".join(sandboxes._docker(sandbox, ["python"], "m"))


def test_what_cannot_be_watched_is_ended(monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(watch, "overuse", broken)
    with run(working("none"), [sys.executable, "-c", "import time; time.sleep(600)"]) as running:
        running.process.wait()
    assert "broken" in running.stopped
