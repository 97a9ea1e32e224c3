"""Lines of a submission that a person should look at, found without running anything.

Code that runs in the process of its own check can always cheat. So these flags cost no points: they quote what could
have cheated, harmed the machine or left it, and somebody decides. A flag too many is ignored with all others; what the
course itself asks people to write is therefore never flagged.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from pocketgpt.grading.flags.aliases import Names
from pocketgpt.grading.flags.ast_rules import MARK, MARKS, found
from pocketgpt.grading.flags.magics import (
    LINE_END,
    NOT_PYTHON,
    SHELL,
    magic_of,
    parsed,
    places,
    python_of,
    reason_of,
)
from pocketgpt.grading.flags.names import AUTOMATIC_MAGICS, BUILTINS, NOTEBOOK, READ_ON, reason_for
from pocketgpt.grading.flags.pasted import our_answers, pasted
from pocketgpt.grading.master import Master
from pocketgpt.grading.results import Flag

TOO_LONG, TOO_DEEP = "is too long to be read", "is nested too deeply to be read"
MOST_FLAGS, LONGEST_LINE, QUOTED = 500, 1000, 160
LONGEST_CELL = 50_000  # characters; the longest cell of the course has 1,200
MOST_WORK = 150_000  # characters times passes over them; the longest chapter has 12,000
MOST_NESTED = 3  # magics within magics, as in %%time, %%capture, %timeit

MARKER = re.compile(r"\s*#[#\s]*(NBVAL_SKIP|NBVAL_RAISES_EXCEPTION|NBVAL_CHECK_OUTPUT)\s*$")
# Invisible, or turning the direction of the text around. A zero-width joiner is part of many emoji.
UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
OPTIONS = re.compile(r"\s*(?:-\S+(?:\s+\d+)?\s+)*")


@dataclass
class _Reading:
    """A parsed cell: syntax trees with their line numbers in the cell, and lines to look at."""

    lines: list[str]
    trees: list[tuple[ast.AST, list[int]]] = field(default_factory=list)
    unparsed: list[int] = field(default_factory=list)
    seen: set[tuple[int, str]] = field(default_factory=set)


def flags(cells: Sequence[tuple[int, str]], master: Master) -> tuple[Flag, ...]:
    """The lines to look at in the code cells that a student wrote or changed: (number of the cell, source).

    master: our notebook of the chapter, for its exercises and for what its given cells import. A name that is imported
    in one cell is known in all. Whatever the text is, nothing is raised, and the work is bounded.
    """
    ours, given = _of_given_cells(master)
    names, bound = Names(frozenset(master.exercises), ours), set(given)
    left, readings = MOST_WORK, []
    for number, source in cells:
        work = len(source) * (1 + len(NOT_PYTHON.findall(source[:LONGEST_CELL])))
        reading = _Reading(LINE_END.split(source[:LONGEST_CELL]))
        if len(source) > LONGEST_CELL or work > left:
            reading.seen.add((1, TOO_LONG))
        else:
            left -= work
            _read(source, 1, reading)
        readings.append((number, reading))
    for _, reading in readings:
        for tree, _ in reading.trees:
            names.learn(tree, names.theirs)
            bound |= _stored(tree)
    answers = our_answers(master.exercises, tuple(master.solutions.values()))
    result = []
    for number, reading in readings:
        _look(reading, names, bound, answers)
        for line, reason in sorted(reading.seen):
            result.append(Flag(number, line, _quoted(reading.lines[line - 1]), reason))
            if len(result) == MOST_FLAGS:
                return tuple(result)
    return tuple(result)


@cache
def _of_given_cells(master: Master) -> tuple[dict[str, str], frozenset[str]]:
    """What the names that the given cells import stand for, and all names that they bind."""
    names, bound = Names(frozenset(master.exercises)), set()
    for cell in master.cells:
        if cell.role == "given" and (tree := parsed(python_of(cell.source))):
            names.learn(tree, names.ours)
            bound |= _stored(tree)
    return names.ours, frozenset(bound)


def _look(reading: _Reading, names: Names, bound: set[str], answers: frozenset[str]) -> None:
    """Add to `seen` what trees and lines show, once all names are known."""
    for tree, where in reading.trees:
        for line, reason in (*found(tree, names), *pasted(tree, answers)):
            reading.seen.add((where[min(line, len(where)) - 1], reason))
    for line in reading.unparsed:
        for reason in _in_text(reading.lines[line - 1], names):
            reading.seen.add((line, f"{reason} (the cell does not parse)"))
    for line, text in enumerate(reading.lines, 1):
        if MARKER.match(text):
            reading.seen.add((line, "tells nbval to treat the cell differently"))
        if len(text) > LONGEST_LINE:
            reading.seen.add((line, "is a very long line"))
        if UNSEEN.search(text):
            reading.seen.add((line, "holds characters that cannot be seen"))
    written = [(line, text) for line, text in enumerate(reading.lines, 1) if text.strip()]
    if len(written) == 1 and (word := re.match(r"\s*(\w+)\b(?!\s*=)", written[0][1])):
        is_magic = word[1] in AUTOMATIC_MAGICS and word[1] not in bound
        if is_magic and (reason := reason_of(word[1], "")):
            reading.seen.add((written[0][0], reason))


def _read(source: str, first: int, reading: _Reading, nested: int = 0) -> None:
    """Parse a source that starts in line `first` of the cell, and the sources within its magics."""
    original = LINE_END.split(source)
    text = python_of(source)
    where, made = places(original, text, first)
    try:
        tree = parsed(text)
    except (RecursionError, MemoryError):
        reading.seen.add((first, TOO_DEEP))
        return
    if tree is None:
        reading.unparsed += range(first, min(first + len(original), len(reading.lines) + 1))
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno in made and (magic := magic_of(node)):
            line = where[node.lineno - 1]
            if "get_ipython" in reading.lines[line - 1]:
                continue  # spelled out by the student
            node.func, node.args = ast.Constant(None), []
            name, rest, body = magic
            if reason := reason_of(name, rest):
                reading.seen.add((line, reason))
            if name in READ_ON:
                code = "" if name == "capture" else OPTIONS.sub("", rest, count=1)
                for within, start in ((code, line), (body, line + 1)):
                    if within.strip() and nested < MOST_NESTED and start <= len(reading.lines):
                        _read(within, start, reading, nested + 1)
                    elif within.strip():
                        reading.seen.add((line, TOO_DEEP))
            elif "{" in rest or "$" in rest:  # IPython evaluates what stands in braces
                reading.unparsed.append(line)
    reading.trees.append((tree, where))


def _in_text(line: str, names: Names) -> Iterator[str]:
    """Reasons in a line that is no Python, as far as its words show them."""
    code = line.split("#")[0]
    if re.match(r"\s*(?:\w+\s*=\s*)?!", code):
        yield SHELL
    if (magic := re.match(r"\s*(?:\w+\s*=\s*)?%{1,2}(\w+)", code)) and (reason := reason_of(magic[1], "")):
        yield reason
    if MARKS.search(code):
        yield MARK
    imports = re.match(r"\s*(?:import|from)\s", code) is not None
    for word in re.finditer(r"[^\W\d][\w.]*(?=(\s*\()?)", code):
        name = word[0].rstrip(".")
        root, _, rest = name.partition(".")
        full = names.theirs.get(root) or names.ours.get(root) or root
        if name == "get_ipython":
            yield NOTEBOOK
        elif rest or imports:
            if reason := reason_for(f"{full}.{rest}" if rest else full):
                yield reason
        elif word[1] and name in BUILTINS:
            yield BUILTINS[name]


def _stored(tree: ast.AST) -> set[str]:
    """The names that a tree binds."""
    bound = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.split(".")[0])
    return bound


def _quoted(text: str) -> str:
    """A line as it can be shown anywhere: no white space around it, not too long, nothing unseen."""
    text = text.strip()
    text = text if len(text) <= QUOTED else f"{text[: QUOTED - 2]} …"
    return UNSEEN.sub(lambda unseen: unseen[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
