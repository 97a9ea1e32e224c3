"""nbgrader takes our notebooks as they are: it makes our chapters from our solutions, and marks what is handed in.

Optional, because nbgrader brings many packages of its own. Where one has it, with those that pocketgpt[course] needs:

    POCKETGPT_NBGRADER=/path/to/that/bin/python pytest tests/oracles/test_nbgrader.py
"""

import csv
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from pocketgpt.course.building import ROOT

PYTHON = os.environ.get("POCKETGPT_NBGRADER")
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "course"
c.Execute.timeout = 600  # of a cell, in seconds: a slow machine decides nothing
"""
VALIDATE = """
import sys
import nbformat
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.utils import compute_checksum

for path in sys.argv[1:]:
    notebook = nbformat.read(path, as_version=4)
    MetadataValidator().validate_nb(notebook)
    marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert marked, path
    for cell in marked:
        assert cell.metadata.nbgrader.checksum == compute_checksum(cell), (path, cell.id)
"""

pytestmark = pytest.mark.skipif(not PYTHON, reason="POCKETGPT_NBGRADER does not name a Python that has nbgrader")


def run(*arguments: str, folder: Path) -> None:
    """Python with nbgrader, in a folder, with this copy of pocketgpt."""
    path = f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PYTHON, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=CHAPTERS)
def course(request, tmp_path_factory) -> tuple[Path, str]:
    """A course of nbgrader's with one chapter, after `nbgrader generate_assignment`."""
    folder, chapter = tmp_path_factory.mktemp(request.param), request.param
    (folder / "nbgrader_config.py").write_text(CONFIG)
    hand(ROOT / "solutions" / f"{chapter}.ipynb", folder / "source" / chapter)
    run("-m", "nbgrader", "generate_assignment", chapter, folder=folder)
    return folder, chapter


def hand(notebook: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(notebook, folder)


def unlocked(path: Path) -> NotebookNode:
    """A notebook without the two marks by which Jupyter keeps a cell from being edited, which nbgrader adds."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for mark in ("deletable", "editable"):
            cell.metadata.pop(mark, None)
    return notebook


def test_metadata_and_checksums_are_nbgraders(tmp_path):
    notebooks = [ROOT / folder / f"{chapter}.ipynb" for folder in ("solutions", "chapters") for chapter in CHAPTERS]
    run("-c", VALIDATE, *map(str, notebooks), folder=tmp_path)


def test_the_assignment_that_nbgrader_generates_is_our_chapter(course):
    folder, chapter = course
    ours = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4)
    assert unlocked(folder / "release" / chapter / f"{chapter}.ipynb") == ours


def test_a_solution_gets_all_points_and_an_untouched_chapter_none(course):
    folder, chapter = course
    hand(ROOT / "solutions" / f"{chapter}.ipynb", folder / "submitted" / "solved" / chapter)
    hand(ROOT / "chapters" / f"{chapter}.ipynb", folder / "submitted" / "untouched" / chapter)
    run("-m", "nbgrader", "autograde", chapter, folder=folder)
    run("-m", "nbgrader", "export", folder=folder)
    with (folder / "grades.csv").open() as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"solved": points(chapter), "untouched": 0}


def points(chapter: str) -> int:
    cells = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4).cells
    return sum(cell.metadata.nbgrader.get("points", 0) for cell in cells if "nbgrader" in cell.metadata)
