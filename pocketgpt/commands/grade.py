"""`pocketgpt grade`: a folder of notebooks becomes a gradebook, one notebook a list of verdicts."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from pocketgpt.errors import PocketError

try:
    from pocketgpt.course.building import ROOT
    from pocketgpt.grading.grade import Grader, grade_all
    from pocketgpt.grading.master import masters
    from pocketgpt.grading.protection.limits import Limits
    from pocketgpt.grading.protection.sandbox import Sandbox, choose
    from pocketgpt.grading.report.gradebook import (
        handed_in_nothing,
        line,
        write_csv,
        write_junit,
        write_results,
        write_students_csv,
    )
    from pocketgpt.grading.report.grading_policy import GradingPolicy, amount
    from pocketgpt.grading.report.pages import write_pages
    from pocketgpt.grading.results import Result
    from pocketgpt.grading.results_cache import versions
    from pocketgpt.grading.submissions import Submission, class_list, submissions
except ImportError as error:
    raise PocketError(f"Grading needs {error.name}: pip install 'pocketgpt[course]'") from error

SECRET = ("solutions", "tests", ".git")  # of a checkout


def grade(
    submissions: Positional[Path],
    *,
    out: Path = Path("grades"),
    class_list: Path | None = None,
    policy: Path | None = None,
    jobs: int | None = None,
    verify: bool = True,
    cell_seconds: float = 60.0,
    notebook_seconds: float = 600.0,
    memory: float = 4.0,
    sandbox: Literal["auto", "bubblewrap", "namespaces", "none"] = "auto",
    docker: str | None = None,
) -> int:
    """Grade a folder of notebooks into a gradebook, or check one notebook: pocketgpt grade submissions --out grades

    Each is rebuilt from our own chapter with the student's answers, and run apart from everything else. Stopped with
    Ctrl-C, the same command continues.

    Args:
        submissions: A folder with notebooks, of any names, in any sub-folders; the zip file that Moodle or Canvas
            exports; or one notebook.
        out: Folder for gradebook.csv, students.csv, index.html, a page for each student, junit.xml and results.json.
        class_list: CSV file with a column `student`, whose entries occur in the paths of the notebooks.
        policy: TOML file with points and deadlines of chapters.
        jobs: Notebooks at a time; without it one for each core.
        verify: Ask every function again with secret inputs, and compare what it returns outside of its process.
        cell_seconds: A cell that runs longer is left out.
        notebook_seconds: Time for all runs of one notebook.
        memory: GB that one notebook may use.
        sandbox: Keeps notebooks away from your files and the network; auto takes the best that works here.
        docker: Run notebooks in containers of this image, which has pocketgpt and its extra `course`.
    """
    try:
        from pocketgpt.commands.grade import grade_folder, grade_one
        from pocketgpt.grading.protection.limits import Limits
        from pocketgpt.grading.unpack import unpack
    except ImportError as error:
        raise PocketError(f"Grading needs {error.name}: pip install 'pocketgpt[course]'") from error
    limits = Limits(memory=int(memory * 2**30), cell_seconds=cell_seconds, notebook_seconds=notebook_seconds)
    how = {"sandbox": None if sandbox == "auto" else sandbox, "docker": docker, "verify": verify}
    whole = {"students": class_list, "policy_file": policy, "jobs": jobs, **how}
    if submissions.suffix.lower() == ".zip" and submissions.is_file():
        with tempfile.TemporaryDirectory(prefix="pocketgpt-submissions-") as folder:
            unpack(submissions, Path(folder))
            return grade_folder(Path(folder), out, limits, **whole)
    if submissions.is_file():
        return grade_one(submissions, limits, **how)
    if not submissions.is_dir():
        raise PocketError(f"There is no folder, zip file or notebook {submissions}.")
    return grade_folder(submissions, out, limits, **whole)


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
    policy = GradingPolicy()
    print(f"{result.chapter}: {amount(policy.total(result))} of {amount(policy.possible(result.chapter))} points")
    return 0 if all(verdict.passed for verdict in result.verdicts) else 1


def grade_folder(
    folder: Path,
    out: Path,
    limits: Limits,
    *,
    students: Path | None,
    policy_file: Path | None,
    jobs: int | None,
    sandbox: str | None,
    docker: str | None,
    verify: bool,
) -> int:
    """Grade every notebook below a folder, and write the gradebook, the pages and the rest into `out`.

    Returns 0, or 1 if something could not be graded. Raises PocketError if there is nothing to grade.
    """
    chapters = masters()
    policy = GradingPolicy.load(policy_file, chapters) if policy_file else GradingPolicy()
    names = class_list(students) if students else []
    found = submissions(folder, list(chapters), names, out)
    if not found:
        raise PocketError(f"There is no notebook (.ipynb) in {folder}.")
    inside = _sandbox(limits, sandbox, docker, (folder, out))
    if inside.kind == "none" and sandbox != "none":
        raise PocketError(
            "No sandbox works on this system, so a notebook could read and change your files. Grade in a container "
            "(--docker IMAGE) or on Linux with bubblewrap; --sandbox none runs the notebooks all the same.\n"
            + "\n".join(inside.lines[2:])
        )
    _make(out)
    print("\n".join(inside.lines))
    grader = Grader(masters=chapters, sandbox=inside, limits=limits, verify=verify, memory=out / "results_cache")
    try:
        results = grade_all(grader, found, jobs=jobs)
    except KeyboardInterrupt:
        print(f"\nStopped. Results so far are in {out / 'results_cache'}: the same command continues from there.")
        raise
    results += _missing(results, names)
    if strangers := sorted(policy.by_hand.keys() - {each.student for each in results}):
        print(f"{policy_file} gives points to students who are not here: {', '.join(strangers)}.")
    write_csv(out / "gradebook.csv", results, policy)
    write_students_csv(out / "students.csv", results, policy)
    write_junit(out / "junit.xml", results, policy)
    write_results(out / "results.json", results, policy, inside.lines, versions())
    write_pages(out, results, policy, inside.lines)
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
