"""Lines of a submission that an instructor should look at, found without running anything.

Flags cost no points: marks are decided by the blind run (blind.py). They quote what could have changed a check, left
the notebook, or is not the student's own. What the course itself asks people to write is never flagged.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cache

from pocketgpt.grading.flag_rules import BUILTINS, MARK, MARKS, Names, our_answers, suspicious, words
from pocketgpt.grading.master import Master
from pocketgpt.grading.results import Flag

MOST_FLAGS, LONGEST_LINE, QUOTED = 500, 1000, 160
LONGEST_CELL = 50_000  # characters; the longest cell of the course has 1,200

MAGIC = re.compile(r"(\s*)(?:[\w, ]+=\s*)?([!%]{1,2})\s*(\w*)(.*)")
HELP = re.compile(r"\s*(?:\?.*|[\w.]+\?{1,2}\s*$)")
PROMPT = re.compile(r"\s*(?:>>>|\.\.\.|In \[\d*\]:) ?")
OPTIONS = re.compile(r"\s*(?:-\S+(?:\s+\d+)?\s+)*")
TIMED = words("time timeit prun memit")  # the rest of their line is Python
SHELLS = words("bash sh script system sx sc cmd perl ruby python python3")
HARMLESS = TIMED | words(
    "capture matplotlib precision autoreload load_ext config pdb who whos pinfo pinfo2 pdoc pip conda xmode pylab "
    "markdown latex"
)
MARKER = re.compile(r"\s*#[#\s]*(NBVAL_SKIP|NBVAL_RAISES_EXCEPTION|NBVAL_CHECK_OUTPUT)\s*$")
# Invisible, or turning the direction of the text around. A zero-width joiner is part of many emoji.
UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def flags(cells: Sequence[tuple[int, str]], master: Master) -> tuple[Flag, ...]:
    """The lines to look at in the code cells that a student wrote or changed: (number of the cell, source).

    A name that is imported in one cell is known in all. Whatever the text is, nothing is raised.
    """
    imported, given = _given(master)
    names = Names(frozenset(master.exercises), dict(imported), given)
    ours = our_answers(master.exercises, tuple(master.solutions.values()))
    read = [(number, *_read(source[:LONGEST_CELL]), len(source)) for number, source in cells]
    for _, _, tree, _, _ in read:
        if tree:
            names.learn(tree)
    found: list[Flag] = []
    for number, lines, tree, seen, size in read:
        reasons = set(seen) | (set(suspicious(tree, names, ours)) if tree else set(_in_text(lines, names)))
        if size > LONGEST_CELL:
            reasons.add((1, "is too long to be read to its end"))
        for line, text in enumerate(lines, 1):
            if MARKER.match(text):
                reasons.add((line, "tells nbval to treat the cell differently"))
            if len(text) > LONGEST_LINE:
                reasons.add((line, "is a very long line"))
            if UNSEEN.search(text):
                reasons.add((line, "has characters that cannot be seen"))
        found += [Flag(number, line, _quoted(lines[line - 1]), reason) for line, reason in sorted(reasons)]
    return tuple(found[:MOST_FLAGS])


@cache
def _given(master: Master) -> tuple[dict[str, str], frozenset[str]]:
    """Imports of the given cells of a chapter: full names by name, and those of this package."""
    names = Names(frozenset())
    for cell in master.cells:
        if cell.role == "given" and (tree := _parsed(cell.source)):
            names.learn(tree)
    return names.imported, frozenset(full for full in names.imported.values() if full.startswith("pocketgpt."))


def _read(source: str) -> tuple[list[str], ast.AST | None, list[tuple[int, str]]]:
    """Lines of a cell, its syntax tree with IPython's own lines made harmless, and the reasons in those.

    Line by line, so that numbers stay. The tree is None if the rest is no Python either.
    """
    lines = re.split(r"\r\n|\r|\n", source)
    if tree := _parsed("\n".join(lines)):
        return lines, tree, []
    python, seen = [], []
    shell = continued = False  # within a cell of another language; after a \ at the end of a command
    for number, line in enumerate(lines, 1):
        line = PROMPT.sub("", line, count=1) if PROMPT.match(line) else line
        if shell or continued:
            python.append("")
            continued = line.endswith("\\")
            continue
        for _ in range(3):  # %time %timeit !command
            if (magic := MAGIC.fullmatch(line)) is None:
                break
            indent, sign, name, rest = magic.groups()
            reason = _of_magic(sign, name, rest)
            seen += [(number, reason)] if reason else []
            shell = sign == "%%" and name not in HARMLESS
            continued = sign != "%%" and line.endswith("\\")
            line = indent + (OPTIONS.sub("", rest, count=1) if name in TIMED and sign[0] == "%" else "") or "pass"
        python.append(
            re.match(r"\s*", line)[0] + "pass" if HELP.fullmatch(line) or (magic and not line.strip()) else line
        )
    return lines, _parsed("\n".join(python)), seen


def _of_magic(sign: str, name: str, rest: str) -> str | None:
    if sign[0] == "!" or name in SHELLS:
        return None if name in ("pip", "conda") else "runs a shell command"
    return None if name in HARMLESS else f"runs the magic %{name[:40]}"


def _parsed(text: str) -> ast.AST | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: null bytes, half characters
        return None


def _in_text(lines: Sequence[str], names: Names) -> Iterator[tuple[int, str]]:
    """Reasons in lines that are no Python, as far as their words show them."""
    for number, line in enumerate(lines, 1):
        code = line.split("#")[0]
        importing = re.match(r"\s*(?:import|from)\s", code)
        reasons = {MARK} if MARKS.search(code) else set()
        for word in re.findall(r"[^\W\d][\w.]*", code):
            root, dot, rest = word.rstrip(".").partition(".")
            reasons.add(BUILTINS.get(word))
            if rest or importing:
                reasons.add(names.reason(names.imported.get(root, root) + dot + rest))
        yield from ((number, f"{reason} (the cell does not parse)") for reason in reasons if reason)


def _quoted(text: str) -> str:
    """A line as it can be shown anywhere: no white space around it, not too long, nothing unseen."""
    text = text.strip()
    text = text if len(text) <= QUOTED else f"{text[: QUOTED - 2]} …"
    return UNSEEN.sub(lambda unseen: unseen[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
