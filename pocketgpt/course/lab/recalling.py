"""Recall questions: `recall(4)` at the start of chapter 4 asks about a mistake in an earlier chapter."""

import ast
import inspect
import textwrap

from IPython.display import Markdown, display

from pocketgpt.course.checking.exercise import Exercise, Mistake
from pocketgpt.course.progress import events
from pocketgpt.course.syllabus import CHAPTERS, exercise_names, find_exercise


def recall(chapter: int) -> None:
    """Show the code of a mistake from an earlier chapter, and below it, folded, what is wrong with it.

    It is the mistake that you met longest ago, according to the progress record; without one, a common mistake of the
    chapter before the last.
    """
    met = _met_before(chapter)
    found = met or _common(chapter)
    if found is None:
        print("No earlier chapter is installed, so there is no question about one.")
        return
    exercise, mistake = found
    intro = "a check once found this mistake in your answer" if met else "this answer is a common mistake"
    display(
        Markdown(
            f"**3.** In exercise {exercise.number}, {intro}. What is wrong with it?\n\n"
            f"```python\n{code_of(exercise, mistake)}\n```\n\n"
            f"<details><summary>Answer</summary>\n\n{mistake.sentence}\n\n</details>"
        )
    )


def _met_before(chapter: int) -> tuple[Exercise, Mistake] | None:
    earlier = {name for each in CHAPTERS if each.number < chapter for name in each.exercises} & set(exercise_names())
    for event in events():
        if event.get("exercise") in earlier and event.get("mistake"):
            exercise = find_exercise(event["exercise"])
            for mistake in exercise.mistakes:
                if mistake.name == event["mistake"] and _stands_alone(mistake):
                    return exercise, mistake
    return None


def _common(chapter: int) -> tuple[Exercise, Mistake] | None:
    earlier = [each for each in CHAPTERS[: chapter - 1] if each.installed]
    for name in reversed([name for each in earlier for name in each.exercises]):
        for mistake in find_exercise(name).mistakes:
            if _stands_alone(mistake):
                return find_exercise(name), mistake
    return None


def _stands_alone(mistake: Mistake) -> bool:
    """Whether its code can be read without a helper function of its file."""
    function = inspect.unwrap(mistake.function)
    helpers = [function.__globals__.get(name) for name in function.__code__.co_names]
    return all(each is None or inspect.ismodule(each) for each in helpers)


def code_of(exercise: Exercise, mistake: Mistake) -> str:
    """Source of a mistake under the name of its exercise, without its decorator and the sentence that names it."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(mistake.function))).body
    function.name, function.decorator_list, function.body = exercise.name, [], function.body[1:]
    return ast.unparse(function)
