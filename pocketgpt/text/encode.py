"""Encode a stream of text into a stream of token ids: on all cores, in order, with bounded memory."""

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
from pocketgpt.text.chunks import CHUNK_CHARS, TextChunk
from pocketgpt.text.tokenizer import Tokenizer

INLINE_BATCHES = 16  # encode this many in-process before paying for a worker pool
MAX_WORKERS = 8  # one process cannot read text for more


class Encoded(NamedTuple):
    """Token ids of a batch of text, with end-of-text after each document, and counts of the text."""

    ids: UInt[np.ndarray, " n_tokens"]
    n_pieces: int
    n_documents: int
    n_bytes: int  # of UTF-8 text
    done: float | None  # fraction of the corpus read, this batch included


def id_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Dtype of token ids: two bytes if the vocabulary fits, else four; little-endian."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def encode_all(chunks: Iterable[TextChunk], tokenizer: Tokenizer, workers: int | None = None) -> Iterator[Encoded]:
    """Encode all chunks, batch by batch, in `workers` processes (None: one for each core, eight at most).

    Batches depend on length alone and are returned in order, so the ids do not depend on the number of workers. A text
    of a few megabytes is encoded in this process.
    """
    workers = workers or min(MAX_WORKERS, os.cpu_count() or 1)
    batches = _batches(chunks)
    inline = batches if workers == 1 else islice(batches, INLINE_BATCHES)
    yield from (_encode(tokenizer, batch) for batch in inline)
    for batch in batches:
        yield from _encode_in_processes(chain([batch], batches), tokenizer, workers)


def _encode_in_processes(batches: Iterable[list[TextChunk]], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    # "spawn": a fork of a process with threads, such as PyTorch's, can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(tokenizer,))
    try:
        waiting = deque()
        for batch in batches:
            waiting.append(pool.submit(_encode_in_worker, batch))
            if len(waiting) > 2 * workers:  # bounds the memory of batches in flight
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise PocketError(
            "A process that encodes text was killed, as happens when memory runs out. Run the same command again to "
            "continue: finished shards are kept. (In your own script, call this below `if __name__ == '__main__':`.)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(chunks: Iterable[TextChunk]) -> Iterator[list[TextChunk]]:
    """Group chunks into lists of about CHUNK_CHARS characters."""
    batch = []
    n_chars = 0
    for chunk in chunks:
        batch.append(chunk)
        n_chars += len(chunk.text) + 1  # empty ones count too
        if n_chars >= CHUNK_CHARS:
            yield batch
            batch = []
            n_chars = 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, batch: list[TextChunk]) -> Encoded:
    ids = []
    n_bytes = 0
    for chunk in batch:
        ids += tokenizer.encode(chunk.text)
        if chunk.ends:
            ids.append(tokenizer.end_of_text)
        # JSON can contain half a surrogate pair. It is encoded as U+FFFD, three bytes like itself.
        n_bytes += len(chunk.text.encode(errors="surrogatepass"))
    n_documents = sum(chunk.ends for chunk in batch)
    return Encoded(np.array(ids, id_dtype(tokenizer)), len(batch), n_documents, n_bytes, batch[-1].done)


def _start_worker(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent does: a parent that is killed cannot stop its workers."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _encode_in_worker(batch: list[TextChunk]) -> Encoded:
    return _encode(_tokenizer, batch)
