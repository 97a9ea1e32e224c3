"""`pocketgpt grade`: a folder of notebooks becomes a gradebook, one notebook a list of verdicts."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pocketgpt.course.building.build import ROOT
from pocketgpt.course.grading.grade import Grader, grade_all
from pocketgpt.course.grading.kept import versions
from pocketgpt.course.grading.master import masters
from pocketgpt.course.grading.protection.limits import Limits
from pocketgpt.course.grading.protection.sandbox import Sandbox, choose
from pocketgpt.course.grading.report.gradebook import handed_in_nothing, line, write_csv, write_junit, write_results
from pocketgpt.course.grading.report.pages import write_pages
from pocketgpt.course.grading.report.terms import Terms, amount
from pocketgpt.course.grading.results import Result
from pocketgpt.course.grading.submissions import Submission, class_list, submissions
from pocketgpt.errors import PocketError

SECRET = ("solutions", "tests", ".git")  # of a checkout


def grade_one(path: Path, limits: Limits, *, sandbox: str | None, docker: str | None, verify: bool) -> int:
    """Print the verdict on every exercise of one notebook. Returns 0 if all are right, else 1.

    Raises PocketError if it cannot be graded.
    """
    inside = _sandbox(limits, sandbox, docker, ())
    grader = Grader(masters=masters(), sandbox=inside, limits=limits, verify=verify)
    result = grader.grade(Submission(path, path.name, path.stem))
    if result.chapter is None:
        raise PocketError(f"{path} was not graded. {' '.join(result.notes)}")
    for verdict in result.verdicts:
        print(verdict.message if verdict.passed else f"{verdict.message}\n")
    for note in result.notes:
        print(f"Note: {note}")
    terms = Terms()
    print(f"{result.chapter}: {amount(terms.total(result))} of {amount(terms.possible(result.chapter))} points")
    return 0 if all(verdict.passed for verdict in result.verdicts) else 1


def grade_folder(
    folder: Path,
    out: Path,
    limits: Limits,
    *,
    students: Path | None,
    terms_file: Path | None,
    jobs: int | None,
    sandbox: str | None,
    docker: str | None,
    verify: bool,
) -> int:
    """Grade every notebook below a folder, and write the gradebook, the pages and the rest into `out`.

    Returns 0, or 1 if something could not be graded. Raises PocketError if there is nothing to grade.
    """
    chapters = masters()
    terms = Terms.load(terms_file, chapters) if terms_file else Terms()
    names = class_list(students) if students else []
    found = list(submissions(folder, list(chapters), names))
    if not found:
        raise PocketError(f"There is no notebook (.ipynb) in {folder}.")
    _make(out)
    inside = _sandbox(limits, sandbox, docker, (folder, out))
    print("\n".join(inside.lines))
    grader = Grader(masters=chapters, sandbox=inside, limits=limits, verify=verify, memory=out / "kept")
    try:
        results = grade_all(grader, found, jobs=jobs)
    except KeyboardInterrupt:
        print(f"\nStopped. What was graded is kept in {out / 'kept'}: the same command goes on from there.")
        raise
    results += _missing(results, names)
    write_csv(out / "gradebook.csv", results, terms)
    write_junit(out / "junit.xml", results, terms)
    write_results(out / "results.json", results, terms, inside.lines, versions())
    write_pages(out, results, terms, inside.lines)
    print(_summary(results, out))
    return 1 if any(result.chapter is None for result in results) else 0


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise PocketError(f"Nothing can be written to {out}: {error}. Take another folder for --out.") from error


def _sandbox(limits: Limits, kind: str | None, docker: str | None, hidden: tuple[Path, ...]) -> Sandbox:
    return choose(limits, kind=kind, docker=docker, hidden=(*hidden, *(ROOT / name for name in SECRET)))


def _missing(results: Sequence[Result], names: Sequence[str]) -> list[Result]:
    """A row for everyone on the class list who did not hand in a chapter that others did.

    Whoever has a file that could not be graded is left out: it may be that chapter.
    """
    there = {(result.student, result.chapter) for result in results}
    chapters = sorted({result.chapter for result in results if result.chapter})
    sure = [name for name in names if (name, None) not in there]
    return [handed_in_nothing(name, each) for name in sure for each in chapters if (name, each) not in there]


def _summary(results: Sequence[Result], out: Path) -> str:
    graded = [result for result in results if result.chapter and result.file]
    lines = [f"Graded {len(graded)} notebook{'s' if len(graded) != 1 else ''}: {out / 'gradebook.csv'}"]
    lines.append(f"Look at {out / 'index.html'}: a page for each student, and what needs a look.")
    if flagged := sum(bool(result.flags) for result in graded):
        lines.append(f"{flagged} with lines that a person should look at.")
    lines += [line(f"Not graded: {each.file}: {' '.join(each.notes)}") for each in results if each.chapter is None]
    return "\n".join(lines)
