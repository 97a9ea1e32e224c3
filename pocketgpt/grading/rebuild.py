"""Rebuilds a submission: our own chapter, with the student's answers in the answer cells.

Nothing is repaired. Of a submission only the source of its code cells is taken; checks, the order of the chapter, tags
and metadata are ours, so whatever was deleted, edited, doubled, moved or retagged is back.
"""

import re
import symtable
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketgpt.grading.master import Master, MasterCell, plain
from pocketgpt.grading.submissions import Cell

LONGEST = 50_000  # characters of a cell that is parsed; the longest of the course has 1,200
MARKER = re.compile(r"^([^\S\n]*#+[^\S\n]*)(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)[^\S\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """A code cell of the rebuilt notebook.

    role: "given", "answer" or "check", ours or in our places; "extra": what the student wrote besides, unscored.
    origin: the number of the student's cell; 0 where the source is ours.
    """

    role: str
    source: str
    exercise: str = ""
    origin: int = 0


@dataclass(frozen=True)
class Rebuilt:
    """pieces: the code cells to run, up to the last check. untouched: no code was changed or added."""

    pieces: list[Piece]
    notes: list[str]
    untouched: bool


def chapter_of(cells: Sequence[Cell], masters: Mapping[str, Master]) -> tuple[str | None, str]:
    """The chapter that has most of a submission's cells, and a note: why there is none, or what is odd.

    Only answer and check cells tell chapters apart: they are known by the exercise's id, or by being as we wrote them.
    """
    counts = {}
    for name, master in masters.items():
        counts[name] = len({i for i in _places(cells, master) if i is not None and master.cells[i].exercise})
    most = max(counts.values(), default=0)
    if most == 0:
        return None, "It has no cell of any chapter: no answer cell and no check cell."
    first, *others = [name for name, count in counts.items() if count == most]
    if others:
        return None, f"It has as many cells of {first} as of {', '.join(others)}; hand in one chapter a file."
    besides = [name for name, count in counts.items() if count and name != first]
    return first, f"It also has cells of {', '.join(besides)}, which do not count here." if besides else ""


def rebuild(cells: Sequence[Cell], master: Master) -> Rebuilt:
    """Put a submission's answers, and its additional code where it stood, into our chapter."""
    answers: dict[int, list[tuple[Cell, int]]] = {}  # by index of our cell: what has its id, and the anchor before it
    extras: dict[int, list[Cell]] = {}  # by the anchor: the cell of ours after which they stand
    code: list[Cell] = []  # where an answer may be
    seen: set[int] = set()
    anchor = -1
    for cell, index in zip(cells, _places(cells, master), strict=True):
        role = "text" if index is None else master.cells[index].role
        unchanged = index is not None and plain(cell.source) == plain(master.cells[index].source)
        if cell.kind == "code" and cell.source.strip():
            if role in ("text", "answer"):
                code.append(cell)
            if role == "answer":
                answers.setdefault(index, []).append((cell, anchor))
            elif not unchanged:  # ours runs first, then theirs: a name they added is there for their answers
                extras.setdefault(anchor if index is None or index in seen else index, []).append(cell)
        if index is not None and index not in seen:
            seen.add(index)
            anchor = index
    notes: list[str] = []
    chosen = {
        index: _answer(ours, answers.get(index, []), extras, code, notes)
        for index, ours in enumerate(master.cells)
        if ours.role == "answer"
    }
    return Rebuilt(
        _pieces(master, chosen, extras), notes, untouched=not any(chosen.values()) and not any(extras.values())
    )


def _places(cells: Sequence[Cell], master: Master) -> list[int | None]:
    """Maps each submitted cell to ours: by id, or by identical source if the id is gone."""
    by_id = [next((master.ids[each] for each in cell.ids if each in master.ids), None) for cell in cells]
    lost = {plain(each.source): i for i, each in enumerate(master.cells) if i not in by_id and each.role != "text"}
    return [lost.get(plain(cell.source)) if i is None else i for cell, i in zip(cells, by_id, strict=True)]


def _answer(
    ours: MasterCell,
    candidates: list[tuple[Cell, int]],
    extras: dict[int, list[Cell]],
    code: Sequence[Cell],
    notes: list[str],
) -> Cell | None:
    """The cell that answers an exercise, None if it is empty: the first that has its id and defines its function.

    If there is none, and our empty cell is gone too, it is the first that defines the function, wherever it stands.
    Other cells with the id are run as extras.
    """
    name = ours.exercise
    written = [cell for cell, _ in candidates if plain(cell.source) != plain(ours.source)]
    defining = [cell for cell in written if name in defined(cell.source)]
    if len({plain(cell.source) for cell in defining}) > 1:
        numbers = ", ".join(str(cell.number) for cell in defining)
        notes.append(f"{name} is answered more than once, in the cells {numbers}: the first one counts.")
    elif not defining and len(written) == len(candidates):
        if elsewhere := next((cell for cell in code if name in defined(cell.source)), None):
            notes.append(f"The answer cell of {name} is missing or empty: cell {elsewhere.number} is taken for it.")
            defining = [elsewhere]
            for cells in extras.values():
                cells[:] = [cell for cell in cells if cell is not elsewhere]
        elif not written:
            notes.append(f"The answer cell of {name} is missing or empty.")
    taken = next(iter(defining or written), None)
    for cell, anchor in candidates:  # a cell that was split has the same id twice: a helper, and the answer
        if cell in written and cell not in defining and cell is not taken:
            extras.setdefault(anchor, []).append(cell)
    return taken


def _pieces(master: Master, chosen: Mapping[int, Cell | None], extras: Mapping[int, list[Cell]]) -> list[Piece]:
    """All code cells in our order, up to the last check."""
    last = max(index for index, each in enumerate(master.cells) if each.role == "check")
    pieces = []
    for index in range(-1, last + 1):
        if index >= 0 and (ours := master.cells[index]).role != "text":
            answer = chosen.get(index)
            pieces.append(
                _piece(ours.role, answer, ours.exercise) if answer else Piece(ours.role, ours.source, ours.exercise)
            )
        if index < last:
            pieces += [_piece("extra", cell) for cell in extras.get(index, [])]
    return pieces


def _piece(role: str, cell: Cell, exercise: str = "") -> Piece:
    """A student's cell; nbval reads comments such as NBVAL_SKIP as orders, so they are made ordinary ones."""
    return Piece(role, MARKER.sub(r"\1\2 has no effect here", cell.source), exercise, cell.number)


def defined(source: str) -> set[str]:
    """The names that a cell binds at its top level: functions, classes and variables, not what it imports."""
    try:
        table = symtable.symtable(source if len(source) < LONGEST else "?", "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.MULTILINE))
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
