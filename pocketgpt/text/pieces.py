"""Text on its way from a corpus to tokens: a stream of pieces, each small enough to hold."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Split = Literal["train", "validation"]

PIECE_CHARS = 2**20


class Piece(NamedTuple):
    """A document, or a part of one that is too long to hold."""

    text: str
    ends: bool = True  # the document ends with this piece
    done: float | None = None  # share of the corpus that is read with it, where its size is known


def every(n: int, pieces: Iterable[Piece], split: Split) -> Iterator[Piece]:
    """The pieces of one split: of the documents that are not empty, the second is held out and each n-th after it.

    Whether a document is held out depends on nothing but its number: neither split has to be held, or even counted.
    """
    number, inside = 0, False
    for piece in pieces:
        if piece.text or inside:
            if (number % n == 1) == (split == "validation"):
                yield piece
            number += piece.ends
            inside = not piece.ends


def cut_place(text: str) -> int:
    """The last place to cut `text` where the encodings of both parts make up the encoding of the whole.

    That is before a space or line break that something else follows. GPT-2's word pattern always begins a word there,
    whatever stands before it. A text that has no such place is cut at its end.
    """
    last = re.match(r"(.*)[ \n]\S", text, re.DOTALL)
    return last.end(1) if last else len(text)
