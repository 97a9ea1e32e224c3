"""Paths of the files that ship with the project."""

from pathlib import Path

from pocketgpt.errors import PocketError

_PACKAGE = Path(__file__).parent


def asset(name: str) -> Path:
    """Find a file or folder of `assets/`, in a checkout or an installed wheel.

    Raises PocketError if it is missing.
    """
    places = [_PACKAGE / "assets" / name, _PACKAGE.parent / "assets" / name]
    for place in places:
        if place.exists():
            return place
    raise PocketError(
        f"The file {name!r} that ships with pocketgpt is missing: it is neither at {places[0]} nor at {places[1]}. "
        "Install pocketgpt again."
    )
