"""Standard output and standard error that never cost work: any encoding, and readers that leave."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SUBSTITUTES = {"✓": "ok", "✗": "x", "→": "->", "…": "...", "─": "-", "·": "-", "−": "-", "×": "x", "√": "sqrt"}
SUBSTITUTES |= dict.fromkeys("‘’", "'") | dict.fromkeys("“”", '"') | dict.fromkeys("╭╮╰╯", "+") | {"│": "|", "•": "*"}


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(character, "?") for character in characters), error.end


codecs.register_error("pocketgpt.substitute", _substitute)


class Output:
    """A text stream whose reader may leave: a write that fails ends the output, and raises nothing.

    A character that the encoding lacks is printed as a similar one, else as "?".
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failure: OSError | None = None
        """The error of the first write that failed."""
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="pocketgpt.substitute")

    def write(self, text: str) -> int:
        with self._until_broken():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._until_broken():
            self.stream.flush()

    @contextmanager
    def _until_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a closed pipe or terminal, a full disk
            self.failure = self.failure or error
            with suppress(OSError):  # what is still buffered, and all that follows, is discarded
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def steady_output() -> Iterator[None]:
    """Replace sys.stdout and sys.stderr by `Output` inside the block; one that is missing, by the null device."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stdout, sys.stderr = (Output(nothing if stream is None else stream) for stream in before)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stdout, sys.stderr = before


def output_failure() -> OSError | None:
    """Return the error that ended standard output; None if all of it was written."""
    sys.stdout.flush()
    return getattr(sys.stdout, "failure", None)
