"""Functions of a learner's notebooks put together: each with what it needs, if it passes its check among the others."""

import linecache
import re
from dataclasses import dataclass, field
from pathlib import Path

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.lab.definitions import (
    Cells,
    NotUsable,
    definitions,
    free_names,
    is_import,
    renamed,
    run_cells,
    saved_cells,
)
from pocketgpt.course.lab.finished_parts import HERE, PARTS, pattern
from pocketgpt.course.syllabus import CHAPTERS, exercise_names, find_exercise


@dataclass(frozen=True)
class Part:
    """A function of the file. `others`: imports and helpers in front of it. `reason`: why it is a stand-in, or ""."""

    name: str
    text: str
    others: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def whole(self) -> str:
        return "\n\n\n".join([*dict.fromkeys(self.others.values()), self.text])


class Assembly:
    """The functions of the file, each the learner's own where it passes its check among those before it."""

    def __init__(self, chapters: range) -> None:
        self.folder = Path.cwd()
        self.places: dict[int, Cells | NotUsable] = {}
        self.parts: dict[str, Part] = {}
        for name, text in pattern()[1].items():
            if name not in PARTS:
                continue
            try:
                if PARTS[name] not in chapters:
                    raise NotUsable("they belong to this chapter")
                self.parts[name] = self.own(name)
            except NotUsable as problem:
                self.parts[name] = Part(name, text, reason=str(problem))

    def place(self, chapter: int) -> Cells:
        """The cells of a chapter's notebook; for this chapter, those that were run have the last word."""
        if chapter not in self.places:
            run = run_cells() if chapter == HERE else []
            try:
                self.places[chapter] = Cells(saved_cells(self.folder / f"{CHAPTERS[chapter].name}.ipynb", PARTS) + run)
            except NotUsable as problem:
                self.places[chapter] = Cells(run) if run else problem
        place = self.places[chapter]
        if isinstance(place, NotUsable):
            raise place
        return place

    def own(self, name: str) -> Part:
        """The learner's function, if it passes its check. Raises NotUsable."""
        place = self.place(PARTS[name])
        if name not in exercise_names():
            raise NotUsable(f"the check of chapter {PARTS[name]} is not installed")
        cell = place.own(name)
        if re.search(r"^\s*raise NotImplementedError\s*(\(\))?$", cell[name], re.MULTILINE):
            raise NotUsable("not solved yet")
        found: dict[str, str] = {}
        self.gather(name, cell[name], cell, place, found)
        part = self.with_other_names(Part(name, cell[name], found))
        if not passes(name, part.whole, namespace(self.parts)):
            raise NotUsable("your answer does not pass its check")
        return part

    def given(self) -> dict[str, str]:
        """Source of all names that the file has anyway."""
        imports, functions, _ = pattern()
        return dict(definitions(imports)) | functions | {name: part.text for name, part in self.parts.items()}

    def gather(self, name: str, text: str, cell: dict[str, str], place: Cells, found: dict[str, str]) -> None:
        """Collect what a definition needs: from its own cell, else from the notebook, else the file has it.

        Functions of the file's exercises come from another cell never. Raises NotUsable for what cannot be found.
        """
        given = self.given()
        for needed in sorted(free_names(text) - {name, *found}):
            definition = cell.get(needed) or (None if needed in PARTS else place.elsewhere(needed))
            if definition is None and needed not in given:
                raise NotUsable(f"it uses {needed}, which its notebook does not define")
            if definition in (None, given.get(needed)):
                continue
            if is_import(definition) and "pocketgpt" in definition:
                raise NotUsable(f"it uses {needed}, which is part of the course")
            found[needed] = ""  # its place in the order; it may need itself
            self.gather(needed, definition, cell, place, found)
            del found[needed]
            found[needed] = definition  # after what it needs

    def with_other_names(self, part: Part) -> Part:
        """The part, with helpers renamed whose names mean something else in the file: `half` becomes `half_gelu`."""
        taken = self.given() | {key: text for each in self.parts.values() for key, text in each.others.items()}
        new: dict[str, str] = {}
        while clashing := [
            key
            for key, text in part.others.items()
            if key not in new and taken.get(key, renamed(text, new)) != renamed(text, new)
        ]:
            new |= {key: f"{key}_{part.name}" for key in clashing}
        others = {new.get(key, key): renamed(text, new) for key, text in part.others.items()}
        return Part(part.name, renamed(part.text, new), others)


_verdicts: dict[tuple, bool] = {}  # checks take seconds, and the same functions are asked about again


def passes(name: str, text: str, space: dict[str, object]) -> bool:
    try:
        define(name, text, space)
    except Exception:
        return False
    key = (name, text)
    if key not in _verdicts:
        _verdicts[key] = diagnose(find_exercise(name), space[name]) is None
    return _verdicts[key]


def namespace(parts: dict[str, Part]) -> dict[str, object]:
    """A namespace in which all functions of the file are defined."""
    imports, functions, _ = pattern()
    space: dict[str, object] = {"__name__": "my_gpt"}
    exec(imports, space)
    for name, text in functions.items():
        define(name, parts[name].whole if name in parts else text, space)
    return space


def define(name: str, text: str, space: dict[str, object]) -> None:
    """Run source whose lines tracebacks can show. Its file is in "<>", so that a check blames the line that calls."""
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), space)
