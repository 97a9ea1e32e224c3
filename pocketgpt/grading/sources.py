"""Source code that stands alone, without the course: finished answers, and inputs that are no plain values.

The blind run gets them as text, because there the package has no exercises (blind.py).
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from pocketgpt.grading.arrays import Source


@cache
def source_of(function: FunctionType) -> str:
    """Source that defines a function of the course, with the imports and constants that it needs.

    Raises TypeError if it calls a helper of the course: that might be the answer to another exercise.
    """
    lines: dict[str, str] = {}
    _define(function, lines, helpers=False)
    return "\n".join(lines.values())


def case_as_source(case: tuple) -> tuple:
    """A case of an exercise, with sources in place of functions, and of objects of the course such as recipes.

    Objects of one case are in one source, so that those that share a part go on sharing it.
    """
    lines: dict[str, str] = {}
    objects = {i: _construct(value, lines) for i, value in enumerate(case) if _is_built(value)}
    code = "\n".join(lines.values())
    return tuple(
        Source(objects[i], code)
        if i in objects
        else Source(value.__name__, source_of(inspect.unwrap(value)))
        if isinstance(value, FunctionType)
        else value
        for i, value in enumerate(case)
    )


def _is_built(value: Any) -> bool:
    return is_dataclass(value) and type(value).__module__.startswith("pocketgpt.course.")


def _construct(value: Any, lines: dict[str, str]) -> str:
    """Add the lines that make an object, and return the name it gets there."""
    name = f"object_{id(value)}"
    if name not in lines:
        _define(type(value), lines, helpers=True)
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        made = {key: _construct(part, lines) if _is_built(part) else repr(part) for key, part in parts.items()}
        lines[name] = f"{name} = {type(value).__name__}({', '.join(f'{key}={part}' for key, part in made.items())})"
    return name


def _define(definition: Callable, lines: dict[str, str], *, helpers: bool) -> None:
    """Add the source of a function or a class, after the lines that define what it needs."""
    if definition.__name__ in lines:
        return
    lines[definition.__name__] = ""  # it may need itself
    tree = _Unannotated().visit(ast.parse(textwrap.dedent(inspect.getsource(definition))))
    if isinstance(definition, FunctionType):
        tree.body[0].decorator_list = []
    space = inspect.unwrap(definition).__globals__ if isinstance(definition, FunctionType) else _space(definition)
    for name in sorted(set(_free_names(tree)) & {*space}):
        value = space[name]
        if isinstance(value, ModuleType):
            line = f"import {value.__name__} as {name}"
        elif _is_plain(value):
            line = f"{name} = {value!r}"
        elif getattr(value, "__module__", "pocketgpt").split(".")[0] != "pocketgpt":
            line = f"from {value.__module__} import {value.__qualname__} as {name}"
        elif helpers:
            _define(value, lines, helpers=True)
            continue
        else:
            raise TypeError(f"{definition.__name__} of {definition.__module__} has to stand alone, and uses {name}.")
        lines[name] = line
    del lines[definition.__name__]
    lines[definition.__name__] = ast.unparse(ast.fix_missing_locations(tree))


def _space(definition: type) -> dict[str, Any]:
    return vars(inspect.getmodule(definition))


def _free_names(tree: ast.AST) -> Iterator[str]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in found if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return (node.id for node in found if node.id not in bound)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes)


class _Unannotated(ast.NodeTransformer):
    """Removes annotations, which name types that need not be there."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Name("object", ast.Load())  # a field of a dataclass stays one
        return node
