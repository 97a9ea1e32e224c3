"""Continue without a solved exercise: `attention = yours("attention")`."""

import sys
from collections.abc import Callable

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


def yours(name: str) -> Callable:
    """The notebook's function of that name if it passes its check; else the finished version, with a line that says so.

    It takes a name because a cell that does not even run defines no function. The names of a notebook are in __main__.
    Raises KeyError if there is no exercise of that name.
    """
    exercise = find_exercise(name)
    answer = vars(sys.modules["__main__"]).get(name)
    if answer is not None and diagnose(exercise, answer) is None:
        return answer
    print(
        f"{exercise.number} {exercise.name} does not pass its check yet: from here on the finished version stands in."
    )
    return exercise.finished_answer
