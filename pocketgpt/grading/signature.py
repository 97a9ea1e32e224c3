"""The name in an answer that its student signs: whose questions were answered.

In an exam each student has cases of their own, which follow from the name in the answer. So whoever copies the answer
copies the name with it, and here it is compared with the path.
"""

import ast
import re
import unicodedata
from collections.abc import Iterator

from pocketgpt.course.syllabus import find_exercise
from pocketgpt.grading.rebuild import Rebuilt


def signature_note(rebuilt: Rebuilt, student: str, *, known: bool = True) -> str:
    """A note if a signed answer has the name of somebody else than the path; "" if it has the student's, or none.

    known: the path says who handed it in; otherwise the note is the name.
    """
    answers = [
        piece
        for piece in rebuilt.pieces
        if piece.role == "answer" and piece.origin and find_exercise(piece.exercise).signed
    ]
    names = dict.fromkeys(name for piece in answers for name in signatures(piece.source))
    if answers and not names:
        return "The name that its cases follow from is not written in the answer: look at it."
    if names and not known:
        return f"It answers the cases of {', '.join(names)[:100]}."
    others = [name for name in names if not _words(name) & _words(student)]
    return f"It answers the cases of {', '.join(others)[:100]}. Is that who handed it in?" if others else ""


def signatures(source: str) -> Iterator[str]:
    """The texts that come first in what a cell returns: `return "Ada Lovelace", [...]`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple | ast.List) and node.value.elts:
            first = node.value.elts[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _words(name: str) -> set[str]:
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    return set(re.findall(r"[^\W_]+", plain.casefold()))
