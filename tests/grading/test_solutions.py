"""Every solution, through the sandbox, earns its marks; a chapter as it is handed out earns none."""

import shutil

import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.grade import Grader, grade_all
from pocketgpt.grading.master import masters
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import choose
from pocketgpt.grading.submissions import submissions

CHAPTERS = masters()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of every solution and every chapter, by file."""
    folder, limits = tmp_path_factory.mktemp("submissions"), Limits(cell_seconds=120.0)
    for kind in ("solutions", "chapters"):
        (folder / kind).mkdir()
        for chapter in CHAPTERS:
            shutil.copy(ROOT / kind / f"{chapter}.ipynb", folder / kind)
    grader = Grader(masters=CHAPTERS, sandbox=choose(limits, hidden=(folder,)), limits=limits)
    return {each.file: each for each in grade_all(grader, list(submissions(folder, list(CHAPTERS))), jobs=2)}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_solution_gets_full_marks(results, chapter):
    result = results[f"solutions/{chapter}.ipynb"]
    assert result.chapter == chapter
    assert not [verdict.message for verdict in result.verdicts if not verdict.passed]
    # Ada Lovelace, whose name is in our exam, did not hand it in.
    assert all("of Ada Lovelace" in note for note in result.notes)
    assert [verdict.exercise for verdict in result.verdicts] == list(CHAPTERS[chapter].exercises)
    assert all(verdict.message == exercises()[verdict.exercise].success for verdict in result.verdicts)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_untouched_chapter_gets_nothing_and_says_so(results, chapter):
    result = results[f"chapters/{chapter}.ipynb"]
    assert result.chapter == chapter
    assert [verdict.exercise for verdict in result.verdicts] == list(CHAPTERS[chapter].exercises)
    assert not any(verdict.passed for verdict in result.verdicts)
    assert "untouched" in result.notes[0] and result.seconds == 0
