"""Secret questions, and the judgement of what comes back: both outside of the process that the function runs in.

The grader draws inputs from a seed of its own, the student's function is called on them in the blind run (blind.py),
what it returns comes back as raw arrays, and the grader compares them with the reference itself.
"""

import inspect
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from pocketgpt.course.checking.check import compared, diagnose
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run, run
from pocketgpt.course.lab.finished_parts import PARTS, stand_in
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.arrays import decode, encode
from pocketgpt.grading.master import Master
from pocketgpt.grading.sources import case_as_source, source_of

# Running a reference silences the whole process for a moment, and Python 3.11 miscounts when two threads parse at once.
ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Questions:
    """Secret inputs of an exercise, one tuple of arguments a case."""

    exercise: Exercise
    cases: list[tuple]

    @classmethod
    def draw(cls, exercise: Exercise, seed: int) -> "Questions":
        with ONE_AT_A_TIME:
            return cls(exercise, exercise.cases(seed) + exercise.cases(seed + 1))  # more than a check asks

    def __str__(self) -> str:
        """As text, for `blind.reply`."""
        with ONE_AT_A_TIME:
            return json.dumps([encode(case_as_source(case)) for case in self.cases])


def judge(questions: Questions, text: str | None) -> str | None:
    """The fault in a reply, or None if every value in it is right. Safe to call from several threads."""
    if text is None:
        return "It gave no answer when it was asked again with new inputs."
    try:
        answers = json.loads(text)
        with ONE_AT_A_TIME:
            pairs = zip(questions.cases, answers, strict=True)
            problem = next(filter(None, (_wrong(questions.exercise, *each) for each in pairs)), None)
    except Exception:  # hostile text: whatever happens, it is not a right answer
        return "What it gave back when it was asked again with new inputs cannot be read."
    return f"It is wrong when it is asked again with new inputs. {problem}" if problem else None


def stand_ins(exercises: Iterable[Exercise]) -> dict[str, str]:
    """Source of the finished answer of each exercise, by name. Safe to call from several threads."""
    with ONE_AT_A_TIME:
        return {exercise.name: standalone(exercise) for exercise in exercises}


def borrowed(master: Master) -> dict[str, str]:
    """Source of the finished functions that a chapter takes from earlier ones, by name. Safe to call from several
    threads."""
    given = "\n".join(cell.source for cell in master.cells if cell.role == "given" and "earlier(" in cell.source)
    names = [name for name in PARTS if name not in master.exercises and f'"{name}"' in given]
    with ONE_AT_A_TIME:
        return {name: stand_in(name) for name in names}


@cache
def standalone(exercise: Exercise) -> str:
    """Source that defines the finished answer of an exercise under its name, with the imports that it needs.

    Raises TypeError if it calls a helper of the course: that might be the answer to another exercise.
    """
    function = inspect.unwrap(exercise.finished_answer)
    return f"{source_of(function)}\n{exercise.name} = {function.__name__}"


def empty(name: str) -> str:
    """Message of the check for an answer that was not written."""

    def unwritten(*_: object) -> None:
        raise NotImplementedError

    unwritten.__module__ = "__main__"  # as if it came from a notebook, and not from the library

    with ONE_AT_A_TIME:
        return diagnose(exercises()[name], unwritten).shown(exercises()[name])


def _wrong(exercise: Exercise, inputs: tuple, answer: dict) -> str | None:
    if "forbidden" in answer:
        return str(answer["forbidden"])[:200]
    target = run(exercise.reference, inputs)
    expected = type(target.error).__name__ if target.error else None
    raised = answer.get("raised")
    demanded = {each.__name__ for each in exercise.raises}
    if raised in demanded and expected in demanded:
        return None
    if raised or expected:
        return None if raised == expected else f"It raises {str(raised or 'nothing')[:80]}."
    found = compared(exercise, Run(inputs, decode(answer["value"])), target)
    return found.sentence if found else None
