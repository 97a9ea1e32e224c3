"""Cached results: the same answers, chapter and version are not run again, and a stopped run continues."""

import hashlib
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, write_json
from pocketgpt.grading.rebuild import Piece
from pocketgpt.grading.results import Verdict

PACKAGE = Path(__file__).parents[1]
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """Outcome of running a notebook: a verdict for each exercise, notes, and the seconds it took."""

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    seconds: float


@cache
def versions() -> dict[str, str]:
    """Versions of everything that takes part in grading, by name; for this package a hash of its code."""
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        code.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    names = ("pocketgpt", "torch", "numpy", "nbval", "ipykernel", "pytest")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}, "code": code.hexdigest()[:16]}


def key(pieces: Sequence[Piece], settings: object) -> str:
    """The name of a result: everything that it depends on, as a number of 32 digits."""
    everything = [[asdict(piece) for piece in pieces], versions(), repr(settings)]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:32]


def recall(folder: Path, name: str) -> Outcome | None:
    """The outcome of that name, if it was kept and can be read."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        values = read_json(path)
        verdicts = tuple(Verdict(**each) for each in values["verdicts"])
        return Outcome(verdicts, tuple(values["notes"]), values["seconds"])
    except (PocketError, TypeError, KeyError):  # damaged: it is found again
        return None


def keep(folder: Path, name: str, outcome: Outcome) -> None:
    """Several threads may keep the same: two students may hand in the same."""
    with ONE_AT_A_TIME:
        write_json(folder / f"{name}.json", asdict(outcome))
