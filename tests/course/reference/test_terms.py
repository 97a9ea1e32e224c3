"""Glossary and notation agree with the chapters: each term is defined where they say, and not used before."""

import re
from functools import cache
from itertools import combinations

import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.build import solution_notebook
from pocketgpt.course.reference.terms import Term, symbols, terms
from pocketgpt.course.syllabus import CHAPTERS

WRITTEN = {chapter.number: chapter for chapter in CHAPTERS if chapter.written}
AFTER_THE_LESSON = re.compile(r"### (Where the finished code lives|Papers)\n.*?(?=\n\*\*Next\*\*|\Z)", re.DOTALL)


@cache
def text_of(number: int) -> str:
    """The Markdown of a chapter without its lists of files and papers."""
    cells = solution_notebook(ROOT / "solutions" / f"{WRITTEN[number].name}.py").cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"https?://\S+", "", AFTER_THE_LESSON.sub("", text))


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def paragraphs(number: int) -> list[str]:
    return [on_one_line(part) for part in re.split(r"\n\s*\n", text_of(number)) if part.strip()]


def occurs(form: str, text: str) -> bool:
    """Whether a form occurs as a word or words of its own, in the plural too; its first letter may be a capital."""
    pattern = f"[{form[0]}{form[0].upper()}]{re.escape(form[1:])}" if form[0].islower() else re.escape(form)
    before, after = r"(?<![\w{-])" * form[0].isalnum(), r"(s|es)?(?![\w-])" * form[-1].isalnum()
    return re.search(before + pattern + after, text) is not None


def refers_to(chapter: int, paragraph: str) -> bool:
    """Whether a paragraph names a chapter: "chapter 8", "chapters 7 and 8"."""
    return re.search(rf"[Cc]hapters? (\d+(, | and ))*{chapter}\b", paragraph) is not None


every_term = pytest.mark.parametrize("term", terms(), ids=lambda term: term.name)


def used_before(term: Term) -> dict[int, str]:
    """First use in each chapter before the one that defines it, unless that paragraph names the defining chapter."""
    first = {
        number: paragraph
        for number in range(term.chapter)
        for paragraph in reversed(paragraphs(number))
        if any(occurs(form, paragraph) for form in term.forms)
    }
    return {number: paragraph for number, paragraph in first.items() if not refers_to(term.chapter, paragraph)}


@every_term
def test_a_term_is_defined_in_its_chapter(term):
    assert on_one_line(term.quote) in on_one_line(text_of(term.chapter))
    assert any(occurs(form, on_one_line(text_of(term.chapter))) for form in term.forms)


@every_term
def test_a_term_is_not_used_before_it_is_defined(term):
    found = used_before(term)
    unexpected = {number: text for number, text in found.items() if str(number) not in term.earlier}
    assert not unexpected
    assert set(term.earlier) <= {str(number) for number in found}, "an exception that is no longer needed"
    assert all(len(reason) > 20 for reason in term.earlier.values())


ONE_SYMBOL = re.compile(r"\\?[A-Za-z]+('|\^2|\^\{\(i\)\}|_\w|_\\text\{\w+\}|_\{\w+\})?")
TABLE = re.compile(r"^\| symbol \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", re.MULTILINE)


def symbols_of_tables(number: int) -> list[str]:
    """Single symbols in the first column of a chapter's tables of symbols; not products and functions of them."""
    rows = [row for table in TABLE.findall(text_of(number)) for row in table.strip().splitlines()]
    formulas = [formula for row in rows for formula in re.findall(r"\$(.*?)\$", row.split("|")[1])]
    parts = [part.strip() for formula in formulas for part in formula.split(",")]
    return [part for part in parts if ONE_SYMBOL.fullmatch(part)]


@pytest.mark.parametrize("number", [each for each in WRITTEN if CHAPTERS[each].hints])  # an exam has letters of its own
def test_each_symbol_that_a_chapter_defines_in_a_table_is_in_the_notation(number):
    known = {symbol.latex for symbol in symbols() if number in symbol.chapters}
    assert not set(symbols_of_tables(number)) - known


def test_the_tables_of_symbols_are_found():
    assert sum(len(symbols_of_tables(number)) for number in WRITTEN) > 80


@pytest.mark.parametrize("symbol", symbols(), ids=lambda symbol: f"{symbol.latex}-{symbol.chapters[0]}")
def test_a_symbol_occurs_in_the_chapters_that_it_names(symbol):
    assert list(symbol.chapters) == sorted(set(symbol.chapters))
    for number in symbol.chapters:
        assert re.search(rf"(?<![A-Za-z\\]){re.escape(symbol.latex)}(?![A-Za-z])", text_of(number)), number


def test_two_meanings_of_a_symbol_in_one_chapter_are_explained():
    for first, second in combinations(symbols(), 2):
        if first.latex == second.latex and set(first.chapters) & set(second.chapters):
            assert first.note and second.note, (first.latex, first.chapters, second.chapters)
