"""Results of grading a notebook: a verdict for each exercise, flags for you to look at, and notes."""

from dataclasses import asdict, dataclass
from typing import Any

from pocketgpt.course.syllabus import all_exercises as exercises

MOST_NAMES = 10


@dataclass(frozen=True)
class Verdict:
    """Verdict on an exercise: passed or not, and the message of its check."""

    exercise: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Flag:
    """A line of a submission that a person should look at. Flags cost no points.

    cell: counted from 1 over all cells of the file; line: of that cell, from 1.
    """

    cell: int
    line: int
    quoted: str
    reason: str


@dataclass(frozen=True)
class Result:
    """One notebook.

    student    who handed it in, as its path or the class list says
    file       its path in the folder of submissions, with /
    chapter    such as "02_attention"; None if it could not be graded, and the notes say why
    verdicts   one for each exercise of the chapter, in the order of the chapter
    notes      what a person should know: two answers to one exercise, a chapter handed in untouched, …
    seconds    that running it took
    submitted  when the file was last changed, in seconds since 1970
    answers    fingerprint of the answers, by which equal ones are found
    same_as    other students with equal answers, for the instructor alone
    """

    student: str
    file: str
    chapter: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    flags: tuple[Flag, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    submitted: float = 0.0
    answers: str = ""
    same_as: tuple[str, ...] = ()

    @property
    def instructor_notes(self) -> tuple[str, ...]:
        """All notes, with those that no student's page may have, because they name other students."""
        if not self.same_as:
            return self.notes
        names, more = ", ".join(self.same_as[:MOST_NAMES]), len(self.same_as) - MOST_NAMES
        equal = f"Character by character the same answers as {names}{f' and {more} more' if more > 0 else ''}."
        return (*self.notes, equal)


def to_json(result: Result) -> dict[str, Any]:
    """Plain values, which `from_json` reads."""
    return asdict(result)


def from_json(values: dict[str, Any]) -> Result:
    """Raises TypeError or KeyError if the values are not those of a result."""
    parts = {"verdicts": Verdict, "flags": Flag}
    lists = {name: tuple(kind(**each) for each in values[name]) for name, kind in parts.items()}
    return Result(**{**values, **lists, "notes": tuple(values["notes"]), "same_as": tuple(values["same_as"])})


def number(exercise: str) -> str:
    """'2.3 causal_mask': an exercise as it is called in tables."""
    return f"{exercises()[exercise].number} {exercise}"
