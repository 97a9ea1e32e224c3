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
    """Hold out every n-th non-empty document, starting with the second; yields the chunks of one split.

    The choice depends on the number of the document alone, so neither split has to fit in memory or be counted.
    """
    number, inside = 0, False
    for chunk in chunks:
        if chunk.text or inside:
            if (number % n == 1) == (split == "validation"):
                yield chunk
            number += chunk.ends
            inside = not chunk.ends


def split_point(text: str) -> int:
    """Find the last position at which `text` can be split so that the parts encode to the tokens of the whole.

    It is before a space or line break that precedes other text, where GPT-2's word pattern always begins a word. A text
    without such a position is split at its end.
    """
    last = re.match(r"(.*)[ \n]\S", text, re.DOTALL)
    return last.end(1) if last else len(text)
