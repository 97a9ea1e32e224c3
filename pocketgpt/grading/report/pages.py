"""Results as pages: one for each student, which may be handed out, and an index for the instructor.

A student's page has points, the checks' own messages and notes. Flags, and the names of students with equal
answers, are in the index alone.
Everything that comes from a submission is cleaned and escaped, and the pages forbid scripts and load nothing.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.files import replacing
from pocketgpt.grading.report.gradebook import clean, cut, line, ordered
from pocketgpt.grading.report.grading_policy import GradingPolicy, amount, duration
from pocketgpt.grading.report.statistics import standings
from pocketgpt.grading.results import Result, number

MOST_FLAGS = 50
OURS = '<meta name="generator" content="pocketgpt grade">'


def write_pages(folder: Path, results: Sequence[Result], policy: GradingPolicy, protections: Sequence[str]) -> None:
    """Write `folder`/index.html and `folder`/students/*.html, and remove pages of students who are no longer there.

    protections: what kept submissions from doing harm while they ran, one sentence each: the first lines of the index.
    """
    environment = _environment(policy)
    students = [(student, list(theirs)) for student, theirs in groupby(ordered(results), lambda each: each.student)]
    pages = {student: page_name(student) for student, _ in students}
    template = environment.get_template("student.html")
    for student, theirs in students:
        standing = _standing(theirs, policy)
        _write(folder / "students" / pages[student], template, student=student, results=theirs, standing=standing)
    index = environment.get_template("index.html")
    counts = _counts(results, policy)
    _write(
        folder / "index.html",
        index,
        students=students,
        pages=pages,
        protections=protections,
        counts=counts,
        standings=standings(results),
    )
    current = {
        name.rpartition("-")[2] for name in pages.values()
    }  # a file system may write the accents of é another way
    for page in (folder / "students").glob("*-*.html"):
        if page.name.rpartition("-")[2] not in current and _is_ours(page):
            page.unlink()


def page_name(student: str) -> str:
    """A file name that every system takes: letters and digits of the name, and a hash, so that no two are the same.

    'Ann/Lee' → 'Ann_Lee-….html'. The hash depends on the name alone: a page never becomes that of someone else.
    """
    readable = re.sub(r"\W+", "_", unicodedata.normalize("NFC", student)).strip("_")
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable[:40] or 'student'}-{digest[:12]}.html"


def _environment(policy: GradingPolicy) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"policy": policy, "most_flags": MOST_FLAGS}
    environment.filters |= {
        "amount": amount,
        "duration": duration,
        "line": line,
        "message": lambda text: cut(clean(text)),
        "missed": lambda result: ", ".join(exercises()[each].number for each in _wrong(result)),
        "moment": lambda when: f"{when:%Y-%m-%d %H:%M %Z}",
        "number": number,
        "standing": lambda results: _standing(results, policy),
    }
    return environment


def _write(path: Path, template: Template, **values: object) -> None:
    with replacing(path) as beside:
        beside.write_text(template.render(values), encoding="utf-8", newline="\n")


def _wrong(result: Result) -> list[str]:
    return [each.exercise for each in result.verdicts if not each.passed]


def _standing(results: Sequence[Result], policy: GradingPolicy) -> str:
    """'14 of 22 points', for the chapters of one student; without a choice between two files of one chapter."""
    files = Counter(each.chapter for each in results if each.chapter)
    if twice := [chapter for chapter, count in files.items() if count > 1]:
        return f"{files[twice[0]]} files of {twice[0]}: no sum until one of them is chosen"
    if not files:
        return "not graded"
    earned = sum(policy.total(each) for each in results)
    return f"{amount(earned)} of {amount(sum(map(policy.possible, files)))} points"


def _counts(results: Sequence[Result], policy: GradingPolicy) -> str:
    """Number of results, and of those that need a look."""
    counts = {
        "student": len({each.student for each in results}),
        "notebook": sum(bool(each.file) for each in results),
        "could not be graded": sum(each.chapter is None for each in results),
        "not handed in": sum(not each.file for each in results),
        "late": sum(policy.late(each) is not None for each in results),
        "with lines to look at": sum(bool(each.flags) for each in results),
    }
    things = ("student", "notebook")
    said = [f"{count} {name}{'s' if name in things and count != 1 else ''}" for name, count in counts.items()]
    return " · ".join(each for each in said if not each.startswith("0 "))


def _is_ours(page: Path) -> bool:
    with page.open(encoding="utf-8", errors="replace") as file:
        return OURS in file.read(500)
