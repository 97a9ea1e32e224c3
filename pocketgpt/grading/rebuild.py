"""Rebuilds a submission: our own chapter, with the student's answers in the answer cells.

Nothing is repaired. Of a submission only the source of its code cells is taken; checks, the order of the chapter, tags
and metadata are ours, so whatever was deleted, edited, doubled, moved or retagged is back.
"""

import hashlib
import re
import symtable
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketgpt.grading.master import Master, MasterCell, plain
from pocketgpt.grading.submissions import Cell

LONGEST = 50_000  # characters of a cell that is parsed; the longest of the course has 1,200
TELLING = 600  # characters of answers; those of our solutions to a chapter have 300 (chapter 00) to 1,600
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

    @property
    def fingerprint(self) -> str:
        """Hash of the answers as they were written; "" for answers so short that two students may write the same."""
        written = "\n".join(plain(piece.source) for piece in self.pieces if piece.role == "answer" and piece.origin)
        return hashlib.sha256(written.encode()).hexdigest() if len(written) >= TELLING else ""


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
    places = _places(cells, master)
    candidates: dict[str, list[tuple[Cell, int]]] = {}  # by exercise: code with the id of its answer or its check
    extras: dict[int, list[Cell]] = {}  # by the anchor: the cell of ours that they follow
    code: list[Cell] = []  # where an answer without its id may be
    notes: list[str] = []
    seen: set[int] = set()
    anchor = -1
    for cell, index in zip(cells, places, strict=True):
        ours = None if index is None else master.cells[index]
        role = "text" if ours is None else ours.role
        unchanged = ours is not None and plain(cell.source) == plain(ours.source)
        if cell.kind == "code" and cell.source.strip():
            if role in ("text", "answer"):
                code.append(cell)
            merged = role == "check" and ours.exercise in defined(cell.source)  # the answer, above its check
            if role == "answer" or merged:
                candidates.setdefault(ours.exercise, []).append((cell, anchor))
            elif not unchanged:  # ours runs first, then theirs: a name they added is there for their answers
                extras.setdefault(anchor if index is None or index in seen else index, []).append(cell)
        elif role == "answer" and cell.kind != "code":
            notes.append(f"The answer cell of {ours.exercise}, cell {cell.number}, is {cell.kind}, not code.")
        if index is not None and index not in seen:
            seen.add(index)
            anchor = index
    checks = {
        master.cells[index].exercise: cell.number
        for cell, index in zip(cells, places, strict=True)
        if index is not None and master.cells[index].role == "check" and cell.kind == "code"
    }
    chosen = {
        index: _answer(
            ours, candidates.get(ours.exercise, []), extras, code, notes, checks.get(ours.exercise, len(cells) + 1)
        )
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
    check: int,
) -> Cell | None:
    """The cell that answers an exercise, None if it is empty: what is in force at its check, cell number `check`.

    That is the last cell above the check that has an id of the exercise and defines its function. If there is none, and
    our empty cell is gone too, any cell that defines the function may be it. Other cells with the id run as extras.
    """
    name = ours.exercise
    written = [cell for cell, _ in candidates if plain(cell.source) != plain(ours.source)]
    defining = [cell for cell in written if name in defined(cell.source)]
    if len({plain(cell.source) for cell in defining}) > 1:
        numbers = ", ".join(str(cell.number) for cell in defining)
        notes.append(f"{name} is answered more than once, in the cells {numbers}: the last one counts.")
    elif not defining and len(written) == len(candidates):
        if elsewhere := _in_force([cell for cell in code if name in defined(cell.source)], name, check):
            defining = [elsewhere]
            for cells in extras.values():
                cells[:] = [cell for cell in cells if cell is not elsewhere]
        elif not written:
            notes.append(f"The answer cell of {name} is missing or empty.")
    taken = _in_force(defining, name, check) or next(iter(written), None)
    for cell, anchor in candidates:  # a cell that was split has the same id twice: a helper, and the answer
        if cell in written and cell not in defining and cell is not taken:
            extras.setdefault(anchor, []).append(cell)
    return taken


def _in_force(cells: Sequence[Cell], name: str, check: int) -> Cell | None:
    """The cell whose definition of `name` its check would see: functions before variables, and the last above it."""
    return max(
        cells, key=lambda cell: (name in functions(cell.source), cell.number <= check, cell.number), default=None
    )


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
        return functions(source)
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}


def functions(source: str) -> set[str]:
    """The names of the functions and classes that a cell defines at its top level."""
    return set(re.findall(r"^(?:async\s+)?(?:def|class)\s+(\w+)", source, re.MULTILINE))
