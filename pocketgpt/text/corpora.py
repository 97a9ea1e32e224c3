"""Text to train on, by name or by path, split into documents for training and documents for validation."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pocketgpt.errors import PocketError
from pocketgpt.text import shakespeare

Split = Literal["train", "validation"]

# Data sets of the Hugging Face hub: repository, configuration, {our split: theirs}. Where there is no validation
# split of their own, every HOLD_OUT-th document is ours.
HUB = {
    "wikitext-103": ("Salesforce/wikitext", "wikitext-103-raw-v1", {"train": "train", "validation": "validation"}),
    "fineweb-edu": ("HuggingFaceFW/fineweb-edu", "sample-10BT", {"train": "train"}),
    "tinystories": ("roneneldan/TinyStories", None, {"train": "train", "validation": "validation"}),
}
HOLD_OUT = 1000
NAMES = ("shakespeare", *HUB)


def cache_dir() -> Path:
    """Where fetched and tokenized text is kept: $POCKETGPT_CACHE, or ~/.cache/pocketgpt. Created when missing."""
    folder = Path(os.environ.get("POCKETGPT_CACHE") or Path.home() / ".cache" / "pocketgpt").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_corpus(name_or_path: str | Path, split: Split = "train") -> Iterable[str]:
    """The documents of one split: a list, or for the large corpora of the Hugging Face hub a stream.

    `name_or_path` is one of NAMES, or a path to your own text:
        story.txt       one document; its last tenth, from a line break on, is the validation split
        folder/         each .txt in it a document, sorted by name; the last tenth of the documents is held out
        data.jsonl      one document a line, under "text"; the last tenth held out
        data.parquet    one document a row, in the column "text"; the last tenth held out

    Raises PocketError for an unknown name, text that cannot be read, and a corpus that cannot be fetched.
    """
    if name_or_path == "shakespeare":
        plays = shakespeare.plays(cache_dir())
        held_out = shakespeare.VALIDATION_PLAYS
        return [text for play, text in plays.items() if (play in held_out) == (split == "validation")]
    if name_or_path in HUB:
        return _stream(str(name_or_path), split)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise PocketError(
            f"{str(name_or_path)!r} is neither a corpus ({', '.join(NAMES)}) nor a file or folder that exists."
        )
    return _last_tenth(_read(path), split, path)


def _read(path: Path) -> list[str]:
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise PocketError(f"The folder {path} has no .txt files in it.")
        return [document for file in files for document in _read(file)]
    readers = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise PocketError(
            f"{path} is a {path.suffix or 'file without ending'}; text is read from {', '.join(readers)}."
        )
    try:
        return [document for document in readers[path.suffix.lower()](path) if document]
    except UnicodeDecodeError as error:
        raise PocketError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}. "
            f"Convert it, for instance with `iconv -f latin1 -t utf-8`."
        ) from error


def _read_txt(path: Path) -> list[str]:
    return [path.read_text(encoding="utf-8-sig")]


def _read_jsonl(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                text = None
            if not isinstance(text, str):
                raise PocketError(
                    f'{path}, line {number}, is not an object like {{"text": "..."}}: {line.strip()[:60]!r}'
                )
            yield text


def _read_parquet(path: Path) -> list[str]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise PocketError(f"Reading {path} needs pyarrow: `pip install pocketgpt[train]`.") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise PocketError(f"{path} cannot be read as parquet: {error}") from error
    if "text" not in table.column_names:
        raise PocketError(f'{path} has no column "text", only {", ".join(table.column_names)}.')
    return [text for text in table["text"].to_pylist() if text is not None]


def _last_tenth(documents: list[str], split: Split, path: Path) -> list[str]:
    if len(documents) == 1:
        text = documents[0]
        cut = text.rfind("\n", len(text) * 8 // 10, len(text) * 9 // 10) + 1 or len(text) * 9 // 10
        documents = [text[:cut], text[cut:]]
    cut = len(documents) * 9 // 10
    part = documents[:cut] if split == "train" else documents[cut:]
    if not any(part):
        raise PocketError(f"{path} holds too little text to split into training and validation.")
    return part


def _stream(name: str, split: Split) -> Iterator[str]:
    try:
        import datasets
    except ImportError as error:
        raise PocketError(f"The corpus {name} comes through `datasets`: `pip install pocketgpt[train]`.") from error
    repository, configuration, splits = HUB[name]
    try:
        rows = datasets.load_dataset(repository, configuration, split=splits.get(split, "train"), streaming=True)
        texts = _articles(rows) if name == "wikitext-103" else (row["text"] for row in rows)
        for number, text in enumerate(texts):
            if len(splits) == 2 or (number % HOLD_OUT == 0) == (split == "validation"):
                yield text
    except (OSError, RuntimeError) as error:  # what datasets and huggingface_hub raise without a network
        raise PocketError(f"The corpus {name} ({repository}) could not be read from the hub: {error}") from error


def _articles(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Wikitext has one paragraph a row; an article starts at ` = Title = `, its sections at ` = = Section = = `."""
    article = ""
    for row in rows:
        if re.fullmatch(r" = [^=].* = \n", row["text"]) and article:
            yield article
            article = ""
        article += row["text"]
    yield article
