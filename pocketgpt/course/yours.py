"""Going on without a solved exercise: `attention = yours("attention")`."""

import sys
from collections.abc import Callable

from pocketgpt.course.check import diagnose
from pocketgpt.course.exercises import exercises


def yours(name: str) -> Callable:
    """The notebook's function of that name if it passes its check; else the finished version, and a line says so.

    A cell that does not even run leaves no function behind; so this takes its name, and looks in the module __main__,
    which is where the names of a notebook are.
    Raises KeyError if there is no exercise of that name.
    """
    exercise = exercises()[name]
    answer = vars(sys.modules["__main__"]).get(name)
    if answer is not None and diagnose(exercise, answer) is None:
        return answer
    print(
        f"{exercise.number} {exercise.name} does not pass its check yet: from here on the finished version stands in."
    )
    # Not the reference: that one may be the framework's operator, which later checks do not take for an answer.
    return exercise.variants[0]
