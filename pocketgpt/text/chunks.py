"""Text between a corpus and its tokens: a stream of chunks, each small enough to fit in memory."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Split = Literal["train", "validation"]

CHUNK_CHARS = 2**20


class TextChunk(NamedTuple):
    """A document, or a part of one that is too long for memory."""

    text: str
    ends: bool = True  # the document ends with this chunk
    done: float | None = None  # share of the corpus that is read with it, where its size is known


def hold_out(n: int, chunks: Iterable[TextChunk], split: Split) -> Iterator[TextChunk]:
    """The chunks of one split: of the documents that are not empty, the second is held out and each n-th after it.

    Whether a document is held out depends on nothing but its number: neither split has to be held, or even counted.
    """
    number, inside = 0, False
    for chunk in chunks:
        if chunk.text or inside:
            if (number % n == 1) == (split == "validation"):
                yield chunk
            number += chunk.ends
            inside = not chunk.ends


def split_point(text: str) -> int:
    """The last place to cut `text` where the encodings of both parts make up the encoding of the whole.

    That is before a space or line break that something else follows. GPT-2's word pattern always begins a word there,
    whatever stands before it. A text that has no such place is cut at its end.
    """
    last = re.match(r"(.*)[ \n]\S", text, re.DOTALL)
    return last.end(1) if last else len(text)
