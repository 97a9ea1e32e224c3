"""Mounts: what a notebook sees in a sandbox, as a list of what is allowed, never of what is forbidden.

That is the interpreter, the programs of the system, this package, and an environment made from nothing.
"""

import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path

import pocketgpt

INSIDE = "/tmp"  # of a sandbox: what a notebook may write to
SCRATCH = f"{INSIDE}/scratch"  # where it starts

_PACKAGE = Path(pocketgpt.__file__).resolve().parent
_PROJECT = None if _PACKAGE.parent.name.endswith("-packages") else _PACKAGE.parent  # a checkout, installed or not
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_LINKER, _NAMES = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d"), ("passwd", "group", "nsswitch.conf", "hosts")
_SETTINGS = (*_LINKER, *_NAMES, "localtime", "fonts", "alternatives")
_PARTS_OF_PREFIX = ("bin", "lib", "lib64", "share", "etc", "ssl", "pyvenv.cfg")
_CPUS = Path("/sys/devices/system/cpu")  # on ARM, PyTorch looks for the processors there


def plan(scratch: int, hidden: Sequence[Path], proc: bool, package: Path | None = None) -> list[list[str]]:
    """The mounts that namespaces.py describes, outermost folders first, so that what is deeper covers what is above.

    scratch: bytes; hidden: what stays hidden where a visible folder contains it; proc: whether /proc is mounted;
    package: a folder to show in place of this package.
    """
    system = [Path(name) for name in _SYSTEM if Path(name).exists()]
    links = [["link", os.readlink(path), str(path)] for path in system if path.is_symlink()]
    settings = [Path("/etc", name) for name in _SETTINGS] + list(Path("/etc").glob("python3*"))
    visible = {path: path for path in system if not path.is_symlink()}
    visible |= {path: path.resolve() for path in (*settings, _CPUS) if path.exists()}
    for path in _python():
        visible[path.resolve()] = path.resolve()
        if not any(path.is_relative_to(folder) for folder in system):  # else the link that leads there is visible too
            visible[path] = path.resolve()
    visible |= {Path(INSIDE, "home", "matplotlib", path.name): path for path in font_caches()}

    mounts = {where: ["bind", str(what), str(where)] for where, what in visible.items()}
    for path in filter(Path.exists, (*([_PROJECT] if _PROJECT else []), *hidden)):
        for place in _places(path, visible):
            mounts[place] = ["empty", "", str(place)] if path.is_dir() else ["bind", os.devnull, str(place)]
    if package is not None:
        for place in _places(_PACKAGE, visible):
            mounts[place] = ["bind", str(package), str(place)]
    mounts[Path("/dev")] = ["dev", "", "/dev"]
    mounts[Path("/proc")] = ["proc" if proc else "empty", "", "/proc"]
    for name in () if proc else ("/proc/cpuinfo", "/proc/meminfo"):  # what libraries read when they start
        mounts[Path(name)] = ["bind", name, name]
    for where in (INSIDE, "/dev/shm"):
        mounts[Path(where)] = ["scratch", str(scratch), where]
    return links + [mounts[path] for path in sorted(mounts, key=lambda path: len(path.parts))]


def _places(path: Path, visible: dict[Path, Path]) -> list[Path]:
    """List the places where a path would be seen: a folder and a link to it are two."""
    return [where / path.relative_to(what) for where, what in visible.items() if path.is_relative_to(what)]


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


def font_caches() -> list[Path]:
    """Matplotlib's list of the fonts of this machine: without it, every kernel would look through all of them."""
    import matplotlib

    caches = list(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))
    if not caches:
        import matplotlib.font_manager  # writes it

        caches = list(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))
    return caches


def environment(writable: str, package: Path | None = None) -> dict[str, str]:
    """All of it: nothing of the instructor's shell comes along that Python does not need to start.

    writable: the folder that holds the home, the temporary files and Matplotlib's list of fonts; package: a folder to
    import in place of this package.
    """
    needed = ("LD_LIBRARY_PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT", *(("PATH",) if os.name == "nt" else ()))
    result = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        **{name: os.environ[name] for name in needed if name in os.environ},
        "LC_ALL": "C.UTF-8",
        **dict.fromkeys(("HOME", "USERPROFILE"), f"{writable}/home"),
        "MPLCONFIGDIR": f"{writable}/home/matplotlib",
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), writable),
        # Notebooks run side by side, and threads count as processes.
        **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
        "CUDA_VISIBLE_DEVICES": "",  # the same result on every machine
        "POCKETGPT_PROGRESS": "off",  # the instructor's own
    }
    # Packages installed for the instructor alone are looked for in the home, which is another one now.
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        result["PYTHONUSERBASE"] = site.getuserbase()
    else:
        result["PYTHONNOUSERSITE"] = "1"
    if package is not None:
        result["PYTHONPATH"] = str(package.parent)
    elif _PROJECT is not None:
        result["PYTHONPATH"] = str(_PROJECT)
    return result
