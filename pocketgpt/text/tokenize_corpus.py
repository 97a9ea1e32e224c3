"""Tokenize a corpus once, in parallel and with bounded memory, and cache the result."""

import errno
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path

from tqdm import tqdm

from pocketgpt.errors import PocketError
from pocketgpt.text.chunks import Split
from pocketgpt.text.corpora import Corpus, cache_dir, load_corpus
from pocketgpt.text.encode import Encoded, encode_all
from pocketgpt.text.shards import (
    INDEX,
    Header,
    TokenFileError,
    TokenFolder,
    check_ids,
    finish,
    open_tokens,
    read_header,
    shard_path,
    write_shard,
)
from pocketgpt.text.tokenizer import Tokenizer


def tokenize_corpus(
    corpus: str | Path, tokenizer: Tokenizer, split: Split, *, text_field: str = "text", verify: bool = False
) -> TokenFolder:
    """Load the tokens of one split of a corpus (a name or a path), tokenized once and cached in `cache_dir()`.

    The cache folder is named by hashes of the text and the vocabulary, so that tokens are never mixed up. With
    `verify` every byte is checked; otherwise see `open_tokens`.

    Raises PocketError if the corpus cannot be read, TokenFileError if the cached tokens are damaged.
    """
    text = load_corpus(corpus, split, text_field)
    folder = cache_dir() / f"{text.name}-{text.hash[:12]}-{split}-{tokenizer.hash[:12]}.tokens"
    if not (folder / INDEX).exists():
        write_tokens(text, tokenizer, folder, description=f"tokenize {text.name} ({split})")
    return open_tokens(folder, tokenizer, verify=verify)


def write_tokens(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path, *, description: str = "tokenize", workers: int | None = None
) -> None:
    """Encode a corpus into a folder of shards, with end-of-text after every document.

    Finished shards are kept: after an interruption, the next call continues after the last of them. The bytes depend
    on text and vocabulary only, not on interruptions or the number of `workers`.

    Raises PocketError if the text cannot be read or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    headers = _finished(folder, tokenizer)
    chunks = corpus.read(sum(header.n_pieces for header in headers))
    with tqdm(
        desc=description,
        initial=sum(header.n_bytes for header in headers),
        unit="B",
        unit_scale=True,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 30,  # in a log file every update is a line
    ) as bar:
        batches = _shown(encode_all(chunks, tokenizer, workers), bar)
        try:
            for batch in batches:
                headers.append(write_shard(shard_path(folder, len(headers)), chain([batch], batches), tokenizer))
            finish(folder, headers)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise PocketError(
                f"There is no room for the tokens in {folder} ({error.strerror}). Make room or set POCKETGPT_CACHE to "
                f"a folder on another disk, then run again: the {len(headers)} finished shards are kept."
            ) from error


def _finished(folder: Path, tokenizer: Tokenizer) -> list[Header]:
    """Read the headers of the shards that an earlier call finished, up to the first missing or damaged one."""
    for beside in folder.glob(".*.partial"):  # left by a killed process; a running one writes to it all the time
        if time.time() - beside.stat().st_mtime > 3600:
            beside.unlink(missing_ok=True)
    headers = []
    for number in count():
        try:
            header = read_header(shard_path(folder, number), tokenizer)
            check_ids(shard_path(folder, number), header)
        except TokenFileError:
            return headers
        headers.append(header)


def _shown(batches: Iterable[Encoded], bar: tqdm) -> Iterator[Encoded]:
    """Pass batches through and update the bar; the total is estimated from the fraction read."""
    for batch in batches:
        bar.update(batch.n_bytes)
        bar.total = round(bar.n / batch.done) if batch.done else None
        yield batch
    bar.total = bar.n
