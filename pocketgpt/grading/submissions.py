"""The notebooks in a folder of submissions, whatever they are called: who handed in what."""

import csv
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.grading import reader

NOTEBOOK = re.compile(r"\.ipynb(\W.*)?$", re.IGNORECASE)  # also "x.ipynb.txt" and "x.ipynb (1)", as browsers save it
JUNK = (".ipynb_checkpoints", "__MACOSX")
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


def submissions(folder: Path, chapters: Sequence[str], students: Sequence[str] = ()) -> Iterator[Submission]:
    """Every notebook below a folder, sorted by its path, with who handed it in.

    With a class list the student is the one whose name stands in the path. Without one it is the first folder that is
    not a chapter's, or else what the file is called beside the chapter's name.
    """
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not NOTEBOOK.search(path.name) or path.name.startswith("._") or any(part in JUNK for part in inside.parts):
            continue
        student, notes = student_of(inside, chapters, students)
        problem = None
        if path.is_symlink():
            problem = "It is a link to another file, and links are not followed."
        elif path.is_dir():
            continue
        elif not path.is_file():
            problem = "It is not a regular file."
        yield Submission(path, inside.as_posix(), student, notes, problem)


def student_of(inside: Path, chapters: Sequence[str], students: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """The student who submitted a file, by its path in the folder of submissions; with notes if that is uncertain."""
    stem = NOTEBOOK.sub("", inside.name)
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
    folders = [part for part in inside.parts[:-1] if not _is_chapter(part, chapters)]
    if folders:
        return re.sub(r"_\d+_assignsubmission_.*", "", folders[0]), ()  # what Moodle adds to a name
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
    except (OSError, UnicodeDecodeError, csv.Error) as error:
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
    """Whether a name stands in a text as whole words, whatever their case and what separates them."""
    return f" {_words(name)} " in f" {_words(text)} "


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
