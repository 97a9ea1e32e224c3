"""The notebooks in a folder of submissions, whatever they are called: who handed in what."""

import csv
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.grading import reader

NOTEBOOK = re.compile(r"\.ipynb(\W.*)?$", re.IGNORECASE)  # also "x.ipynb.txt" and "x.ipynb (1)", as browsers save it
JUNK = (".ipynb_checkpoints", "__MACOSX")
INSTEAD = (".py", ".json", ".pdf", ".zip", ".html", ".docx")  # handed in by mistake in place of a notebook
MOODLE = re.compile(r"_(\d+)_assignsubmission_.*")  # what Moodle adds to a student's name, in a folder's or a file's
CANVAS = re.compile(r"([^\W_]+(?:_LATE)?_\d+)_\d+_")  # name_user_submission_, before the name of the file
READING_SECONDS = 120


@dataclass(frozen=True)
class Cell:
    """A cell as it was handed in. number: counted from 1 over all cells; ids: those it may be known by."""

    number: int
    kind: str
    ids: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Submission:
    """A file that was handed in. problem: why it cannot be read, else None."""

    path: Path
    file: str
    student: str
    notes: tuple[str, ...] = ()
    problem: str | None = None


def submissions(
    folder: Path, chapters: Sequence[str], students: Sequence[str] = (), out: Path | None = None
) -> list[Submission]:
    """Every notebook below a folder, sorted by its path, with who handed it in; the grader's own `out` is left out.

    With a class list the student is the one whose name occurs in the path. Without one it is the name before Moodle's
    number, the first folder that is not a chapter's, or else what the file is called beside the chapter's name. Whoever
    handed in no notebook, but another file in its place, has that file listed.
    """
    found, instead = [], []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.name.startswith("._") or any(part in JUNK for part in inside.parts):
            continue
        student, notes = student_of(inside, chapters, students)
        if NOTEBOOK.search(path.name) and (path.is_symlink() or not path.is_dir()):
            found.append(Submission(path, inside.as_posix(), student, notes, _problem(path)))
        elif path.suffix.lower() in INSTEAD and path.is_file() and not (out and path.is_relative_to(out)):
            problem = f"It is a {path.suffix.lower()} file, not a notebook: ask for the .ipynb file."
            instead.append(Submission(path, inside.as_posix(), student, notes, problem))
    handed_in = {each.student for each in found}
    every = [*found, *(each for each in instead if each.student not in handed_in)]
    return every if students else _namesakes_apart(every)


def _problem(path: Path) -> str | None:
    if path.is_symlink():
        return "It is a link to another file, and links are not followed."
    return None if path.is_file() else "It is not a regular file."


def _namesakes_apart(found: Sequence[Submission]) -> list[Submission]:
    """Two students of one name, whom Moodle tells apart by a number, are told apart by it here too.

    Each assignment has its own numbers: in two of them, two numbers may be one student.
    """
    numbers: dict[tuple[str, str], set[str]] = {}
    for each in found:
        if number := MOODLE.search(each.file):
            assignment = each.file[: number.start()].rpartition("/")[0]
            numbers.setdefault((each.student, assignment), set()).add(number[1])
    namesakes = {student for (student, _), several in numbers.items() if len(several) > 1}
    return [
        replace(each, student=f"{each.student} ({number[1]})")
        if each.student in namesakes and (number := MOODLE.search(each.file))
        else each
        for each in found
    ]


def student_of(inside: Path, chapters: Sequence[str], students: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """The student who submitted a file, by its path in the folder of submissions; with notes if that is uncertain."""
    inside = Path(unicodedata.normalize("NFC", str(inside)))  # é has two spellings
    stem = NOTEBOOK.sub("", inside.name) if NOTEBOOK.search(inside.name) else inside.stem
    if students:
        text = "/".join((*inside.parts[:-1], stem))
        named = [student for student in students if _stands_in(student, text)]
        named = [one for one in named if not any(one != other and _stands_in(one, other) for other in named)]
        if len(named) == 1:
            return named[0], ()
        whose = (
            f"of several students of the class list ({', '.join(named)})" if named else "of nobody on the class list"
        )
        return inside.as_posix(), (f"The path has the name {whose}.",)
    if moodle := next(filter(MOODLE.search, inside.parts), None):
        return MOODLE.sub("", moodle), ()
    folders = [part for part in inside.parts[:-1] if not _is_chapter(part, chapters)]
    if folders:
        return folders[0], ()
    if canvas := CANVAS.match(inside.name):
        return canvas[1].replace("_LATE", ""), ()
    stem = re.sub(r"\s*\(\d+\)$", "", stem)  # what browsers add to a second download, and below, "-1", Canvas
    for chapter in chapters:
        stem = re.sub(rf"[\W_]*{re.escape(chapter)}(-\d+$|[\W_]*)", " ", stem, flags=re.IGNORECASE)
    name = stem.strip(" _-.,()")
    if name:
        return name, ()
    return inside.as_posix(), ("The path does not say who handed it in.",)


def class_list(path: Path) -> list[str]:
    """The names in the column `student` of a CSV file, each once.

    Raises PocketError if there is no such file or column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in text.partition("\n")[0] else ",")
        students = list(rows)
    except OSError as error:
        raise PocketError(f"The class list {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PocketError(f"The class list {path} cannot be read: {error}. Save it as CSV in UTF-8.") from error
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    if "student" not in columns:
        there = ", ".join(rows.fieldnames or ()) or "nothing"
        raise PocketError(f"The class list {path} needs a column `student`; its first line has: {there}.")
    names = [(row[columns["student"]] or "").strip() for row in students]
    return list(dict.fromkeys(name for name in names if name))


def read(path: Path) -> tuple[list[Cell], str | None]:
    """The cells of a notebook, and what is wrong with the file, or None."""
    command = [sys.executable, "-I", reader.__file__, str(path)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=READING_SECONDS)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [], f"Reading it took more than {READING_SECONDS} seconds."
    except ValueError:  # killed on the way
        return [], "Reading it failed; clear its outputs and save it again."
    if "error" in answer:
        return [], f"It cannot be graded: {answer['error']}."
    return [Cell(each["number"], each["kind"], tuple(each["ids"]), each["source"]) for each in answer["cells"]], None


def _is_chapter(part: str, chapters: Sequence[str]) -> bool:
    return part.lower() in (chapter.lower() for chapter in chapters)


def _stands_in(name: str, text: str) -> bool:
    """Return True if a name occurs in a text as whole words, in any case and with any separators."""
    return f" {_words(name)} " in f" {_words(text)} "


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
