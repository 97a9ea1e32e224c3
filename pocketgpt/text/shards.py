"""Token ids on disk: shards of a limited size, each a header and a flat, memory-mapped array.

A shard is a header of 1,024 bytes (JSON on one line, padded with spaces), followed by the ids. A folder of shards is
complete once it has an index.json, which is written last and lists the checksum of every header; a header has the
checksum of its ids. So index.json covers every byte.
"""

import hashlib
import json
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing, write_json
from pocketgpt.text.encode import Encoded, id_dtype
from pocketgpt.text.tokenizer import Tokenizer

HEADER_BYTES = 1024
SHARD_TOKENS = 100_000_000
CHECKED_BYTES = 256 * 2**20  # up to this size, all ids are checked whenever they are opened: a fraction of a second
INDEX = "index.json"


class TokenFileError(PocketError, ValueError):
    """Error for token files that are damaged, incomplete, or made with another tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of a shard: its format, vocabulary, counts and checksums."""

    format: str = "pocketgpt tokens 2"
    vocabulary: str  # Tokenizer.hash
    dtype: str  # "<u2" or "<u4"
    n_tokens: int = 0
    n_pieces: int = 0  # chunks of the corpus in it; the next shard begins after them
    n_documents: int = 0
    n_bytes: int = 0  # UTF-8 bytes of the text, for bits per byte
    ids_sha256: str = ""
    sha256: str = ""  # of the rest of this header

    def sealed(self) -> "Header":
        """Return a copy with its own checksum."""
        return replace(self, sha256=hashlib.sha256(json.dumps(asdict(replace(self, sha256=""))).encode()).hexdigest())


class Joined:
    """Several arrays as one sequence of tokens: a slice within one array is a view, any other a copy."""

    def __init__(self, parts: list[UInt[np.ndarray, "_"]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, part: slice) -> UInt[np.ndarray, " n_tokens"]:
        """Raises ValueError for a step other than 1."""
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"A slice of tokens has step 1; {step} is not supported.")
        found = []
        for number in range(bisect_right(self.ends, start), len(self.parts)):
            first = self.ends[number] - len(self.parts[number])
            found.append(self.parts[number][max(0, start - first) : max(0, stop - first)])
            if stop <= self.ends[number]:
                break
        return found[0] if len(found) == 1 else np.concatenate(found or [self.parts[-1][:0]])


@dataclass(frozen=True)
class TokenFolder:
    """Token ids of one split of a corpus, with the headers of its shards; `len` is the number of tokens."""

    path: Path
    headers: list[Header]
    tokens: UInt[np.ndarray, " n_tokens"] | Joined  # memory-mapped, read-only

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_documents(self) -> int:
        return sum(header.n_documents for header in self.headers)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return sum(header.n_bytes for header in self.headers)


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.tokens"


def write_shard(path: Path, batches: Iterable[Encoded], tokenizer: Tokenizer) -> Header:
    """Write batches until the shard is full or they end. `path` appears once all of it is on the disk."""
    header = Header(vocabulary=tokenizer.hash, dtype=id_dtype(tokenizer).str)
    digest = hashlib.sha256()
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(b" " * HEADER_BYTES)
        for batch in batches:
            file.write(batch.ids)
            digest.update(batch.ids)
            header = replace(
                header,
                n_tokens=header.n_tokens + len(batch.ids),
                n_pieces=header.n_pieces + batch.n_pieces,
                n_documents=header.n_documents + batch.n_documents,
                n_bytes=header.n_bytes + batch.n_bytes,
            )
            if header.n_tokens >= SHARD_TOKENS:
                break
        header = replace(header, ids_sha256=digest.hexdigest()).sealed()
        file.seek(0)
        file.write(json.dumps(asdict(header)).encode().ljust(HEADER_BYTES - 1) + b"\n")
    return header


def read_header(path: Path, tokenizer: Tokenizer) -> Header:
    """Read the header of a shard; checks its checksum, its tokenizer and the length of the file.

    Raises TokenFileError, with instructions to rebuild the shard, if one of them does not match.
    """
    rebuild = f"Delete {path.parent} and run again to rebuild it from the text."
    if not path.exists():
        raise TokenFileError(f"{path} is missing. {rebuild}")
    with path.open("rb") as file:
        try:
            header = Header(**json.loads(file.read(HEADER_BYTES)))
        except (ValueError, TypeError) as error:
            raise TokenFileError(f"{path} is not a token file: its header cannot be read. {rebuild}") from error
    if header.format != Header.format or header != header.sealed():
        raise TokenFileError(f"{path} is damaged: its header does not match its SHA-256. {rebuild}")
    if header.vocabulary != tokenizer.hash:
        raise TokenFileError(
            f"{path} was made with another tokenizer: vocabulary {header.vocabulary[:12]}, "
            f"and the one in use is {tokenizer.hash[:12]}. {rebuild}"
        )
    size = path.stat().st_size
    expected = HEADER_BYTES + header.n_tokens * np.dtype(header.dtype).itemsize
    if size != expected:
        problem = "cut short" if size < expected else "too long"
        raise TokenFileError(f"{path} is {problem}: it has {size} bytes, and {expected} were written. {rebuild}")
    return header


def check_ids(path: Path, header: Header) -> None:
    """Check all ids of a shard. Raises TokenFileError if they do not match their checksum."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        if hashlib.file_digest(file, "sha256").hexdigest() != header.ids_sha256:
            raise TokenFileError(
                f"{path} is damaged: its contents do not match their SHA-256. "
                f"Delete {path.parent} and run again to rebuild it from the text."
            )


def finish(folder: Path, headers: list[Header]) -> None:
    """Write the index, which marks the folder as complete."""
    write_json(folder / INDEX, {"format": Header.format, "shards": [header.sha256 for header in headers]})


def open_tokens(folder: Path, tokenizer: Tokenizer, *, verify: bool = False) -> TokenFolder:
    """Open a folder of shards and check them.

    Every header and the length of every file are checked. All ids are compared with their checksum if
    that is fast (up to CHECKED_BYTES) or with `verify`; otherwise those of one random shard, so that opening never
    takes minutes and damage is found after a few runs.

    Raises TokenFileError, with instructions to rebuild the folder, if a check fails.
    """
    rebuild = f"Delete {folder} and run again to rebuild it from the text."
    if not folder.exists():
        raise TokenFileError(
            f"There is no token folder {folder}: `tokenize_corpus(corpus, tokenizer, split)` makes one."
        )
    try:
        index = json.loads((folder / INDEX).read_text())
        checksums = [str(checksum) for checksum in index["shards"]]
        if index["format"] != Header.format:
            raise ValueError(f"format {index['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenFileError(f"{folder} is not a complete token folder: {INDEX} cannot be read. {rebuild}") from error
    paths = [shard_path(folder, number) for number in range(len(checksums))]
    headers = [read_header(path, tokenizer) for path in paths]
    if not headers or [header.sha256 for header in headers] != checksums:
        raise TokenFileError(f"{folder} is damaged: its shards are not those of its {INDEX}. {rebuild}")
    shards = list(zip(paths, headers, strict=True))
    small = sum(path.stat().st_size for path in paths) <= CHECKED_BYTES
    for path, header in shards if small or verify else [random.choice(shards)]:
        check_ids(path, header)
    maps = [np.memmap(path, header.dtype, "r", HEADER_BYTES, (header.n_tokens,)) for path, header in shards]
    return TokenFolder(folder, headers, maps[0] if len(maps) == 1 else Joined(maps))
