"""The answers of the solution notebooks are right whatever a check draws, not only with what it drew there."""

import ast
import contextlib
import io
import os

import pytest

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.grading.master import masters

CHAPTERS = masters()
SEEDS = range(int(os.environ.get("POCKETGPT_SEEDS", "2")))


def answers_of(master):
    """The functions that a notebook's answers define, with what its other cells import and define for them."""
    names = {"__name__": "__main__"}
    for cell in master.cells:
        if cell.role == "answer":
            exec(compile(master.solutions[cell.exercise], "answer", "exec"), names)
        elif cell.role == "given":
            tree = ast.parse(cell.source)
            tree.body = [
                node
                for node in tree.body
                if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
                or "earlier(" in ast.unparse(node)
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(tree, "given", "exec"), names)
    return {name: names[name] for name in master.exercises}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_answers_of_a_notebook_pass_with_every_seed(chapter):
    for name, answer in answers_of(CHAPTERS[chapter]).items():
        for seed in SEEDS:
            diagnosis = diagnose(find_exercise(name), answer, seed)
            assert diagnosis is None, (seed, diagnosis.shown(find_exercise(name)))
