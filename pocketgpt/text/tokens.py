"""A corpus as one flat array of token ids on disk, read through a memory map.

A file is a header of 1,024 bytes (JSON on one line, padded with spaces) and then the ids, little-endian, two bytes
each where the vocabulary allows it and four otherwise. Every document ends with the end-of-text token.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt
from tqdm import tqdm

from pocketgpt.errors import PocketError
from pocketgpt.text.corpora import HUB, Split, cache_dir, load_corpus
from pocketgpt.text.tokenizer import Tokenizer

HEADER_BYTES = 1024


class TokenFileError(PocketError, ValueError):
    """A token file that cannot be trusted: damaged, or made with another tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a token file says about itself."""

    format: str = "pocketgpt tokens 1"
    vocabulary: str  # Tokenizer.hash
    dtype: str  # "<u2" or "<u4"
    n_tokens: int
    n_documents: int
    n_bytes: int  # UTF-8 bytes of the text, which bits per byte divides by
    sha256: str = ""  # of the SHA-256 of the ids as stored, followed by this header without its own


@dataclass(frozen=True)
class TokenFile:
    """The ids of a corpus and what is known about it; `len` is the number of tokens."""

    path: Path
    header: Header
    tokens: UInt[np.ndarray, " n_tokens"]  # memory-mapped, read-only

    def __len__(self) -> int:
        return self.header.n_tokens

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text that the tokens came from."""
        return self.header.n_bytes


def prepare(corpus: str | Path, tokenizer: Tokenizer, split: Split) -> TokenFile:
    """The tokens of one split of a corpus (a name or a path), made once and then kept in `cache_dir()`.

    The name of the file in the cache holds hashes of the text and of the vocabulary, so that neither is ever mixed up.
    Raises PocketError if the corpus cannot be read, TokenFileError if the file in the cache was damaged.
    """
    documents = load_corpus(corpus, split)
    if corpus in HUB:
        text = str(corpus)
    else:
        documents = list(documents)
        text = f"{Path(corpus).stem}-{_hash_of(documents)[:12]}"
    path = cache_dir() / f"{text}-{split}-{tokenizer.hash[:12]}.tokens"
    if not path.exists():
        write_tokens(documents, tokenizer, path, description=f"tokenize {Path(corpus).name} ({split})")
    return open_tokens(path, tokenizer)


def write_tokens(documents: Iterable[str], tokenizer: Tokenizer, path: Path, description: str = "tokenize") -> None:
    """Encode `documents` into a token file at `path`, which appears there only when it is complete."""
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    digest, n_tokens, n_documents, n_bytes = hashlib.sha256(), 0, 0, 0
    total = sum(len(_utf8(document)) for document in documents) if isinstance(documents, list) else None
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with (
            unfinished.open("wb") as file,
            tqdm(desc=description, total=total, unit="B", unit_scale=True) as progress,
        ):
            file.write(b" " * HEADER_BYTES)
            for document in documents:
                data = np.array([*tokenizer.encode(document), tokenizer.end_of_text], dtype).tobytes()
                file.write(data)
                digest.update(data)
                n_tokens += len(data) // dtype.itemsize
                n_documents += 1
                n_bytes += len(_utf8(document))
                progress.update(len(_utf8(document)))
            header = Header(
                vocabulary=tokenizer.hash,
                dtype=dtype.str,
                n_tokens=n_tokens,
                n_documents=n_documents,
                n_bytes=n_bytes,
            )
            file.seek(0)
            file.write(json.dumps(asdict(_sealed(header, digest.digest()))).encode().ljust(HEADER_BYTES - 1) + b"\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def open_tokens(path: Path, tokenizer: Tokenizer) -> TokenFile:
    """Open a token file and check all of it: the tokenizer, the length, every byte.

    Raises TokenFileError that says what is wrong with it and how to make it anew.
    """
    rebuild = f"Delete {path} and run again: it is made anew from the text."
    if not path.exists():
        raise TokenFileError(f"There is no token file {path}: `prepare(corpus, tokenizer, split)` makes one.")
    with path.open("rb") as file:
        try:
            header = Header(**json.loads(file.read(HEADER_BYTES)))
            if header.format != Header.format:
                raise ValueError(f"format {header.format!r}")
            expected = HEADER_BYTES + header.n_tokens * np.dtype(header.dtype).itemsize
        except (ValueError, TypeError) as error:
            raise TokenFileError(f"{path} is not a token file: its header cannot be read. {rebuild}") from error
        if header.vocabulary != tokenizer.hash:
            raise TokenFileError(
                f"{path} was made with another tokenizer: vocabulary {header.vocabulary[:12]}, "
                f"and the one in use is {tokenizer.hash[:12]}. {rebuild}"
            )
        if (size := path.stat().st_size) != expected:
            problem = "cut short" if size < expected else "too long"
            raise TokenFileError(f"{path} is {problem}: it has {size} bytes, and {expected} were written. {rebuild}")
        file.seek(HEADER_BYTES)
        if _sealed(header, hashlib.file_digest(file, "sha256").digest()) != header:
            raise TokenFileError(f"{path} is damaged: its contents do not match their SHA-256. {rebuild}")
    tokens = np.memmap(path, header.dtype, "r", HEADER_BYTES, (header.n_tokens,))
    return TokenFile(path, header, tokens)


def _sealed(header: Header, ids_sha256: bytes) -> Header:
    """The header with the checksum that covers both the ids and the header itself."""
    fields = json.dumps(asdict(replace(header, sha256="")))
    return replace(header, sha256=hashlib.sha256(ids_sha256 + fields.encode()).hexdigest())


def _hash_of(documents: list[str]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(hashlib.sha256(_utf8(document)).digest())
    return digest.hexdigest()


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # JSON can hold half a surrogate pair; it is encoded as U+FFFD
