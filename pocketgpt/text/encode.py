"""A stream of text to a stream of token ids: on all cores, in order, in memory that does not grow with the text."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from pocketgpt.errors import PocketError
from pocketgpt.text.pieces import PIECE_CHARS, Piece
from pocketgpt.text.tokenizer import Tokenizer

AT_HOME = 16  # chunks that are encoded in this process before others are started, which takes a second
MOST_WORKERS = 8  # more than one process can read text for


class Encoded(NamedTuple):
    """The ids of a chunk of text, each document ended with end-of-text, and what they were made from."""

    ids: UInt[np.ndarray, " n_tokens"]
    n_pieces: int
    n_documents: int
    n_bytes: int  # of UTF-8 text
    done: float | None  # share of the corpus that is read with this chunk


def id_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Two bytes an id where the vocabulary allows it, else four; little-endian."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def encode_all(pieces: Iterable[Piece], tokenizer: Tokenizer, workers: int | None = None) -> Iterator[Encoded]:
    """Encode all pieces, chunk by chunk, in `workers` processes (None: one for each core, eight at most).

    Chunks are cut by length alone and come in order: the ids do not depend on the number of workers. A text of a few
    megabytes is encoded without starting a process.
    """
    workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    chunks = _chunks(pieces)
    at_home = chunks if workers == 1 else islice(chunks, AT_HOME)
    yield from (_encode(tokenizer, chunk) for chunk in at_home)
    for chunk in chunks:
        yield from _encode_in_processes(chain([chunk], chunks), tokenizer, workers)


def _encode_in_processes(chunks: Iterable[list[Piece]], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    # "spawn": a fork of a process with threads, such as PyTorch's, can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(tokenizer,))
    try:
        waiting = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_encode_in_worker, chunk))
            if len(waiting) > 2 * workers:  # the memory that text waiting for a worker takes ends here
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise PocketError(
            "A process that encodes text was killed, as happens when memory runs out. Run again to go on: shards that "
            "are finished are kept. (In a script of your own, call this below `if __name__ == '__main__':`.)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Lists of pieces with about PIECE_CHARS characters in all."""
    chunk, n_chars = [], 0
    for piece in pieces:
        chunk.append(piece)
        n_chars += len(piece.text) + 1  # empty ones count too
        if n_chars >= PIECE_CHARS:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def _encode(tokenizer: Tokenizer, chunk: list[Piece]) -> Encoded:
    ids, n_bytes = [], 0
    for piece in chunk:
        ids += tokenizer.encode(piece.text)
        if piece.ends:
            ids.append(tokenizer.end_of_text)
        # JSON can hold half a surrogate pair. It is encoded as U+FFFD, three bytes like itself.
        n_bytes += len(piece.text.encode(errors="surrogatepass"))
    n_documents = sum(piece.ends for piece in chunk)
    return Encoded(np.array(ids, id_dtype(tokenizer)), len(chunk), n_documents, n_bytes, chunk[-1].done)


def _start_worker(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers: each waits for its end."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _encode_in_worker(chunk: list[Piece]) -> Encoded:
    return _encode(_tokenizer, chunk)
