"""Text between a corpus and its tokens: a stream of chunks, each small enough to fit in memory."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from pocketgpt.errors import PocketError

Split = Literal["train", "validation"]

CHUNK_CHARS = 2**20
LARGEST_VOCABULARY = 1_000_000
LONGEST_WORD = 256  # training a vocabulary takes time quadratic in the longest word
LONGEST_SPACE = 50_000  # a longer run overflows the stack of tiktoken's regular expressions


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


def well_formed(text: str) -> str:
    """Replace lone surrogates, which JSON and command lines can contain, with U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_long_words(text: str) -> Iterator[str]:
    """Split a text inside runs of letters, punctuation or white space longer than LONGEST_WORD."""
    return _split(rf"\w{{{LONGEST_WORD}}}|[^\w\s]{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}", text)


def split_long_spaces(text: str) -> Iterator[str]:
    """Split a text inside runs of white space longer than LONGEST_SPACE."""
    return _split(rf"\s{{{LONGEST_SPACE}}}", text)


def training_text(documents: Iterable[str]) -> Iterator[str]:
    """Prepare documents for training a vocabulary: well-formed, and without words longer than LONGEST_WORD."""
    return (part for document in documents for part in split_long_words(well_formed(document)))


def check_vocab_size(vocab_size: int) -> None:
    """Raises PocketError for a vocabulary that no trainer can make: it allocates memory for all of it at once."""
    if not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise PocketError(
            f"A vocabulary of {vocab_size} cannot be trained: use at most {LARGEST_VOCABULARY:,} tokens, such as 32000."
        )


def interruptible(work: Callable[[], None]) -> None:
    """Run `work` in a thread, so that Ctrl-C interrupts it at once, also inside a library that does not return."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # also a panic of Rust code
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)  # on Windows a join without a limit defers Ctrl-C
    if errors:
        raise errors[0]


def _split(run: str, text: str) -> Iterator[str]:
    """Split a text after each match of `run`."""
    start = 0
    for match in re.finditer(run, text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text) or not text:
        yield text[start:]


def split_point(text: str) -> int:
    """Find the last position at which `text` can be split so that the parts encode to the tokens of the whole.

    It is before a space or line break that precedes other text, where GPT-2's word pattern always begins a word. A text
    without such a position is split at its end.
    """
    last = re.match(r"(.*)[ \n]\S", text, re.DOTALL)
    return last.end(1) if last else len(text)
