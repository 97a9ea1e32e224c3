"""Check a learner's answer: `check.causal_mask(causal_mask)`.

A right answer prints one line. A wrong one raises CheckFailed, which names the mistake, shows a small case and the
hint that helps. While a check runs, what the answer prints is not shown.

`check.example("causal_mask")` returns the inputs that the last failed check showed. `check.seconds` is the time limit
of one call of the answer.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

from pocketgpt.course.checking.answer import misbehaved, no_answer, remembered
from pocketgpt.course.checking.compare import Difference, difference
from pocketgpt.course.checking.demands import unmet
from pocketgpt.course.checking.exercise import Exercise, Mistake
from pocketgpt.course.checking.run import Run, blame, run, run_ours, said_by, undisturbed
from pocketgpt.course.checking.show import has_an_axis_of_one, inputs_line, numbers, picture, side_by_side
from pocketgpt.course.progress import record
from pocketgpt.course.syllabus import exercise_names, find_exercise

seconds = 10.0  # time limit of one call; check.seconds = 60 changes it
_examples: dict[str, tuple] = {}  # by exercise, the inputs of the last failure
TRIES = 5  # wrong guesses that a check answers in one process, where `Exercise.guess` counts them
_guesses: dict[str, set] = {}  # by exercise, the wrong ones


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a wrong answer: the mistake if it has a name, the inputs that show it, and the difference there."""

    sentence: str
    mistake: Mistake | None = None
    inputs: tuple | None = None
    found: Difference | None = None

    def shown(self, exercise: Exercise) -> str:
        """The sentence, and below it the case with yours and the target side by side."""
        lines = [f"✗ {exercise.number} {exercise.name}", self.sentence]
        if self.inputs:
            lines += ["", f"with {inputs_line(exercise.parameters, self.inputs)}"]
        if self.found:
            lines.append(side_by_side(self.found))
            if not lines[-1] and self.sentence != self.found.sentence:
                lines[-1] = self.found.sentence
        return "\n".join(lines).rstrip()


class CheckFailed(AssertionError):
    """An answer is wrong. Notebooks show the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class Interrupted(KeyboardInterrupt):
    """A check was interrupted by hand. Notebooks show one line."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(exercise: Exercise, answer: object) -> None:
    """Print the line of success, or raise CheckFailed."""
    if len(_guesses.get(exercise.name, ())) >= TRIES:
        raise CheckFailed(
            f"✗ {exercise.number} {exercise.name}\n{TRIES} different wrong answers were checked, so this check says no "
            "more until the kernel is restarted: look at the figures again."
        )
    try:
        diagnosis = diagnose(exercise, answer)
        if diagnosis and exercise.guess and (guess := _guess(exercise, answer)):
            _guesses.setdefault(exercise.name, set()).add(guess)
    except KeyboardInterrupt:
        raise Interrupted(f"The check of {exercise.name} was interrupted.") from None
    record(exercise=exercise.name, passed=diagnosis is None, mistake=_mistake_in(diagnosis))
    if diagnosis is None:
        _examples.pop(exercise.name, None)
        print(exercise.success)
        return
    if diagnosis.found and diagnosis.found.name == exercise.picture:
        picture(diagnosis.found)
    message = [diagnosis.shown(exercise)]
    hint = diagnosis.mistake.hint if diagnosis.mistake else None
    if hint:
        message.append(f"Hint {hint} · {exercise.hints[hint - 1]} helps here.")
    if diagnosis.inputs:
        _examples[exercise.name] = diagnosis.inputs
        message.append(f'check.example("{exercise.name}") returns these inputs.')
    raise CheckFailed(message[0] + ("\n\n" + "\n".join(message[1:]) if message[1:] else ""))


def _guess(exercise: Exercise, answer: object) -> object:
    """What a wrong answer guesses; None if it is none, or of a wrong form."""
    if no_answer(exercise, answer):
        return None
    with undisturbed():
        return exercise.guess(run(answer, (), seconds=exercise.seconds or seconds).value)


def _mistake_in(diagnosis: Diagnosis | None) -> str | None:
    return diagnosis.mistake.name if diagnosis and diagnosis.mistake else None


def example(name: str) -> tuple:
    """The inputs that the last failed check of this exercise showed, as a tuple of arguments."""
    if name not in _examples:
        raise LookupError(f"No check of {name!r} has failed since it last passed, so there are no inputs to return.")
    return copy.deepcopy(_examples[name])


def diagnose(exercise: Exercise, answer: object, seed: int | None = None) -> Diagnosis | None:
    """Find what is wrong with an answer; None if it is right. The seed fixes the inputs, for tests."""
    if problem := no_answer(exercise, answer):
        return Diagnosis(problem)
    with undisturbed():
        return _diagnosed(exercise, answer, exercise.cases(seed), exercise.seconds or seconds)


def _diagnosed(exercise: Exercise, answer: Callable, cases: list[tuple], limit: float) -> Diagnosis | None:
    runs = []
    for case in cases:
        runs.append(run(answer, case, forbidden=exercise.forbidden, own=exercise.name, seconds=limit))
        if problem := misbehaved(exercise, runs[-1]):
            return Diagnosis(problem, inputs=case if runs[-1].too_long else None)
    targets = [run_ours(exercise.reference, each.inputs) for each in runs]
    found = [compared(exercise, each, target) for each, target in zip(runs, targets, strict=True)]
    wrong = [i for i, problem in enumerate(found) if problem]
    if not wrong:
        problem = unmet(exercise, answer, runs, limit)
        return Diagnosis(problem[0], inputs=problem[1]) if problem else None
    smallest = min(wrong, key=lambda i: (has_an_axis_of_one(runs[i].inputs), numbers(runs[i].inputs)))
    mistake = named(exercise, runs)
    if mistake:
        sentence = mistake.sentence
    elif exercise.judge:
        sentence = found[smallest].sentence
    elif not (sentence := remembered(answer, [runs[0], runs[smallest], runs[-1]], limit)):
        sentence = _related(exercise, runs, targets, wrong) or _first_wrong(exercise, found) or found[smallest].sentence
    return Diagnosis(sentence, mistake, runs[smallest].inputs, found[smallest])


def named(exercise: Exercise, runs: list[Run]) -> Mistake | None:
    """The mistake of the catalogue that behaves like the answer in every case, if it is the only one.

    Mistakes of the parts that an exercise is composed of count where none of its own fits.
    """
    fitting = recognize(exercise, runs, exercise.mistakes) or recognize(exercise, runs, inherited(exercise))
    return fitting[0] if len(fitting) == 1 else None


def recognize(exercise: Exercise, runs: list[Run], mistakes: Sequence[Mistake]) -> list[Mistake]:
    """The mistakes that give the same value, or raise the same error, in every case."""
    return [
        mistake
        for mistake in mistakes
        if all(_alike(exercise, each, run_ours(mistake.function, each.inputs)) for each in runs)
    ]


def _alike(exercise: Exercise, mine: Run, mistaken: Run) -> bool:
    """No difference. A whole number passes for a target that is a float, but not for a mistake whose point that is."""
    whole = isinstance(mine.value, Integral) == isinstance(mistaken.value, Integral)
    return whole and compared(exercise, mine, mistaken) is None


def inherited(exercise: Exercise) -> list[Mistake]:
    """The mistakes of the parts of a composed exercise, each put together with finished versions of the others."""
    if exercise.assemble is None or not set(exercise.parts) <= set(exercise_names()):  # a chapter that is not here
        return []
    parts = {name: find_exercise(name) for name in exercise.parts}
    finished = {name: part.finished_answer for name, part in parts.items()}
    return [
        Mistake(
            f"{name}.{each.name}",
            each.sentence,
            functools.partial(exercise.assemble, **finished | {name: each.function}),
        )
        for name, part in parts.items()
        for each in [*part.mistakes, *inherited(part)]
    ]


def compared(exercise: Exercise, mine: Run, other: Run) -> Difference | None:
    """The first difference between two runs; a part that can be drawn comes first."""
    if mine.error is not None or other.error is not None:
        if isinstance(mine.error, exercise.raises) and isinstance(other.error, exercise.raises):
            return None
        if type(mine.error) is type(other.error) and _reason(mine.error) == _reason(other.error):
            return None
        missing = f"did not raise {type(other.error).__name__}."
        happened = missing if mine.error is None else f"raised {blame(mine.error)}"
        return Difference(f"Your function {happened}", "error")
    names = exercise.returns
    if exercise.judge:
        return _judged(exercise, mine.value, other.value)
    if len(names) == 1:
        return difference(mine.value, other.value, tolerance=exercise.tolerance, name=names[0])
    if not (_has_parts(mine, names) and _has_parts(other, names)):
        if not _has_parts(other, names):
            return difference(mine.value, other.value, tolerance=exercise.tolerance)
        size = f" of {len(mine.value)}" if isinstance(mine.value, list | tuple) else ""
        return Difference(
            f"Your function should return ({', '.join(names)}); yours returns a {type(mine.value).__name__}{size}.", ""
        )
    parts = zip(names, mine.value, other.value, strict=True)
    found = (difference(got, wanted, tolerance=exercise.tolerance, name=name) for name, got, wanted in parts)
    wrong = [each for each in found if each]
    return min(wrong, key=lambda each: exercise.told_first(each.name), default=None)


def _reason(error: BaseException) -> str:
    """What an error says, without the name that a learner gave to a variable."""
    return "" if isinstance(error, UnboundLocalError) else said_by(error)


def _judged(exercise: Exercise, mine: object, other: object) -> Difference | None:
    """None if both values are right, or the same; otherwise what is wrong with one of them. The right value of one
    question may be another one, so none is shown."""
    if repr(mine) == repr(other):
        return None
    problem = exercise.judge(mine) or exercise.judge(other)
    return Difference(problem, "") if problem else None


def _has_parts(each: Run, names: tuple[str, ...]) -> bool:
    return isinstance(each.value, list | tuple) and len(each.value) == len(names)


def _related(exercise: Exercise, runs: list[Run], targets: list[Run], wrong: list[int]) -> str | None:
    from pocketgpt.course.checking.relations import relation  # only a wrong answer without a name needs them

    try:
        return relation(exercise, runs, targets, wrong, compared)
    except Exception:  # values too odd to be compared in this way
        return None


def _first_wrong(exercise: Exercise, found: list[Difference | None]) -> str | None:
    """Where values follow from each other, which of them is wrong first, and that those before it are right."""
    wrong = {each.name for each in found if each}
    if not wrong <= set(exercise.order):
        return None
    first = min(wrong, key=exercise.order.index)
    right = [f"`{name}`" for name in exercise.order[: exercise.order.index(first)]]
    if not right:
        return f"Your `{first}` is wrong, and the rest follows from it: look at the line that makes it."
    are, them = ("are", "them") if len(right) > 1 else ("is", "it")
    return f"Your {' and '.join(right)} {are} right, and your `{first}` is wrong: look at what is done after {them}."


def __getattr__(name: str) -> Callable[[object], None]:
    """The check of the exercise of that name."""
    if name not in exercise_names():
        raise AttributeError(f"There is no exercise {name!r}. There are: {', '.join(exercise_names())}.")
    return functools.partial(check, find_exercise(name))


def __dir__() -> list[str]:
    return list(exercise_names())
