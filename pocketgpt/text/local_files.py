"""Local text files, read as a stream: .txt, .jsonl (both also as .gz), .parquet, or a folder of them."""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pocketgpt.errors import PocketError
from pocketgpt.text.chunks import CHUNK_CHARS, Split, TextChunk, hold_out, split_point, well_formed

HOLD_OUT = 10  # one in this many documents is held out for validation
VALIDATION = "validation"  # begins the names of the files in a folder that are the validation text
SEPARATOR = "<|endoftext|>"  # alone on a line, it ends a document of a .txt file
BATCH_ROWS = 256
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path, split: Split, text_field: str = "text") -> Iterator[TextChunk]:
    """Stream the documents of one split of a file or a folder.

    In a folder with files whose names begin with "validation", these are the validation text and the others are for
    training. Otherwise validation is the last tenth of a single .txt file without a SEPARATOR, from a line break, or
    else every tenth document. `text_field` is the field, or the column, that contains the text.

    Raises PocketError for text that cannot be read or is too short to split.
    """
    files = text_files(path)
    if not files:
        raise PocketError(f"The folder {path} contains no text ({', '.join(ENDINGS)}): add some, or give one file.")
    validation = [file for file in files if path.is_dir() and file.name.startswith(VALIDATION)]
    if 0 < len(validation) < len(files):
        chosen = validation if split == "validation" else [file for file in files if file not in validation]
        chunks = _files(chosen, text_field)
    elif len(files) == 1 and files[0].suffix.lower() == ".txt" and not _is_separated(files[0]):
        size, tenth = files[0].stat().st_size, _last_tenth(files[0])
        chunks = _txt(files[0], 0, tenth) if split == "train" else _txt(files[0], tenth, size)
    else:
        chunks = hold_out(HOLD_OUT, _files(files, text_field), split)
    empty = True
    for chunk in chunks:
        empty = empty and not chunk.text
        yield chunk
    if empty:
        raise PocketError(
            f"{path} has too little text to split into training and validation: give two documents or more."
        )


def text_files(path: Path) -> list[Path]:
    """List the text files of a folder by name, whatever the case of the ending; of a file, the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if ending(file) in ENDINGS and file.is_file())


def ending(path: Path) -> str:
    """The ending of a file in lower case, with .gz and what is before it: ".jsonl.gz"."""
    endings = [each.lower() for each in path.suffixes]
    return "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])


def _files(files: list[Path], text_field: str) -> Iterator[TextChunk]:
    sizes = [file.stat().st_size for file in files]
    for number, file in enumerate(files):
        kind = ending(file).removesuffix(".gz")
        for chunk in _txt(file) if kind == ".txt" else _READERS[kind](file, text_field):
            done = (sum(sizes[:number]) + chunk.done * sizes[number]) / max(1, sum(sizes))
            yield chunk._replace(done=done)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], float]]]:
    """Open a file, unpacking .gz, and a function that returns the share of it that is read.

    Raises PocketError if it is damaged.
    """
    size = max(1, path.stat().st_size)
    with path.open("rb") as raw:
        if ending(path).endswith(".gz"):
            try:
                with gzip.open(raw) as file:
                    yield file, lambda: raw.tell() / size
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise PocketError(f"{path} is damaged, or not a gzip file: {error}. Get it again.") from error
        else:
            yield raw, lambda: raw.tell() / size


def _txt(path: Path, start: int = 0, end: int | None = None) -> Iterator[TextChunk]:
    """Stream the documents of a text file, from byte `start` to byte `end`; long ones in chunks."""
    rest = ""
    for text, done in _blocks(path, start, end):
        rest += text
        if SEPARATOR in rest:  # checked first: the pattern is slow without a match
            *documents, rest = re.split(rf"(?m)^{re.escape(SEPARATOR)}\n", rest)
            yield from (TextChunk(document, True, done) for document in documents)
        if len(rest) > 2 * CHUNK_CHARS:
            place = split_point(rest)
            yield TextChunk(rest[:place], False, done)
            rest = rest[place:]
    yield TextChunk(re.sub(rf"(?m)^{re.escape(SEPARATOR)}\Z", "", rest), True, 1.0)


def _blocks(path: Path, start: int, end: int | None) -> Iterator[tuple[str, float]]:
    """Read part of a file in blocks, with line ends as \\n; yields each with the fraction read."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    with _opened(path) as (file, share):
        if start == 0 and file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            start = len(codecs.BOM_UTF8)
        file.seek(start)
        data = b"not read yet"
        while data:
            data = file.read(CHUNK_CHARS if end is None else min(CHUNK_CHARS, end - file.tell()))
            _check_bytes(path, data)
            done = share() if end is None else (file.tell() - start) / max(1, end - start)
            try:
                yield decoder.decode(data, final=not data), done
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error, file.tell() - len(error.object)) from error


def _check_bytes(path: Path, data: bytes) -> None:
    """Raises PocketError for bytes that are compressed, or UTF-16 without a mark, in which ASCII is valid UTF-8."""
    if data.startswith(b"\x1f\x8b"):
        raise PocketError(f"{path} is compressed (gzip): let its name end in .gz.")
    if data.startswith(UTF_16_MARKS) or data.count(0) > len(data) // 10:
        raise PocketError(f"{path} is not UTF-8 but UTF-16, or no text: convert it, with `iconv -f utf-16 -t utf-8`.")


def _not_utf8(path: Path, error: UnicodeDecodeError, before: int) -> PocketError:
    return PocketError(
        f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at {before + error.start}. "
        f"Convert it, for instance with `iconv -f latin1 -t utf-8`."
    )


def _is_separated(path: Path) -> bool:
    """Return True if a line of the file is exactly SEPARATOR."""
    line = re.compile(rb"\n" + re.escape(SEPARATOR.encode()) + rb"\r?\n")
    with path.open("rb") as file:
        before = b"\n"
        while block := file.read(CHUNK_CHARS):
            if line.search(before + block):
                return True
            before = (before + block)[-len(SEPARATOR) - 3 :]
    return line.search(before + b"\n") is not None


def _last_tenth(path: Path) -> int:
    """Find the byte at which the last tenth of a file begins: after a line break shortly before it, if there is one."""
    tenth = path.stat().st_size * 9 // 10
    near = max(path.stat().st_size * 8 // 10, tenth - CHUNK_CHARS)
    with path.open("rb") as file:
        file.seek(near)
        before = file.read(tenth - near)
        if b"\n" in before:
            return near + before.rfind(b"\n") + 1
        while (byte := file.read(1)) and byte[0] & 0b1100_0000 == 0b1000_0000:
            tenth += 1  # inside a UTF-8 character
    return tenth


def _jsonl(path: Path, text_field: str) -> Iterator[TextChunk]:
    read = 0
    with _opened(path) as (lines, share):
        for number, line in enumerate(lines, start=1):
            read += len(line)
            _check_bytes(path, line)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error, read - len(line)) from error
            except (ValueError, RecursionError):  # the latter: nested without end
                row = None
            text = row.get(text_field) if isinstance(row, dict) else None
            if not isinstance(text, str):
                shown = line.decode(errors="replace").strip()[:60]
                mend = "Name the field that contains the text with --text-field."
                if not isinstance(row, dict):
                    mend = "Every line must be a JSON object: mend or delete this one."
                raise PocketError(
                    f'{path}, line {number}, is not an object like {{"{text_field}": "..."}}: {shown!r}. {mend}'
                )
            yield TextChunk(well_formed(text), True, share())


def _parquet(path: Path, text_field: str) -> Iterator[TextChunk]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise PocketError(f"Reading {path} needs pyarrow: `pip install pocketgpt[train]`.") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if schema.names.count(text_field) > 1:
                raise PocketError(f'{path} has several columns "{text_field}": give each a name of its own.')
            if text_field not in schema.names:
                raise PocketError(
                    f'{path} has no column "{text_field}", only {", ".join(schema.names)}. '
                    "Name the column that contains the text with --text-field."
                )
            kind = schema.field(text_field).type
            if kind not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
                raise PocketError(
                    f'{path}: the column "{text_field}" contains {kind} and not string. Convert it to string.'
                )
            n_rows, read = file.metadata.num_rows, 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[text_field]):
                read += len(batch)
                yield from (TextChunk(text or "", True, read / n_rows) for text in batch[text_field].to_pylist())
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise PocketError(f"{path} cannot be read as parquet: {error}. Get it again, or convert it.") from error


_READERS = {".jsonl": _jsonl, ".parquet": _parquet}
ENDINGS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
