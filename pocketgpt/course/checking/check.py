"""Check a learner's answer: `check.causal_mask(causal_mask)`.

A right answer prints one line. A wrong one raises CheckFailed, which names the mistake, shows a small case and
names the next hint. While a check runs, what the answer prints is not shown.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pocketgpt.course.checking.compare import Difference, difference
from pocketgpt.course.checking.exercise import Exercise, Mistake
from pocketgpt.course.checking.run import Run, blame, blamed, run, undisturbed
from pocketgpt.course.checking.show import inputs_line, picture, side_by_side
from pocketgpt.course.syllabus import exercise_names, find_exercise

_failures: Counter[str] = Counter()  # by exercise, since the last success: the next hint to open


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a wrong answer; for a wrong value also the inputs and the difference."""

    sentence: str
    mistake: Mistake | None = None
    inputs: tuple | None = None
    found: Difference | None = None

    def shown(self, exercise: Exercise) -> str:
        """The sentence, and below it the case with yours and the target side by side."""
        lines = [f"✗ {exercise.number} {exercise.name}", self.sentence]
        if self.found:
            lines += ["", f"with {inputs_line(exercise.parameters, self.inputs)}", side_by_side(self.found)]
            if not lines[-1] and self.mistake:
                lines[-1] = self.found.sentence
        return "\n".join(lines).rstrip()


class CheckFailed(AssertionError):
    """An answer is wrong. Notebooks show the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def check(exercise: Exercise, answer: object) -> None:
    """Print the line of success, or raise CheckFailed."""
    diagnosis = diagnose(exercise, answer)
    if diagnosis is None:
        _failures[exercise.name] = 0
        print(exercise.success)
        return
    if diagnosis.found and diagnosis.found.name == exercise.picture:
        picture(diagnosis.found)
    message = diagnosis.shown(exercise)
    if diagnosis.found:
        _failures[exercise.name] += 1
        message += f"\n\n{_next_step(exercise)}"
    raise CheckFailed(message)


def diagnose(exercise: Exercise, answer: object, seed: int | None = None) -> Diagnosis | None:
    """Find what is wrong with an answer; None if it is right. The seed fixes the inputs, for tests."""
    if problem := _not_an_answer(exercise, answer):
        return Diagnosis(problem)
    with undisturbed():
        cases = exercise.cases(seed)
    runs = [run(answer, case, forbidden=exercise.forbidden, own=exercise.name) for case in cases]
    for each in runs:
        if problem := _misbehaved(exercise, each):
            return Diagnosis(problem)
    targets = [run(exercise.reference, each.inputs) for each in runs]
    found = [compared(exercise, each, target) for each, target in zip(runs, targets, strict=True)]
    wrong = next((i for i, problem in enumerate(found) if problem), None)
    if wrong is None:
        return None
    mistake = next(recognize(exercise, runs), None)
    if mistake is None and not runs[wrong].error:  # two mistakes at once: the one that shows first
        mistake = next(recognize(exercise, runs[: wrong + 1]), None)
    sentence = mistake.sentence if mistake else found[wrong].sentence
    return Diagnosis(sentence, mistake, runs[wrong].inputs, found[wrong])


def recognize(exercise: Exercise, runs: list[Run]) -> Iterator[Mistake]:
    """Yield the known mistakes that behave like the answer in every case: the same values, or the same error."""
    for mistake in exercise.mistakes:
        others = (run(mistake.function, each.inputs) for each in runs)
        if all(compared(exercise, each, other) is None for each, other in zip(runs, others, strict=True)):
            yield mistake


def compared(exercise: Exercise, mine: Run, other: Run) -> Difference | None:
    """The first difference between two runs; a part that can be drawn comes first."""
    if mine.error or other.error:
        if type(mine.error) is type(other.error):
            return None
        happened = f"raised {blame(mine.error)}" if mine.error else f"did not raise {type(other.error).__name__}."
        return Difference(f"Your function {happened}", "error")
    names = exercise.returns
    if len(names) == 1:
        return difference(mine.value, other.value, tolerance=exercise.tolerance, name=names[0])
    if not isinstance(mine.value, list | tuple) or len(mine.value) != len(names):
        size = f" of {len(mine.value)}" if isinstance(mine.value, list | tuple) else ""
        return Difference(
            f"Your function returns a {type(mine.value).__name__}{size}, expected ({', '.join(names)}).", ""
        )
    parts = zip(names, mine.value, other.value, strict=True)
    found = (difference(got, wanted, tolerance=exercise.tolerance, name=name) for name, got, wanted in parts)
    wrong = [each for each in found if each]
    return min(wrong, key=lambda each: each.name != exercise.picture, default=None)


def _not_an_answer(exercise: Exercise, answer: object) -> str | None:
    """Problems that show before the answer is called."""
    name = exercise.name
    if not callable(answer):
        return f"The check needs the function itself, but got a {type(answer).__name__}: write check.{name}({name})."
    function = answer.func if isinstance(answer, functools.partial) else answer
    module = getattr(function, "__module__", None) or ""
    if module.split(".")[0] in ("torch", "numpy", "pocketgpt") and not module.startswith("pocketgpt.course."):
        return f"This is {module}.{function.__name__}, the library's own function. Write yours."
    wanted = f"{name}({', '.join(exercise.parameters)})"
    try:
        inspect.signature(answer).bind(*exercise.parameters)
    except TypeError:
        return f"Your function is called as {wanted}, but its parameters are {inspect.signature(answer)}."
    except ValueError:  # a builtin without a signature
        return f"Write a function of your own: {wanted}."
    return None


def _misbehaved(exercise: Exercise, each: Run) -> str | None:
    """Problems that do not depend on the returned values."""
    stub = type(each.error) is NotImplementedError and not each.error.args  # others say what is not implemented
    if stub or each.value is Ellipsis:
        # A stub of an earlier exercise may be what raised.
        raised_in = blamed(each.error).name if each.error else exercise.name
        empty = raised_in if raised_in in exercise_names() else exercise.name
        return f"{empty} is still empty: write your answer in its cell and run it."
    if each.called:
        return f"Your function calls {each.called}, which does the whole exercise. Write it without."
    if each.changed is not None and not each.error:
        changed = exercise.parameters[each.changed]
        return (
            f"Your function changes its input `{changed}` in place. Whoever called it still needs it: make a new one."
        )
    if each.value is None and not each.error:
        return "Your function returns None. Is the return line missing?"
    return None


def _next_step(exercise: Exercise) -> str:
    tries = _failures[exercise.name]
    if tries <= len(exercise.hints):
        return f"Next: open hint {tries} · {exercise.hints[tries - 1]}."
    return "All hints are open. You can continue: later cells use the finished version."


def __getattr__(name: str) -> Callable[[object], None]:
    """The check of the exercise of that name."""
    if name not in exercise_names():
        raise AttributeError(f"There is no exercise {name!r}. There are: {', '.join(exercise_names())}.")
    return functools.partial(check, find_exercise(name))


def __dir__() -> list[str]:
    return list(exercise_names())
