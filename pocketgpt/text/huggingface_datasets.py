"""Hugging Face data sets, streamed through the `datasets` library."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pocketgpt.errors import PocketError
from pocketgpt.text.chunks import Split, TextChunk
from pocketgpt.text.wikitext import articles


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set on the Hub: arguments to load it, its validation split, and the conversion of rows to documents."""

    load: dict[str, Any]
    """Arguments of `datasets.load_dataset`."""
    validation: str | int
    """Name of its validation split or, without one, the number of documents held out at its beginning."""
    documents: Callable[[Iterable[str]], Iterator[str]] | None = None
    """Converts the texts of the rows to documents; None if each row is a document."""


DATA_SETS = {
    "wikitext-103": DataSet(
        load={"path": "Salesforce/wikitext", "name": "wikitext-103-raw-v1"}, validation="validation", documents=articles
    ),
    # Held out at the beginning, so that reading the validation split does not download everything.
    "fineweb-edu": DataSet(load={"path": "HuggingFaceFW/fineweb-edu", "name": "sample-10BT"}, validation=10_000),
    "tinystories": DataSet(load={"path": "roneneldan/TinyStories"}, validation="validation"),
}


def read(name: str, split: Split, skip: int = 0) -> Iterator[TextChunk]:
    """Stream the documents of one split, without the first `skip`.

    Raises PocketError if `datasets` is not installed, or the Hub cannot be reached or the connection is lost.
    """
    try:
        import datasets
    except ImportError as error:
        raise PocketError(f"The corpus {name} comes through `datasets`: `pip install pocketgpt[train]`.") from error
    data_set = DATA_SETS[name]
    read = skip
    own = isinstance(data_set.validation, str)
    theirs = data_set.validation if own and split == "validation" else "train"
    try:
        rows = datasets.load_dataset(**data_set.load, split=theirs, streaming=True).select_columns(["text"])
        n_rows = rows.info.splits[theirs].num_examples if rows.info.splits else None
        if not own:
            held_out = data_set.validation
            n_rows = n_rows and (held_out if split == "validation" else n_rows - held_out)
            rows = rows.take(held_out) if split == "validation" else rows.skip(held_out)
        if data_set.documents:
            documents = islice(data_set.documents(row["text"] for row in rows), skip, None)
            n_rows = None  # the number of documents is unknown
        else:
            documents = (row["text"] for row in rows.skip(skip))
        for read, document in enumerate(documents, start=skip + 1):
            yield TextChunk(document, True, min(1.0, read / n_rows) if n_rows else None)
    except Exception as error:  # datasets, huggingface_hub, httpx, aiohttp and fsspec raise their own exceptions
        where = f"after document {read:,}" if read > skip else "from the Hub"
        raise PocketError(
            f"The corpus {name} ({data_set.load['path']}) could not be read {where}: {error}\n"
            f"Is there a network? Run the same command again to continue: finished shards are kept."
        ) from error
