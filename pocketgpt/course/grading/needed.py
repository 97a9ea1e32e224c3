"""Leaving out what no answer can use: given code that draws, prints and trains takes most of a chapter's time.

Of our own cells those statements stay that bind a name which a later cell reads, and what they need in turn. All cells
of a student stay. Where these may read names in ways that cannot be seen (magics, eval, globals), everything stays.
"""

import ast
import re
import symtable
from collections.abc import Sequence
from dataclasses import replace

from pocketgpt.course.grading.rebuild import LONGEST, Piece

UNSEEN = {"get_ipython", "globals", "locals", "vars", "eval", "exec", "dir", "__builtins__", "In", "Out"}

MAGIC = re.compile(r"^\s*[%!?]|=\s*[%!]|\?\s*$", re.MULTILINE)


def needed(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, with the given ones cut to what the others need; without those of which nothing is left."""
    read: set[str] = set()
    kept = []
    for piece in reversed(pieces):
        if piece.role != "given":
            read |= {piece.exercise} if piece.role == "check" else names_read(piece.source)
        elif not piece.origin:
            piece, more = _cut(piece, read)
            read |= more
        if piece.source:
            kept.append(piece)
    return list(pieces) if UNSEEN & read else kept[::-1]


def names_read(source: str) -> set[str]:
    """The global names that a cell reads, its functions included; `UNSEEN` if it cannot be parsed."""
    if len(source) > LONGEST or MAGIC.search(source):
        return UNSEEN
    try:
        table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return UNSEEN
    names, tables = set(), [table]
    while tables:
        table = tables.pop()
        outside = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (outside or s.is_global())}
        tables += table.get_children()
    return names


def _cut(piece: Piece, read: set[str]) -> tuple[Piece, set[str]]:
    """A given cell without the statements that touch none of the names, and the names that the others read."""
    lines, kept, more = piece.source.split("\n"), [], set()
    for statement in reversed(ast.parse(piece.source).body):
        first = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", ())))
        source = "\n".join(lines[first - 1 : statement.end_lineno])
        if _touched(statement) & (read | more):
            kept.append(source)
            more |= names_read(source)
    return replace(piece, source="\n".join(reversed(kept))), more


def _touched(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, and those of the objects whose methods it calls or whose parts it sets."""
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(_root(node))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        names.add(_root(statement.value.func))
    return names


def _root(node: ast.expr) -> str:
    """`x` of x.y[0].z; nothing of a plain name, which a call does not change."""
    inner = node
    while isinstance(inner, ast.Attribute | ast.Subscript | ast.Call):
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return inner.id if isinstance(inner, ast.Name) and inner is not node else ""
