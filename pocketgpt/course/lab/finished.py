"""Continue without a solved exercise: `attention = yours("attention")`."""

import sys
from collections.abc import Callable

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


def yours(name: str) -> Callable:
    """Return the notebook's function of that name if it passes its check.

    Otherwise print a note and return the finished version.

    The argument is a name because a cell that fails defines no function. It is looked up in __main__, the namespace of
    a notebook.
    Raises KeyError if there is no exercise of that name.
    """
    exercise = find_exercise(name)
    answer = vars(sys.modules["__main__"]).get(name)
    if answer is not None and diagnose(exercise, answer) is None:
        return answer
    print(f"{exercise.number} {exercise.name} does not pass its check yet: from here on the finished version is used.")
    return exercise.finished_answer
