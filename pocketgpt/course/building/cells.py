"""The cells of a chapter: which hold answers and checks, their ids, nbgrader's metadata, and taking answers out."""

import copy
import hashlib
import re

from nbformat import NotebookNode, from_dict

from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")  # nbgrader's own
CHECK = re.compile(r"check\.(\w+)\(\1\)")


class BuildError(PocketError):
    """A chapter that cannot be built, or files that do not belong together."""


def mark(notebook: NotebookNode, chapter: str) -> None:
    """Give every cell its id, and answer and check cells their nbgrader metadata.

    chapter: "02_attention". Raises BuildError if answers, hints and checks do not fit together.
    """
    answered: set[str] = set()
    checked: set[str] = set()
    prose = ""  # since the last check: where the hints of the next one are
    for position, cell in enumerate(notebook.cells):
        cell.id = f"{chapter.split('_')[0]}-{position:03d}"
        keep = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
        cell.metadata = from_dict(keep)
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
                raise BuildError(f"{chapter}: check.{exercise.name} stands before, or without, an answer cell.")
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
    """A copy for the learner: answers replaced by nbgrader's stub, outputs gone."""
    chapter = copy.deepcopy(notebook)
    for cell in chapter.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = _cleared(cell.source)
        if nbgrader := cell.metadata.get("nbgrader"):
            nbgrader.checksum = _checksum(cell)
    return chapter


def _answered(cell: NotebookNode, chapter: str) -> Exercise | None:
    """The exercise that an answer cell answers: the one whose name it defines."""
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
    """The exercise that a check cell checks: a cell that is one call, check.NAME(NAME)."""
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
    """Checksum by which nbgrader sees that a cell was changed."""
    nbgrader = cell.metadata.nbgrader
    parts = [cell.source, cell.cell_type, str(nbgrader.grade), str(nbgrader.solution), str(nbgrader.locked)]
    parts.append(nbgrader.grade_id)
    if nbgrader.grade:
        parts.append(str(float(nbgrader.points)))
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def _cleared(source: str) -> str:
    """The source with each answer replaced by the stub, as nbgrader's ClearSolutions does it."""
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
