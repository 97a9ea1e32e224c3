"""The name in an answer that its student signs: whose questions were answered.

In an exam each student has cases of their own, which follow from the name in the answer. So whoever copies the answer
copies the name with it, and here it is compared with the path.
"""

import ast
import re
import unicodedata
from collections.abc import Iterator

from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.grading.rebuild import Rebuilt

MOST = 50  # expressions that are looked through for a name


def signature_note(rebuilt: Rebuilt, student: str, *, known: bool = True) -> str:
    """A note if a signed answer has the name of somebody else than the path, several names, or one that is not written
    in it; "" if it has the student's, or there is no signed answer.

    known: the path says who handed it in; otherwise the note is the name.
    """
    answers = [
        piece
        for piece in rebuilt.pieces
        if piece.role == "answer" and piece.origin and find_exercise(piece.exercise).signed
    ]
    found = dict.fromkeys(name for piece in answers for name in signatures(piece.source))
    names = list({_plain(name): name for name in found if name is not None}.values())
    if answers and (not names or None in found):
        return "The name that its cases follow from is not written in the answer: look at it."
    if len(names) > 1:
        several = ", ".join(names)[:100]
        return f"Several names are written in the answer: {several}. Look which of them its cases follow from."
    if names and not known:
        return f"It answers the cases of {', '.join(names)[:100]}."
    others = [name for name in names if not _is_of(name, student)]
    return f"It answers the cases of {', '.join(others)[:100]}. Is that who handed it in?" if others else ""


def signatures(source: str) -> Iterator[str | None]:
    """The texts that can come first in what a cell returns: `return "Ada Lovelace", [...]`, or that a variable there
    has. None where a signed function of the cell returns something else, except a call of another signed one."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    held = _held(tree)
    own = {each for node in tree.body if _is_signed(node) for each in _returns_of(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        for value in _possible(node.value, held):
            if isinstance(value, ast.Tuple | ast.List) and value.elts:
                for first in _possible(value.elts[0], held):
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield first.value
                    elif node in own:
                        yield None
            elif node in own and not _calls_a_signed_one(value):
                yield None


def _held(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """The expressions that each variable is given anywhere, parameters with their defaults."""
    held: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            given = [
                *zip(positional[::-1], node.defaults[::-1], strict=False),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
            pairs = [(ast.Name(each.arg), value) for each, value in given if value]
        else:
            continue
        for target, value in pairs:
            unpacked = isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List)
            each = zip(target.elts, value.elts, strict=False) if unpacked else [(target, value)]
            for one, its in each:
                if isinstance(one, ast.Name):
                    held.setdefault(one.id, []).append(its)
    return held


def _possible(value: ast.expr, held: dict[str, list[ast.expr]]) -> list[ast.expr]:
    """What an expression can be: each branch of a condition, and each value that a variable is given. The expression
    itself if these are too many to be meant for a reader."""
    found, rest, seen = [], [value], set()
    while rest:
        if len(seen) > MOST:
            return [value]
        part = rest.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, ast.Name) and part.id in held:
            rest += held[part.id][: MOST + 1]
        elif isinstance(part, ast.IfExp):
            rest += [part.body, part.orelse]
        elif isinstance(part, ast.BoolOp):
            rest += part.values
        else:
            found.append(part)
    return found


def _is_signed(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name in exercise_names() and find_exercise(node.name).signed


def _returns_of(function: ast.FunctionDef) -> Iterator[ast.Return]:
    """Its own, without those of functions inside."""
    rest: list[ast.AST] = list(function.body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Return):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            rest.extend(ast.iter_child_nodes(node))


def _calls_a_signed_one(value: ast.expr) -> bool:
    name = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
    return name in exercise_names() and find_exercise(name).signed


def _is_of(name: str, student: str) -> bool:
    """Two words of a name are in the path, or its only one, or the path's only one is in the name. A first name that
    two students share is not enough."""
    mine, words = set(_plain(name).split()), set(_plain(student).split())
    common = mine & words
    path = {word for word in words if not word.isdigit()} or words  # numbers of a folder are nobody's name
    return len(common) >= 2 or (bool(common) and (len(mine) == 1 or path <= common))


def _plain(name: str) -> str:
    """Its words in small letters, without accents, in order, a space between."""
    bare = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))
