"""Prunes provided cells that no answer depends on: code that draws, prints and trains takes most of a chapter's time.

Of our own cells those statements stay that bind a name which a later cell reads, and what they need in turn. All cells
of a student stay. Where these may read names in ways that cannot be seen (magics, eval, globals), everything stays.
"""

import ast
import re
import symtable
from collections.abc import Sequence
from dataclasses import replace

from pocketgpt.grading.rebuild import LONGEST, Piece

UNSEEN = {"get_ipython", "globals", "locals", "vars", "eval", "exec", "dir", "__builtins__", "__main__", "In", "Out"}

MAGIC = re.compile(r"^\s*[%!?]|=\s*[%!]|\?\s*$", re.MULTILINE)


def prune_cells(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, with the given ones cut to what the others need; without those of which nothing is left."""
    used: set[str] = set()
    more = set().union(*({p.exercise} if p.role == "check" else names_in(p.source) for p in pieces if not _ours(p)))
    while more - used and not UNSEEN & more:  # a function may use what is bound after it
        used |= more
        kept = [_cut(piece, used) if _ours(piece) else piece for piece in pieces]
        more = set().union(*(names_in(piece.source) for piece in kept if _ours(piece)))
    return list(pieces) if UNSEEN & more else [piece for piece in kept if piece.source]


def _ours(piece: Piece) -> bool:
    return piece.role == "given"


def names_in(source: str) -> set[str]:
    """The global names in a cell, its functions included; `UNSEEN` if it cannot be parsed.

    Those it only binds too: `x += 1` and `del x` need an x that is there.
    """
    if len(source) > LONGEST or MAGIC.search(source) or "__main__" in source:
        return UNSEEN
    try:
        table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return UNSEEN
    names, tables = set(), [table]
    while tables:
        table = tables.pop()
        outside = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if outside or s.is_global()}
        tables += table.get_children()
    return names


def _cut(piece: Piece, used: set[str]) -> Piece:
    """A given cell without the statements that touch none of the names."""
    lines, kept = piece.source.split("\n"), []
    for statement in ast.parse(piece.source).body:
        first = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", ())))
        if _touched(statement) & used:
            kept.append("\n".join(lines[first - 1 : statement.end_lineno]))
    return replace(piece, source="\n".join(kept))


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
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names.add(_root(node.value.func))
    return names


def _root(node: ast.expr) -> str:
    """`x` of x.y[0].z; nothing of a plain name, which a call does not change."""
    inner = node
    while isinstance(inner, ast.Attribute | ast.Subscript | ast.Call):
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return inner.id if isinstance(inner, ast.Name) and inner is not node else ""
