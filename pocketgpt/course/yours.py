"""Going on without a solved exercise: `attention = yours(attention)`."""

from collections.abc import Callable

from pocketgpt.course.check import diagnose
from pocketgpt.course.exercises import exercises


def yours(answer: Callable) -> Callable:
    """Your function if it passes its check; else the finished version, with a line that says so.

    Raises KeyError if there is no exercise of that name.
    """
    exercise = exercises()[answer.__name__]
    if diagnose(exercise, answer) is None:
        return answer
    print(
        f"{exercise.number} {exercise.name} does not pass its check yet: from here on the finished version stands in."
    )
    # Not the reference: that one may be the framework's operator, which later checks do not take for an answer.
    return exercise.variants[0]
