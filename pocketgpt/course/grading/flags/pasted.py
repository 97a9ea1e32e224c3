"""Recognizing one of our own answers in a submission."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache

from pocketgpt.course.syllabus import all_exercises as exercises

PASTED = "has the body of one of the course's own answers"
# Nodes of a body's syntax tree. Two people who follow the hints of a chapter write the same short body: our own answers
# have 4 to 56 nodes, and those of the longest (scaled_attention, merge_pair) follow their pseudocode line by line, so
# they say nothing about who wrote them. From 60 nodes on the names of all local variables, the order of the lines and
# each spelling would have to agree by chance; of the accepted variants and references a fifth is that long.
LONG = 60


def pasted(tree: ast.AST, ours: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and reason of each function in a tree whose body is in `ours`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _body(node) in ours:
            yield node.lineno, PASTED


@cache
def our_answers(names: tuple[str, ...], solutions: tuple[str, ...]) -> frozenset[str]:
    """The bodies, as `pasted` compares them, of the long ones among the references and accepted variants of some
    exercises, the functions that these call in their module, and the given sources."""
    sources = list(solutions)
    for exercise in (exercises()[name] for name in names):
        module = inspect.getmodule(exercise.reference)
        helpers = [
            each
            for name, each in vars(module).items()
            if inspect.isfunction(each) and (name.startswith("_") or each.__module__.endswith(".shared"))
        ]
        sources += map(inspect.getsource, [exercise.reference, *exercise.accepted_answers, *helpers])
    return frozenset(_bodies(sources))


def _bodies(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        for node in ast.walk(ast.parse(textwrap.dedent(source))):
            if isinstance(node, ast.FunctionDef) and (body := _body(node)):
                yield body


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """A long body without docstring and places; the names of local variables stay. None for a short one."""
    lines = function.body[ast.get_docstring(function, clean=False) is not None :]
    symbols = ast.expr_context | ast.operator | ast.cmpop
    size = sum(not isinstance(node, symbols) for line in lines for node in ast.walk(line))
    if size < LONG:
        return None
    try:
        return "\n".join(map(ast.dump, lines))
    except RecursionError:  # deeper than any of ours
        return None
