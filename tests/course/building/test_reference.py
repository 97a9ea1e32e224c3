"""Glossary, notation and cheat sheet are built with the chapters and compared with them."""

import pytest

from pocketgpt.course.building import ROOT, build, reference
from pocketgpt.course.building.cells import BuildError
from pocketgpt.course.building.reference import belongs_to, build_reference, differing_reference
from pocketgpt.course.reference.cheat_sheet import files

CHAPTERS = ("00_start_here", "02_attention")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The pages of two chapters, with the cheat sheet of the project."""
    for name in files.NAMES:
        (tmp_path / name).write_bytes((ROOT / "chapters" / name).read_bytes())
    monkeypatch.setattr(files, "write", lambda folder: pytest.fail("The sheet is up to date, and yet it is drawn."))
    build_reference(tmp_path, CHAPTERS)
    return tmp_path


def test_what_was_built_is_up_to_date(folder):
    assert not differing_reference(folder, CHAPTERS)


@pytest.mark.parametrize("name", ["glossary.md", "notation.md", *files.NAMES])
def test_a_changed_or_missing_file_is_reported_with_the_command_that_mends_it(folder, name):
    (folder / name).write_bytes(b"something else")
    assert [line.split()[0] for line in differing_reference(folder, CHAPTERS)] == [f"{folder.name}/{name}"]
    (folder / name).unlink()
    (line,) = differing_reference(folder, CHAPTERS)
    assert line.endswith("run: pocketgpt build")


def test_another_set_of_chapters_gives_other_links(folder):
    assert len(differing_reference(folder, CHAPTERS[:1])) == 2


def test_a_sheet_that_is_out_of_date_is_drawn(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(files, "write", drawn.append)
    (folder / files.NAMES[0]).unlink()
    build_reference(folder, CHAPTERS)
    assert drawn == [folder]


def test_the_check_of_all_chapters_reports_the_pages(monkeypatch):
    monkeypatch.setattr(build, "differing_reference", lambda folder, chapters: ["chapters/glossary.md is old"])
    with pytest.raises(BuildError, match=r"chapters/glossary\.md is old"):
        build.build(check=True)


def test_folders_without_chapters_of_the_course_have_no_pages():
    assert belongs_to(["98_tiny", "02_attention"]) and not belongs_to(["98_tiny"])
    assert set(reference.TITLES) == {"glossary.md", "notation.md", files.NAMES[0]}
