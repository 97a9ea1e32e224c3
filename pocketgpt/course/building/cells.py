"""Cells of a chapter: ids, nbgrader metadata for answers and checks, and clearing the answers."""

import copy
import hashlib
import re

from nbformat import NotebookNode, from_dict

from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")  # nbgrader's own
LINE = 100  # columns of code that JupyterLab shows in a window 1,100 pixels wide
CHECK = re.compile(r"check\.(\w+)\(\1\)")


class BuildError(PocketError):
    """Raised for a chapter that cannot be built, and for files that do not match."""


def mark(notebook: NotebookNode, chapter: str) -> None:
    """Give every cell its id, and answer and check cells their nbgrader metadata.

    chapter: "02_attention". Raises BuildError if answers, hints and checks do not match, or a line of code is too long.
    """
    answered: set[str] = set()
    checked: set[str] = set()
    prose = ""  # since the last check: it contains the hints of the next exercise
    for position, cell in enumerate(notebook.cells):
        cell.id = f"{chapter.split('_')[0]}-{position:03d}"
        keep = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
        cell.metadata = from_dict(keep)
        if cell.cell_type == "code" and (long := [line for line in cell.source.split("\n") if len(line) > LINE]):
            raise BuildError(f"{chapter}: this line of code is longer than {LINE} columns:\n\n{long[0]}")
        if cell.cell_type == "markdown":
            prose += cell.source
        elif exercise := _answered(cell, chapter):
            if exercise.name in answered:
                raise BuildError(f"{chapter}: {exercise.name} has two answer cells.")
            answered.add(exercise.name)
            cell.id = exercise.name
            cell.metadata.nbgrader = _nbgrader(cell, exercise.name, solution=True)
        elif exercise := _checked(cell, chapter):
            if exercise.name not in answered:
                raise BuildError(f"{chapter}: check.{exercise.name} comes before its answer cell, or has none.")
            if exercise.name in checked:
                raise BuildError(f"{chapter}: {exercise.name} is checked twice.")
            for number, hint in enumerate(exercise.hints, 1):
                if f"Hint {number} · {hint}" not in prose:
                    raise BuildError(f"{chapter}: {exercise.name} lacks the text 'Hint {number} · {hint}'.")
            checked.add(exercise.name)
            prose = ""
            cell.id = f"check-{exercise.name}"
            cell.metadata.nbgrader = _nbgrader(cell, cell.id, points=exercise.points)
    if missing := sorted(answered - checked):
        raise BuildError(
            f"{chapter}: {missing[0]} has an answer cell and no check cell: check.{missing[0]}({missing[0]})."
        )


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """Copy a notebook for learners: answers replaced by nbgrader's stub, outputs cleared."""
    chapter = copy.deepcopy(notebook)
    for cell in chapter.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = _cleared(cell.source)
        if nbgrader := cell.metadata.get("nbgrader"):
            nbgrader.checksum = _checksum(cell)
    return chapter


def _answered(cell: NotebookNode, chapter: str) -> Exercise | None:
    """The exercise whose name an answer cell defines, or None for other cells."""
    if BEGIN not in cell.source:
        return None
    found = exercise_names()
    defined = [name for name in re.findall(r"^(?:def|class) (\w+)", cell.source, re.MULTILINE) if name in found]
    if len(defined) != 1:
        raise BuildError(f"{chapter}: this cell has {BEGIN} and defines {len(defined)} exercises:\n\n{cell.source}")
    if cell.source.count(BEGIN) != cell.source.count(END):
        raise BuildError(f"{chapter}: {BEGIN} and {END} are not paired in the answer to {defined[0]}.")
    return find_exercise(defined[0])


def _checked(cell: NotebookNode, chapter: str) -> Exercise | None:
    """The exercise of a check cell, whose source is check.NAME(NAME), or None for other cells."""
    if not (call := CHECK.fullmatch(cell.source.strip())):
        return None
    found = exercise_names()
    if call[1] not in found:
        raise BuildError(f"{chapter}: there is no exercise {call[1]!r}. There are: {', '.join(found)}.")
    return find_exercise(call[1])


def _nbgrader(cell: NotebookNode, grade_id: str, *, solution: bool = False, points: int | None = None) -> NotebookNode:
    metadata = {"schema_version": 3, "grade_id": grade_id, "cell_type": "code", "task": False}
    metadata |= {"solution": solution, "locked": not solution, "grade": not solution}
    if points is not None:
        metadata["points"] = points
    cell.metadata.nbgrader = from_dict(metadata)
    metadata["checksum"] = _checksum(cell)
    return from_dict(metadata)


def _checksum(cell: NotebookNode) -> str:
    """Checksum that nbgrader uses to detect changed cells."""
    nbgrader = cell.metadata.nbgrader
    parts = [cell.source, cell.cell_type, str(nbgrader.grade), str(nbgrader.solution), str(nbgrader.locked)]
    parts.append(nbgrader.grade_id)
    if nbgrader.grade:
        parts.append(str(float(nbgrader.points)))
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def _cleared(source: str) -> str:
    """Replace each answer by the stub, as nbgrader's ClearSolutions does."""
    lines, inside = [], False
    for line in source.split("\n"):
        if BEGIN in line:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + stub for stub in STUB]
        elif END in line:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)
