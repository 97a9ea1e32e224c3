"""FEATURES.md names files, tests and chapters that exist."""

import re
from pathlib import Path

import pytest

from pocketgpt.course.syllabus import CHAPTERS

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "FEATURES.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| feature")
]
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_feature_has_code_a_test_and_a_chapter(row: list[str]):
    _, code, tests, chapters = row
    for name, path in LINK.findall(code):
        assert Path(path).name == name and (ROOT / path).is_file(), path
    for name, path in LINK.findall(tests):
        assert f"def test_{name.replace(' ', '_')}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}: {name}"
    assert LINK.search(code) and LINK.search(tests)
    for chapter in chapters.split(", "):
        number = int(re.match(r"\[?(\d+)", chapter)[1])
        written = CHAPTERS[number].written
        expected = f"[{number:02d}](chapters/{CHAPTERS[number].name}.ipynb)" if written else f"{number} to come"
        assert chapter == expected
