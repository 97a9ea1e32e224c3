"""The cheat sheet: readable in print, nothing overlaps, every number is computed, and its files say what made them."""

import json
import re
import subprocess
import sys
from itertools import combinations

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser

from pocketgpt.assets import asset
from pocketgpt.course.building import ROOT
from pocketgpt.course.reference.cheat_sheet import content, drawing, files
from pocketgpt.course.reference.cheat_sheet.column import Column
from pocketgpt.errors import PocketError

SMALLEST = 6.5  # points, on A4


@pytest.fixture(scope="module")
def pages():
    return drawing.draw()


def texts(page):
    return [text for text in page.axes[0].texts if text.get_text()]


def glyph_sizes(text) -> list[float]:
    """Sizes of all glyphs of a text, in points."""
    size = text.get_fontsize()
    if not text.get_parse_math():
        return [size]
    parsed = MathTextParser("path").parse(text.get_text(), dpi=72, prop=FontProperties(size=size))
    return [glyph[1] for glyph in parsed.glyphs]


def test_there_are_two_pages_of_a4(pages):
    assert [tuple(round(25.4 * inches) for inches in page.get_size_inches()) for page in pages] == [(297, 210)] * 2


def test_no_glyph_is_too_small_to_read_in_print(pages):
    sizes = {size: text.get_text() for page in pages for text in texts(page) for size in glyph_sizes(text)}
    assert len(sizes) > 5
    assert min(sizes) >= SMALLEST, sizes[min(sizes)]


def test_no_text_overlaps_another_or_leaves_the_page(pages):
    for page in pages:
        renderer = page.canvas.get_renderer()
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(page)]
        assert not [name for name, box in boxes if box.x0 < 10 or box.x1 > 832 or box.y0 < 5 or box.y1 > 590]
        for (one, a), (other, b) in combinations(boxes, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 0.5 or high < 2.5, (one, other)  # boxes are as high as the highest letter of a font


def test_a_text_that_does_not_fit_is_an_error(pages):
    page = pages[0].axes[0]
    column = Column(page, pages[0].canvas.get_renderer(), x=0, y=0, width=100, bottom=30)
    with pytest.raises(PocketError, match="wide"):
        column.equation("long", ["x + " * 30 + "x"], 1)
    with pytest.raises(PocketError, match="below the end of its column"):
        column.paragraph("word " * 100)


def test_each_symptom_is_the_measured_row():
    measured = json.loads(asset("symptoms.json").read_text(encoding="utf-8"))
    rows = {row["shown"]: measured[row["exercise"]][row["mistake"]] for row in content.sheet()["symptom"]}
    assert len(rows) == len(content.symptoms()) >= 40
    for row in content.symptoms():
        assert [row.loss, row.leaks] == rows[row.shown]
    assert [row.loss for row in content.symptoms()] == sorted(row.loss for row in content.symptoms())


def test_symptoms_are_of_the_pocket_model():
    measured = json.loads(asset("symptoms.json").read_text(encoding="utf-8"))
    right = {measured[row["exercise"]]["right"][0] for row in content.sheet()["symptom"]}
    assert right == {4.103}


def test_shapes_have_one_number_for_each_size_that_the_pocket_model_fixes():
    known = set(content.sizes()) | {"B", "T", "S"}
    assert {letter for step in content.steps() for letter in step.shape} <= known
    assert {latex for latex, _, _ in content.letters()} <= known


def test_the_stored_files_are_those_of_the_present_sources():
    assert not files.outdated(ROOT / "chapters")


@pytest.mark.parametrize("what", ["a measured loss", "an equation", "the drawing"])
def test_a_change_of_a_source_changes_the_stamp(monkeypatch, tmp_path, what):
    before = files.stamp()
    if what == "a measured loss":
        monkeypatch.setattr(content, "symptoms", lambda: [])
    elif what == "an equation":
        monkeypatch.setitem(content.sheet(), "sampling", ["temperature"])
    else:
        (tmp_path / "other.py").write_text("another drawing")
        monkeypatch.setattr(files, "DRAWN_BY", (*files.DRAWN_BY, str(tmp_path / "other.py")))
    assert files.stamp() != before


def test_missing_and_damaged_files_are_outdated(tmp_path):
    assert files.outdated(tmp_path) == list(files.NAMES)
    for name in files.NAMES:
        (tmp_path / name).write_bytes((ROOT / "chapters" / name).read_bytes())
    assert not files.outdated(tmp_path)
    (tmp_path / files.NAMES[1]).write_bytes(b"made from " + b"0" * 64)
    assert files.outdated(tmp_path) == [files.NAMES[1]]


def test_writing_twice_gives_the_same_bytes_and_no_date(tmp_path, pages, monkeypatch):
    monkeypatch.setattr(drawing, "draw", lambda: pages)
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        files.write(folder)
    for name in files.NAMES:
        written = (tmp_path / "one" / name).read_bytes()
        assert written == (tmp_path / "two" / name).read_bytes()
        assert not re.search(rb"CreationDate|ModDate|tIME", written)


def test_comparing_draws_nothing():
    code = (
        "import sys\nfrom pathlib import Path\nfrom pocketgpt.course.building.reference import differing_reference\n"
        "from pocketgpt.course.syllabus import CHAPTERS\n"
        "print(differing_reference(Path('chapters'), [chapter.name for chapter in CHAPTERS if chapter.written]))\n"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]
