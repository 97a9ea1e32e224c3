"""The pages of text: every term and symbol is on them, and no link is dead."""

import re

import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.reference import texts
from pocketgpt.course.reference.cheat_sheet.files import NAMES
from pocketgpt.course.reference.pages import GROUPS, glossary, notation, several_meanings
from pocketgpt.course.reference.terms import symbols, terms
from pocketgpt.course.syllabus import CHAPTERS

WRITTEN = [chapter.name for chapter in CHAPTERS if chapter.written]


def links(page: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", page))


@pytest.mark.parametrize("page", ["glossary.md", "notation.md"])
def test_each_link_leads_to_a_file_beside_it(page):
    found = links(texts(WRITTEN)[page])
    assert len(found) > 15
    assert not [name for name in found if not (ROOT / "chapters" / name).is_file()]


@pytest.mark.parametrize("page", ["glossary.md", "notation.md"])
def test_chapters_that_are_not_there_are_named_and_not_linked(page):
    text = texts(["02_attention"])[page]
    assert links(text) <= {"02_attention.ipynb", "glossary.md", "notation.md", NAMES[0]}
    assert re.search(r"chapter 8\b|\b8\b", text)


def test_the_glossary_lists_each_term_once_in_order():
    listed = re.findall(r"^\*\*(.*?)\*\*:", glossary(WRITTEN), re.MULTILINE)
    assert sorted(listed) == sorted(term.name for term in terms())
    assert [name.lower() for name in listed] == sorted(name.lower() for name in listed)
    assert len(set(listed)) == len(listed)


def test_a_definition_is_one_to_three_short_sentences():
    for term in terms():
        assert term.text.endswith((".", ".)")), term.name
        assert len(term.text.split()) <= 45, term.name


def test_each_row_of_the_notation_has_five_cells():
    rows = [line for line in notation(WRITTEN).splitlines() if line.startswith("| $") and "](" in line]
    assert len(rows) == len(symbols())
    assert {row.count(" | ") for row in rows} == {4}
    assert {symbol.group for symbol in symbols()} == set(GROUPS)


def test_letters_with_several_meanings_are_listed_with_all_of_them():
    assert {"T", "S", "P", "m", "p", "s", "L", "G", "H"} <= set(several_meanings())
    assert [symbol.meaning for symbol in several_meanings()["T"]][1] == "temperature"


def test_greek_letters_of_two_uses_are_told_apart():
    meanings = [symbol.meaning for symbol in several_meanings()["\\epsilon"]]
    assert len(meanings) == 2 and "inside" in meanings[0] and "outside" in meanings[1]
