"""Our own notebook of each chapter, with empty answers: what every submission is rebuilt from."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import nbformat

from pocketgpt.assets import asset
from pocketgpt.course.building import ROOT
from pocketgpt.course.building.cells import without_answers
from pocketgpt.errors import PocketError


@dataclass(frozen=True)
class MasterCell:
    """role: "text", "given" (code that is not to be changed), "answer" or "check"; exercise: of the last two."""

    id: str
    role: str
    source: str
    exercise: str = ""


@dataclass(frozen=True, eq=False)
class Master:
    """A chapter: its cells, and for each exercise the answer of our solution, where there is one."""

    chapter: str
    cells: tuple[MasterCell, ...]
    solutions: dict[str, str]

    @property
    def exercises(self) -> tuple[str, ...]:
        """By name, in the order of the chapter."""
        return tuple(cell.exercise for cell in self.cells if cell.role == "check")

    @cached_property
    def ids(self) -> dict[str, int]:
        """The index of each cell by its id."""
        return {cell.id: index for index, cell in enumerate(self.cells)}


def plain(source: str) -> str:
    """A source without what editors change: white space at the ends of lines and of the cell."""
    return "\n".join(line.rstrip() for line in source.strip().split("\n"))


@cache
def masters(root: Path = ROOT) -> dict[str, Master]:
    """Load every chapter by name: from solutions/ in a checkout, else from the chapters in the package.

    Raises PocketError if there are neither.
    """
    folder = root / "solutions"
    paths = sorted(folder.glob("*.ipynb")) or sorted(asset("chapters").glob("*.ipynb"))
    if not paths:
        raise PocketError(f"There are no chapters to grade with: neither in {folder} nor in {asset('chapters')}.")
    return {path.stem: _master(path) for path in paths}


def _master(path: Path) -> Master:
    solution = nbformat.read(path, as_version=4)
    cells, solutions = [], {}
    for cell, solved in zip(without_answers(solution).cells, solution.cells, strict=True):
        role, exercise = "text" if cell.cell_type != "code" else "given", ""
        if nbgrader := cell.metadata.get("nbgrader"):
            role = "answer" if nbgrader.solution else "check"
            exercise = nbgrader.grade_id.removeprefix("check-")
        if role == "answer" and solved.source != cell.source:
            solutions[exercise] = solved.source
        cells.append(MasterCell(cell.id, role, cell.source, exercise))
    return Master(path.stem, tuple(cells), solutions)
