"""Grading policy of a chapter, in one small TOML file: a deadline, points other than the course's own, and points that
you give by hand.

    [02_attention]
    deadline = 2026-12-01T23:59:00+01:00           # without +01:00: the time zone of this machine
    points = { attention = 5, causal_mask = 0 }    # the other exercises keep the course's points

    [02_attention.by_hand]                         # whatever the check said, and in every later run
    "Ada Lovelace" = { attention = 4 }

How late a notebook is follows from the time at which its file was last changed. Copying can change that time, and so
can whoever hands it in: it is reported, and never costs points by itself.
"""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.errors import PocketError
from pocketgpt.grading.results import Result

MOST_POINTS = 1_000_000
LATEST = timedelta(days=36_500)  # a file's time can be any number, a timedelta cannot


def exercises_of(chapter: str) -> tuple[str, ...]:
    """The exercises of a chapter in their order: 2.3 belongs to the chapter whose name begins with 02."""
    return tuple(name for name, each in exercises().items() if each.number.split(".")[0].zfill(2) == chapter[:2])


@dataclass(frozen=True)
class GradingPolicy:
    """Points and deadlines. Without any: the course's own points, and nothing is late.

    changed     points by exercise, where they are not the course's own
    deadlines   by chapter, each with its time zone
    by_hand     by student, the points of an exercise that were given by hand
    """

    changed: dict[str, int | float] = field(default_factory=dict)
    deadlines: dict[str, datetime] = field(default_factory=dict)
    by_hand: dict[str, dict[str, int | float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, chapters: Collection[str]) -> "GradingPolicy":
        """Read the file; `chapters` are the names it may use.

        Raises PocketError if it cannot be read, is not TOML, or says something that cannot be meant.
        """
        changed: dict[str, int | float] = {}
        deadlines: dict[str, datetime] = {}
        by_hand: dict[str, dict[str, int | float]] = {}
        for chapter, table in _tables(path).items():
            if not isinstance(table, dict):
                raise PocketError(f"{path}: {chapter!r} is outside of a chapter. Put it below a line [02_attention].")
            _known(chapter, chapters, f"{path}: there is no chapter")
            for key in table:
                _known(key, ("deadline", "points", "by_hand"), f"{path}, [{chapter}]: there is no setting")
            changed |= _points(table.get("points", {}), chapter, f"{path}, [{chapter}]")
            if "deadline" in table:
                deadlines[chapter] = _deadline(table["deadline"], f"{path}, [{chapter}]")
            for student, points in _students(table.get("by_hand", {}), f"{path}, [{chapter}.by_hand]").items():
                where = f"{path}, [{chapter}.by_hand], {student}"
                by_hand.setdefault(student, {}).update(_points(points, chapter, where))
        return cls(changed, deadlines, by_hand)

    def points(self, exercise: str) -> int | float:
        """Points for a right answer."""
        return self.changed.get(exercise, exercises()[exercise].points)

    def possible(self, chapter: str) -> int | float:
        """Points of a chapter if everything is right."""
        return _sum(self.points(name) for name in exercises_of(chapter))

    def earned(self, result: Result) -> dict[str, int | float]:
        """Points by exercise, for each that was checked."""
        given = self.by_hand.get(result.student, {})
        return {
            each.exercise: given.get(each.exercise, self.points(each.exercise) if each.passed else 0)
            for each in result.verdicts
        }

    def notes(self, result: Result) -> tuple[str, ...]:
        """A note for each exercise whose points were given by hand."""
        given = self.by_hand.get(result.student, {})
        return tuple(
            f"{each.exercise}: {amount(given[each.exercise])} points given by hand."
            for each in result.verdicts
            if each.exercise in given
        )

    def total(self, result: Result) -> int | float:
        return _sum(self.earned(result).values())

    def deadline(self, chapter: str) -> datetime | None:
        return self.deadlines.get(chapter)

    def late(self, result: Result) -> timedelta | None:
        """Time from the deadline to the last change of the file; None if it was not late.

        Judged by the file's modification time, which copying can change: to be reported, not to cost points.
        """
        deadline = self.deadline(result.chapter) if result.chapter else None
        if deadline is None or not result.file or result.submitted <= deadline.timestamp():
            return None
        return timedelta(seconds=min(result.submitted - deadline.timestamp(), LATEST.total_seconds()))

    def to_json(self) -> dict[str, Any]:
        """Plain values: the points that were changed or given by hand, and the deadlines as ISO 8601 says them."""
        deadlines = {name: when.isoformat() for name, when in self.deadlines.items()}
        return {"points": self.changed, "deadlines": deadlines, "by_hand": self.by_hand}


def amount(points: int | float) -> str:
    """'3' or '2.5': points as they are written in tables."""
    return f"{points:.10g}"


def duration(time: timedelta) -> str:
    """'1 d 3 h', '3 h 5 min', '5 min': its two largest units, rounded down."""
    minutes = int(time.total_seconds() // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else "less than 1 min"


def _sum(points: Any) -> int | float:
    return round(sum(points), 9)  # 0.1 + 0.2 is 0.3 in a gradebook


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a BOM
    except FileNotFoundError:
        raise PocketError(f"There is no file {path}, which was to give points and deadlines.") from None
    except OSError as error:
        raise PocketError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not TOML, which names the line, or not UTF-8
        raise PocketError(f"{path} is not a TOML file in UTF-8: {error}.") from error
    except RecursionError:
        raise PocketError(f"{path} is not a policy: it nests lists or tables too deeply.") from None


def _known(name: str, names: Collection[str], problem: str) -> None:
    if name not in names:
        raise PocketError(f"{problem} {name!r}. There are: {', '.join(names)}.")


def _points(table: Any, chapter: str, where: str) -> dict[str, int | float]:
    names = exercises_of(chapter)
    if not isinstance(table, dict):
        raise PocketError(
            f"{where}: points = {table!r} does not name an exercise. Write points = {{ {names[0]} = 5 }}."
        )
    for name, value in table.items():
        _known(name, names, f"{where}, points: there is no exercise")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_POINTS:
            written = repr(value)[:40]
            raise PocketError(
                f"{where}: {name} = {written} is not a valid number of points. Write a number from 0 to {MOST_POINTS}."
            )
    return table


def _students(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise PocketError(f'{where} = {table!r} does not name students. Write "Ada Lovelace" = {{ attention = 4 }}.')
    return table


def _deadline(value: Any, where: str) -> datetime:
    if isinstance(value, datetime):
        try:
            return value if value.tzinfo else value.astimezone()
        except (OverflowError, ValueError, OSError) as error:  # a year at the edge of the calendar
            raise PocketError(f"{where}: the deadline {value} is out of range.") from error
    if isinstance(value, date):
        raise PocketError(f"{where}: the deadline {value} has no time. For the end of that day: {value}T23:59:59.")
    raise PocketError(f"{where}: the deadline {value!r} is no date with a time. Without quotes: 2026-12-01T23:59:59.")
