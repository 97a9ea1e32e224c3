"""The pages beside the chapters: glossary, notation and cheat sheet."""

from collections.abc import Collection
from pathlib import Path

from pocketgpt.course.reference.cheat_sheet import files as cheat_sheet
from pocketgpt.course.reference.pages import glossary, notation
from pocketgpt.course.syllabus import CHAPTERS

TITLES = {
    "glossary.md": "Glossary: the words of the course",
    "notation.md": "Notation: its letters",
    "cheat_sheet.pdf": "Cheat sheet: two pages to print",
}


def belongs_to(chapters: Collection[str]) -> bool:
    """Whether these are chapters of the course, which the pages are about."""
    return not {chapter.name for chapter in CHAPTERS}.isdisjoint(chapters)


def texts(chapters: Collection[str]) -> dict[str, str]:
    """The pages of text by file name, with links to these chapters ("02_attention") only."""
    return {"glossary.md": glossary(chapters), "notation.md": notation(chapters)}


def build_reference(folder: Path, chapters: Collection[str]) -> None:
    """Write what is out of date. The cheat sheet takes half a minute, and is drawn only if something on it changed."""
    for name, text in texts(chapters).items():
        (folder / name).write_text(text, encoding="utf-8")
    if cheat_sheet.outdated(folder):
        cheat_sheet.write(folder)


def differing_reference(folder: Path, chapters: Collection[str]) -> list[str]:
    """Report each file that is out of date, one line each. Draws nothing."""
    stale = [
        name
        for name, text in texts(chapters).items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
    ]
    stale += cheat_sheet.outdated(folder)
    return [
        f"{folder.name}/{name} is not what pocketgpt/course/reference gives; run: pocketgpt build" for name in stale
    ]
