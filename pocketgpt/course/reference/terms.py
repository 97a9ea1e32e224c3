"""Terms and symbols of the course, read from terms.toml and symbols.toml, which explain their fields."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Term:
    """A word of the glossary."""

    name: str
    chapter: int
    quote: str
    text: str
    also: Sequence[str] = ()
    shape: str = ""
    equation: str = ""
    earlier: Mapping[str, str] = field(default_factory=dict)

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms by which it is found in a text."""
        return tuple(self.also) or (self.name,)


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A symbol in one of its meanings."""

    group: str
    latex: str
    letter: str
    meaning: str
    chapters: Sequence[int]
    code: str = ""
    shape: str = ""
    note: str = ""


@cache
def terms() -> tuple[Term, ...]:
    """All terms, in the order of the chapters."""
    return tuple(Term(**entry) for entry in _read("terms.toml")["term"])


@cache
def symbols() -> tuple[Symbol, ...]:
    """All symbols, each as often as it has meanings."""
    return tuple(Symbol(**entry) for entry in _read("symbols.toml")["symbol"])


def term(name: str) -> Term:
    """The term of that name. Raises KeyError if there is none."""
    found = {each.name: each for each in terms()}
    return found[name]


def _read(name: str) -> dict:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))
