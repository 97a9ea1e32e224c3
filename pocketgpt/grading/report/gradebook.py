"""Results as files for other programs: a table for a spreadsheet, JUnit XML, and JSON with everything.

Names of students and files, messages and quoted lines come from strangers: they are cleaned before they are written.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.files import replacing, write_json
from pocketgpt.grading.report.grading_policy import GradingPolicy, amount, duration, exercises_of
from pocketgpt.grading.results import Flag, Result, number, to_json

MOST_MESSAGE = 10_000  # characters: more is not read, and a submission must not make a page of megabytes
MOST_CELL = 1_000
SHOWN_FLAGS = 3

# Characters that no file of ours contains: control characters (all but tab and newline), halves of surrogate pairs and
# two code points that XML forbids, and marks that make the text around them read in another order.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# Colors and cursor movements of a terminal, links and titles.
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# Where a spreadsheet would see a formula: at the beginning, and behind a semicolon, which separates cells in half of
# the world. Invisible marks may precede it, and full-width forms count too.
FORMULA = re.compile("(^|;)(?=[\\s\u200b-\u200f\u2060-\u206f\ufeff\ufffd]*[=+\\-@|%＝＋－＠｜％])")


def handed_in_nothing(student: str, chapter: str) -> Result:
    """Row for a student on the class list who submitted nothing for a chapter."""
    return Result(student=student, file="", chapter=chapter, notes=("handed in nothing",))


def ordered(results: Sequence[Result]) -> list[Result]:
    """By student, chapter and file."""
    return sorted(results, key=lambda each: (each.student.casefold(), each.student, each.chapter or "", each.file))


def clean(text: str) -> str:
    """Several lines as they are, without what could disturb a reader: every such character becomes �."""
    return UNSAFE.sub("�", ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def line(text: str, most: int = MOST_CELL) -> str:
    """The same on one line."""
    return cut(clean(" ".join(text.split())), most)


def cut(text: str, most: int = MOST_MESSAGE) -> str:
    """The beginning of a long text, and how much is left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def defused(text: str) -> str:
    """Format one line that no spreadsheet takes for a formula: an apostrophe precedes one."""
    return FORMULA.sub(r"\1'", line(text))


def write_csv(path: Path, results: Sequence[Result], policy: GradingPolicy) -> None:
    """One row a notebook: points for each exercise of the chapters that occur, total, lateness, flags, notes, seconds.

    A notebook that could not be graded has no points and no total. UTF-8 with a mark at the beginning: without it
    Excel takes the file for the code page of the machine and garbles names. Every cell is quoted, so that no
    program has to guess whether a comma or a quote in a name or a line of code ends the cell.
    """
    chapters = {each.chapter for each in results if each.chapter}
    columns = [name for name in exercises() if any(name in exercises_of(chapter) for chapter in chapters)]
    end = ["total", "possible", "late", "flags", "notes", "seconds"]
    with replacing(path) as beside, beside.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["student", "chapter", "file", *map(number, columns), *end])
        for result in ordered(results):
            earned, late = policy.earned(result), policy.late(result)
            table.writerow(
                [
                    *map(defused, (result.student, result.chapter or "", result.file)),
                    *(amount(earned[name]) if name in earned else "" for name in columns),
                    amount(policy.total(result)) if result.chapter else "",
                    amount(policy.possible(result.chapter)) if result.chapter else "",
                    duration(late) if late else "",
                    defused(_summary(result.flags)),
                    defused(" · ".join((*result.instructor_notes, *policy.notes(result)))),
                    f"{result.seconds:.1f}",
                ]
            )


def write_students_csv(path: Path, results: Sequence[Result], policy: GradingPolicy) -> None:
    """One row a student: the total of each chapter, of all, and how many flags. Of several files for a chapter the best
    counts here; gradebook.csv has them all.
    """
    chapters = sorted({each.chapter for each in results if each.chapter})
    totals: dict[str, dict[str, int | float]] = {each.student: {} for each in ordered(results)}
    flags = dict.fromkeys(totals, 0)
    for each in results:
        flags[each.student] += len(each.flags)
        if each.chapter and each.file:
            best = totals[each.student].get(each.chapter, 0)
            totals[each.student][each.chapter] = max(best, policy.total(each))
    possible = [policy.possible(chapter) for chapter in chapters]
    with replacing(path) as beside, beside.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["student", *chapters, "total", "flags"])
        table.writerow(["(possible)", *map(amount, possible), amount(sum(possible)), ""])
        for student, earned in totals.items():
            cells = [amount(earned[chapter]) if chapter in earned else "" for chapter in chapters]
            table.writerow([defused(student), *cells, amount(round(sum(earned.values()), 9)), flags[student] or ""])


def _summary(flags: Sequence[Flag]) -> str:
    """'5: cell 3 line 1 (starts a process) import subprocess · …': how many, and the first of them."""
    if not flags:
        return ""
    shown = [f"cell {each.cell} line {each.line} ({each.reason}) {line(each.quoted, 80)}" for each in flags]
    return f"{len(flags)}: {' · '.join(shown[:SHOWN_FLAGS])}{' · …' if len(flags) > SHOWN_FLAGS else ''}"


def write_junit(path: Path, results: Sequence[Result], policy: GradingPolicy) -> None:
    """A testsuite for each notebook with a testcase for each exercise, as JUnit's viewers and CI systems read it.

    A notebook that could not be graded is one testcase with an error, one that was not handed in is skipped.
    """
    root = ElementTree.Element("testsuites", name="pocketgpt grade")
    for result in ordered(results):
        root.append(_suite(result, policy))
    ElementTree.indent(root)
    with replacing(path) as beside:
        ElementTree.ElementTree(root).write(beside, encoding="utf-8", xml_declaration=True)


def _suite(result: Result, policy: GradingPolicy) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=line(f"{result.student} · {result.file or result.chapter}"))
    said = [f"cell {each.cell}, line {each.line}: {each.reason}: {line(each.quoted)}" for each in result.flags]
    cases = [(number(each.exercise), each.passed, "failure", each.message) for each in result.verdicts]
    if not cases:
        cases = [("notebook", False, "error" if result.file else "skipped", "\n".join(result.notes))]
    properties = ElementTree.SubElement(suite, "properties")
    if result.chapter:
        points = f"{amount(policy.total(result))} of {amount(policy.possible(result.chapter))}"
        ElementTree.SubElement(properties, "property", name="points", value=points)
    if late := policy.late(result):
        ElementTree.SubElement(properties, "property", name="late", value=duration(late))
    for name, passed, kind, message in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=result.chapter or "not graded", name=name)
        if not passed:
            problem = ElementTree.SubElement(case, kind, message=line(message, 200))
            problem.text = cut(clean(message))
    ElementTree.SubElement(suite, "system-out").text = cut(clean("\n".join([*result.instructor_notes, *said])))
    kinds = [kind for _, passed, kind, _ in cases if not passed]
    counts = {"failures": kinds.count("failure"), "errors": kinds.count("error"), "skipped": kinds.count("skipped")}
    for key, value in {"tests": len(cases), **counts, "time": f"{result.seconds:.1f}"}.items():
        suite.set(key, str(value))
    return suite


def write_results(
    path: Path,
    results: Sequence[Result],
    policy: GradingPolicy,
    protections: Sequence[str],
    versions: Mapping[str, str],
) -> None:
    """JSON with everything: what was found, whole, and what it is worth. `results.from_json` reads each "result".

    versions: of what took part in the grading, by name.
    """
    graded = []
    for result in ordered(results):
        late = policy.late(result)
        worth = {"earned": policy.earned(result), "total": policy.total(result) if result.chapter else None}
        possible = policy.possible(result.chapter) if result.chapter else None
        seconds = late.total_seconds() if late else None
        graded.append({"result": to_json(result), **worth, "possible": possible, "late": seconds})
    everything = {"protections": list(protections), "versions": dict(versions), "policy": policy.to_json()}
    write_json(path, {**everything, "results": graded})
