"""The hand-out for students: one zip with the chapters, the package they import, and instructions.

It contains no solutions and no tests. Of `pocketgpt/course` it contains the exercises of the released chapters, and
with them right answers: a determined student can read them there, or in any other copy of the project. Grading flags
answers that were pasted from it.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

import nbformat
from nbformat import NotebookNode

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.build import build
from pocketgpt.course.building.cells import BEGIN, END, STUB, BuildError
from pocketgpt.course.building.reference import TITLES, belongs_to, texts
from pocketgpt.course.reference.cheat_sheet import files as cheat_sheet
from pocketgpt.course.syllabus import chapter_of, exercise_names
from pocketgpt.errors import PocketError
from pocketgpt.files import replacing

FOLDER = "pocketgpt-course"  # what unzipping makes
README = Path(__file__).with_name("handout.md")
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can store: the same files give the same bytes


def release(out: Path, names: tuple[str, ...] = (), *, root: Path = ROOT) -> Path:
    """Write the hand-out with the named chapters ("02_attention"), or with all, and return its path.

    Replaces an existing file once the new one is complete.
    Raises PocketError if `out` is a folder, and BuildError for an unknown chapter, for one that is out of date, and
    for one that still contains an answer or an output.
    """
    if out.is_dir():
        raise PocketError(f"{out} is a folder. Name the zip to write, such as {out / FOLDER}.zip.")
    build(names, check=True, root=root)
    chapters = [root / "chapters" / f"{name}.ipynb" for name in sorted(set(names))]
    members = _members(root, chapters or sorted((root / "chapters").glob("*.ipynb")))
    with replacing(out) as beside, zipfile.ZipFile(beside, "w") as file:
        for name in sorted(members):
            file.writestr(_info(f"{FOLDER}/{name}"), members[name])
    return out


def _members(root: Path, chapters: list[Path]) -> dict[str, bytes]:
    """Files of the hand-out: their contents, by path."""
    titles = {path.name: _title(_without_answers(path)) for path in chapters}
    unneeded = _rooms(root) - _needed_rooms(root, chapters)
    members = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in _files(root)
        if not unneeded.intersection(path.parents)
    }
    for path in chapters:
        # Students write into the first; `pocketgpt grade` starts from the second.
        members[f"chapters/{path.name}"] = members[f"assets/chapters/{path.name}"] = path.read_bytes()
    titles |= _reference(root, chapters, members)
    listed = "\n".join(f"- [{title}](chapters/{name})" for name, title in titles.items())
    readme = Template(README.read_text(encoding="utf-8"))
    members["README.md"] = readme.substitute(folder=FOLDER, chapters=listed, first=chapters[0].name).encode()
    members["pyproject.toml"] = _installing((root / "pyproject.toml").read_text(encoding="utf-8")).encode()
    return members


def _reference(root: Path, chapters: list[Path], members: dict[str, bytes]) -> dict[str, str]:
    """Add glossary, notation and cheat sheet, with links to the released chapters only; return their titles by name."""
    names = [path.stem for path in chapters]
    if not belongs_to(names):
        return {}
    pages = {name: text.encode() for name, text in texts(names).items()}
    pages |= {name: (root / "chapters" / name).read_bytes() for name in cheat_sheet.NAMES}
    members |= {f"chapters/{name}": page for name, page in pages.items()}
    return TITLES


def _rooms(root: Path) -> set[Path]:
    """Chapter folders of pocketgpt/course."""
    return {path for path in (root / "pocketgpt" / "course").glob("ch[0-9][0-9]_*") if path.is_dir()}


def _needed_rooms(root: Path, chapters: list[Path]) -> set[Path]:
    """Folders of the chapters, and of every chapter that these name in an import, a check or `yours`."""
    rooms = {path.name: path for path in _rooms(root)}
    needed: set[Path] = set()
    waiting = [f"ch{path.stem}" for path in chapters]
    for path in chapters:
        waiting += _named_rooms(_code(path))
    while waiting:
        room = rooms.get(waiting.pop())
        if room and room not in needed:
            needed.add(room)
            for path in room.rglob("*.py"):
                waiting += _named_rooms(path.read_text(encoding="utf-8"))
    return needed


def _code(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def _named_rooms(code: str) -> list[str]:
    named = re.findall(r"pocketgpt\.course\.(ch\d\d_\w+)", code)
    asked = re.findall(r"\bcheck\.(\w+)|\byours\(\"(\w+)\"\)", code)
    known = exercise_names()
    return named + [chapter_of(name).room for pair in asked for name in pair if name in known]


def _files(root: Path) -> Iterator[Path]:
    yield from (root / "LICENSE", root / "requirements.lock")
    for folder in ("pocketgpt", "assets"):
        for path in (root / folder).rglob("*"):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
            if path.is_file() and not hidden:
                yield path


def _without_answers(path: Path) -> NotebookNode:
    """Read a chapter that will be handed out. Raises BuildError if it contains an answer or an output."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        found = None
        if BEGIN in cell.source or END in cell.source:
            found = "a marked answer"
        elif cell.metadata.get("nbgrader", {}).get("solution") and not _ends_in_stub(cell.source):
            found = "an answer"
        elif cell.get("outputs") or cell.get("execution_count") is not None:
            found = "an output"
        if found:
            mend = f"run: pocketgpt build {path.stem}"
            raise BuildError(f"chapters/{path.name} contains {found}, in the cell {cell.id!r}; {mend}\n\n{cell.source}")
    return notebook


def _ends_in_stub(source: str) -> bool:
    return tuple(line.strip() for line in source.splitlines()[-2:]) == STUB


def _title(notebook: NotebookNode) -> str:
    """First heading of a notebook: "2 · Attention"."""
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def _installing(pyproject: str) -> str:
    """Keep the tables of pyproject.toml that pip needs; the others name tests, solutions and development tools.

    In the hand-out assets/ contains the original chapters, so a wheel must not include the students' own instead.
    """
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)
    kept = "".join(table for table in tables if table.startswith(("[build-system]", "[project", "[tool.hatch")))
    return re.sub(r"^chapters = .*\n", "", kept, flags=re.MULTILINE)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, wherever it was made: so that the permissions below are read
    info.external_attr = 0o100644 << 16
    return info
