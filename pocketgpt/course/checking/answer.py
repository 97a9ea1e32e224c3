"""Non-answers: problems that show before the returned values are compared."""

import functools
import inspect
from collections.abc import Callable
from types import FrameType

import numpy as np
from torch import nn

from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.checking.run import Run, blamed, run, said_by
from pocketgpt.course.checking.snapshots import same
from pocketgpt.course.syllabus import exercise_names


def no_answer(exercise: Exercise, answer: object) -> str | None:
    """A sentence about a thing that cannot be called as the exercise asks; None if it can."""
    name = exercise.name
    if isinstance(answer, type) and not isinstance(exercise.reference, type):
        return f"This is the class {answer.__name__}: write the function {name} and pass it."
    if not callable(answer):
        return f"The check needs the function itself, but got a {type(answer).__name__}: write check.{name}({name})."
    if library := _library_name(answer):
        return f"This is {library}, the library's own function. Write yours."
    wanted = f"{name}({', '.join(exercise.parameters)})"
    if isinstance(answer, np.vectorize):
        answer = answer.pyfunc
    try:
        inspect.signature(answer).bind(*exercise.parameters)
    except TypeError:
        return f"Your function is called as {wanted}, but its parameters are {inspect.signature(answer)}."
    except ValueError:  # compiled, without a signature: calling it will tell
        return None
    return None


def _library_name(answer: object) -> str | None:
    """The dotted name of a function of torch, numpy or this package; None for everything else.

    A wrapper that a library makes (torch.jit.script, np.vectorize) belongs to the function that it wraps.
    """
    function = answer.func if isinstance(answer, functools.partial) else answer
    if isinstance(function, nn.Module):
        function = type(function)
    elif not (inspect.isroutine(function) or isinstance(function, np.ufunc)):
        return None
    owner = getattr(function, "__objclass__", None) or type(getattr(function, "__self__", None))
    module = getattr(function, "__module__", None) or owner.__module__ or ""
    if module.split(".")[0] not in ("torch", "numpy", "pocketgpt") or module.startswith("pocketgpt.course."):
        return None
    return f"{module}.{function.__name__}"


def misbehaved(exercise: Exercise, each: Run) -> str | None:
    """A sentence about a call that gave no value to compare, or did more than give one."""
    if each.too_long:
        return "Your loop does not end: does the index grow in every branch?"
    if type(each.error) is NotImplementedError and not said_by(each.error):  # others say what is not implemented
        return _not_written(exercise, each.error)
    if each.value is Ellipsis:
        return "Your function returns `...`: write your answer in its place."
    if each.called:
        return f"Your function calls {each.called}, which does the whole exercise. Write it without."
    if each.changed is not None and each.error is None:
        changed = exercise.parameters[each.changed]
        return (
            f"Your function changes its input `{changed}` in place. Whoever called it still needs it: make a new one."
        )
    if each.value is None and each.error is None:
        return "Your function returns None. Is the return line missing, or inside a loop?"
    return None


def remembered(answer: Callable, runs: list[Run], seconds: float | None) -> str | None:
    """A sentence about a function that returns another value for inputs that it had before."""
    for each in runs:
        again = run(answer, each.inputs, seconds=seconds)
        try:
            repeated = same(each.value, again.value)
        except RuntimeError:  # tensors that are sparse, nested or the like; the difference says so
            return None
        if not repeated:
            return (
                "Called again with the same inputs, your function returns something else. Is anything random in it? Or "
                "a list or dictionary is made outside, or as a default: it stays from call to call, so make it inside."
            )
    return None


def _not_written(exercise: Exercise, error: Exception) -> str:
    """'still empty' for an untouched stub, this one's or an earlier exercise's; for any other, the line to delete."""
    traced = error.__traceback__
    while traced.tb_next:
        traced = traced.tb_next
    line = blamed(error)
    name = line.name if line.name in exercise_names() else exercise.name
    if _untouched(traced.tb_frame):
        return f"{name} is still empty: write your answer in its cell and run it."
    return f"Your answer still ends in `{line.line}`, in line {line.lineno} of {name}: delete the raise line."


def _untouched(frame: FrameType) -> bool:
    """True if the body of the function is the raise line alone: it names nothing else and has no variable."""
    code = frame.f_code
    parameters = code.co_argcount + code.co_kwonlyargcount
    parameters += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_names == ("NotImplementedError",) and code.co_nlocals == parameters
