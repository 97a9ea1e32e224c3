"""Asking a function again, with secret inputs, and judging what comes back outside of the process it runs in.

Code that runs in the same process as a check can change the check. It cannot change this: the grader draws inputs from
a seed of its own, the student's function is called on them in the sandbox (`reply`), what it returns comes back as raw
arrays, and the grader compares them with the reference itself (`judge`).
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.display import display

from pocketgpt.course.checking.check import compared, diagnose
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run, run
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading import REPLY
from pocketgpt.grading.arrays import decode, encode

ONE_AT_A_TIME = threading.Lock()  # running a reference silences the whole process for a moment


@dataclass(frozen=True)
class Questions:
    """Secret inputs of an exercise, one tuple of arguments a case."""

    exercise: Exercise
    cases: list[tuple]

    @classmethod
    def draw(cls, exercise: Exercise, seed: int) -> "Questions":
        return cls(exercise, exercise.cases(seed))

    def __str__(self) -> str:
        """As text, for `reply`."""
        return json.dumps([encode(case) for case in self.cases])


def reply(function: Callable, questions: str) -> None:
    """In the sandbox: call the function on the questions, and display, for the grader, what it returns or raises."""
    answers = []
    for question in json.loads(questions):
        done = run(function, decode(question))
        answers.append({"raised": type(done.error).__name__} if done.error else {"value": _encoded(done.value)})
    display({REPLY: json.dumps(answers)}, raw=True)


def _encoded(value: object) -> Any:
    try:
        return encode(value)
    except Exception as error:  # whatever a student's class may raise; no right answer is a text about an error
        return encode(f"{type(value).__name__}: {error}")


def judge(questions: Questions, text: str | None) -> str | None:
    """The fault in a reply, or None if every value in it is right. Safe to call from several threads."""
    if text is None:
        return "It gave no answer when it was asked again with new inputs."
    try:
        answers = json.loads(text)
        with ONE_AT_A_TIME:
            problems = [_wrong(questions.exercise, *each) for each in zip(questions.cases, answers, strict=True)]
    except Exception:  # hostile text: whatever happens, it is not a right answer
        return "What it gave back when it was asked again with new inputs cannot be read."
    problem = next(filter(None, problems), None)
    return f"It is wrong when it is asked again with new inputs. {problem}" if problem else None


def empty(name: str) -> str:
    """Message of the check for an answer that was not written."""

    def unwritten(*_: object) -> None:
        raise NotImplementedError

    with ONE_AT_A_TIME:
        return diagnose(exercises()[name], unwritten).shown(exercises()[name])


def _wrong(exercise: Exercise, inputs: tuple, answer: dict) -> str | None:
    target = run(exercise.reference, inputs)
    expected = type(target.error).__name__ if target.error else None
    raised = answer.get("raised")
    if raised or expected:
        return None if raised == expected else f"It raises {str(raised or 'nothing')[:80]}."
    found = compared(exercise, Run(inputs, decode(answer["value"])), target)
    return found.sentence if found else None
