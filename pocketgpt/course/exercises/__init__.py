"""The exercises of the course, one module a chapter."""

import pkgutil
from functools import cache
from importlib import import_module

from pocketgpt.course.exercise import Exercise


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by name, in the order of their numbers.

    Raises TypeError if two share a name or a number.
    """
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]
    for key in ("name", "number"):
        values = [getattr(exercise, key) for exercise in found]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise TypeError(f"Two exercises have the {key} {twice[0]!r}.")
    found.sort(key=lambda exercise: tuple(int(part) for part in exercise.number.split(".")))
    return {exercise.name: exercise for exercise in found}
