"""Corpora: text to train on, by name or by path, split into training and validation documents."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.files import check_writable, write_json
from pocketgpt.text import huggingface_datasets, local_files, shakespeare
from pocketgpt.text.chunks import Split, TextChunk

NAMES = ("shakespeare", *huggingface_datasets.DATA_SETS)
LARGE = 64 * 2**20  # bytes; smaller files are hashed at every use
READING = "1"  # bump when reading or splitting changes; invalidates cached tokens


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One split of a corpus. Iterating over it gives its documents as text (a very long one in several parts)."""

    name: str
    hash: str
    """SHA-256 of the text, or of the name of a data set that is too large to hash."""
    read: Callable[[int], Iterator[TextChunk]]
    """read(n) streams its chunks, without the first n."""

    def __iter__(self) -> Iterator[str]:
        return (chunk.text for chunk in self.read(0))


def cache_dir() -> Path:
    """Folder of downloaded and tokenized text: $POCKETGPT_CACHE, or ~/.cache/pocketgpt. Created if missing.

    Raises PocketError if it cannot be written.
    """
    advice = "Set POCKETGPT_CACHE to a folder that can be written."
    try:
        folder = Path(os.environ.get("POCKETGPT_CACHE") or "~/.cache/pocketgpt").expanduser()
    except RuntimeError as error:  # nobody of that name, or a user without a home
        raise PocketError(f"There is no folder for the cache: {error} {advice}") from error
    check_writable(folder, advice)
    return folder


def load_corpus(name_or_path: str | Path, split: Split = "train", text_field: str = "text") -> Corpus:
    """Load one split of a corpus; its text is read lazily.

    `name_or_path` is one of NAMES, or a path to your own text:
        data.jsonl      one document a line, in the field `text_field`; also data.jsonl.gz
        data.parquet    one document a row, in the column `text_field`
        story.txt       one document, or several with a line <|endoftext|> between them; also story.txt.gz
        folder/         all such files in it, sorted by name
    Every tenth document is held out for validation; of a single document, the last tenth from a line break. A folder
    may have validation text of its own, in files whose names begin with "validation".

    Raises PocketError for an unknown name and, once it is read, for text that cannot be read or fetched.
    """
    if name_or_path == "shakespeare":
        plays, held_out = shakespeare.plays(cache_dir()), shakespeare.VALIDATION_PLAYS
        return in_memory(
            "shakespeare", [text for play, text in plays.items() if (play in held_out) == (split == "validation")]
        )
    if name_or_path in huggingface_datasets.DATA_SETS:
        name = str(name_or_path)
        return Corpus(
            name=name, hash=_hash_of([name.encode()]), read=lambda skip: huggingface_datasets.read(name, split, skip)
        )
    path = Path(os.path.expanduser(name_or_path))  # leaves the ~ of an unknown user as it is
    if not path.exists() or not str(name_or_path):  # an empty name would be the current folder
        raise PocketError(
            f"{str(name_or_path)!r} is neither a corpus ({', '.join(NAMES)}) nor a file or folder that exists."
        )
    if not path.is_dir() and not path.is_file():
        raise PocketError(f"{path} is neither a file nor a folder but a pipe or a device: write the text to a file.")
    if not path.is_dir() and local_files.ending(path) not in local_files.ENDINGS:
        raise PocketError(
            f"{path} is a {path.suffix or 'file without ending'}; text is read from {', '.join(local_files.ENDINGS)}."
        )
    digest = _hash_of_files(path)
    return Corpus(
        name=path.name.removesuffix(".gz").rpartition(".")[0] or path.name,
        hash=digest if text_field == "text" else _hash_of([digest.encode(), text_field.encode()]),
        read=lambda skip: islice(local_files.read(path, split, text_field), skip, None),
    )


def in_memory(name: str, documents: list[str]) -> Corpus:
    """Make a corpus from documents in memory."""
    size = max(1, sum(map(len, documents)))

    def read(skip: int) -> Iterator[TextChunk]:
        done = sum(map(len, documents[:skip]))
        for document in documents[skip:]:
            done += len(document)
            yield TextChunk(document, True, done / size)

    return Corpus(name=name, hash=_hash_of(text.encode(errors="surrogatepass") for text in documents), read=read)


def _hash_of(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256(READING.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _hash_of_files(path: Path) -> str:
    """SHA-256 of the text of a file or a folder.

    The contents decide, not name and time: the same name can have another text. A large file is hashed once; while its
    size and modification time are unchanged, its hash comes from a record in the cache. Git detects changed files by
    the same rule.
    """
    files = local_files.text_files(path)
    notes_file = cache_dir() / "hashes.json"
    try:
        read = json.loads(notes_file.read_text())
        notes = {name: note for name, note in read.items() if isinstance(note, list) and len(note) == 4}
    except (OSError, ValueError, AttributeError):  # missing, or damaged
        notes = {}
    known = dict(notes)
    parts = []
    for file in files:
        status = file.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        *noted, digest = notes.get(str(file.resolve()), [None])
        if noted != stamp:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            if status.st_size > LARGE:
                known[str(file.resolve())] = [*stamp, digest]
        parts.append(digest.encode())
    if known != notes:
        write_json(notes_file, known)
    return _hash_of(parts)
