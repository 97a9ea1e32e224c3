"""Tokenizers: the interface that training, generation and the course use, and `load_tokenizer`.

| file                   | tokenizer                                                                             |
|------------------------|---------------------------------------------------------------------------------------|
| byte_tokenizer.py      | byte-level BPE, lossless for any text; "shakespeare" and "gpt2" are two of them       |
| word_tokenizer.py      | BPE within the words between white space, with [UNK] and other special tokens         |
| published_tokenizer.py | the tokenizer.json of a published model, such as Llama 3, Qwen or SmolLM2             |

`chat_template.py` encodes conversations for models that were trained on them.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import tiktoken

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.word_tokenizer import WordTokenizer


@runtime_checkable
class Tokenizer(Protocol):
    """Converts text to token ids and back."""

    vocab_size: int
    """Number of ids, special tokens included."""
    end_of_text: int
    """Id of the token that ends a text."""

    @property
    def hash(self) -> str:
        """SHA-256 of the vocabulary: equal for two tokenizers if and only if they encode alike."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. The name of a special token inside it is ordinary text."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD. Raises PocketError for an unknown id."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token. Raises PocketError for an unknown id."""
        ...

    def save(self, path: str | Path) -> None:
        """Write a file that `load_tokenizer` reads."""
        ...


def load_tokenizer(name_or_path: str | Path = "shakespeare") -> Tokenizer:
    """Load the tokenizer of that name, or in that file.

    "shakespeare" (4,096 tokens) ships with the project and "gpt2" is downloaded once. A file is one that `save` wrote,
    or the tokenizer.json of a published model.
    Raises PocketError if there is no such file, it is of an unknown kind, or "gpt2" cannot be downloaded.
    """
    if name_or_path == "gpt2":
        return ByteTokenizer(_fetch_gpt2())
    shipped = name_or_path == "shakespeare"
    path = asset("shakespeare-tokenizer.json") if shipped else Path(os.path.expanduser(name_or_path))
    if path.is_dir() and str(name_or_path):
        files = sorted(path.glob("tokenizer.json")) or sorted(path.glob("step-*/tokenizer.json"))
        instead = f"the file in it, {files[-1]}" if files else "a file, such as the tokenizer.json of a checkpoint"
        raise PocketError(f"The tokenizer {path} is a folder: give {instead}.")
    if not path.is_file():
        raise PocketError(f"{str(name_or_path)!r} is neither a tokenizer (shakespeare, gpt2) nor a file that exists.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for kind in (ByteTokenizer, WordTokenizer):
            if kind.reads(data):
                return kind.from_json(data)
        return PublishedTokenizer.from_json(data, path.parent)
    except PocketError:
        raise
    except Exception as error:  # the `tokenizers` library raises Exception itself
        raise PocketError(
            f"{path} is not a tokenizer that can be loaded ({error}). "
            "`pocketgpt tokenizer CORPUS --vocab-size 4096 --out FILE` writes one."
        ) from error


def _fetch_gpt2() -> list[bytes]:
    try:
        encoding = tiktoken.get_encoding("gpt2")
    except Exception as error:  # requests' own errors, and ValueError on a hash that does not match
        raise PocketError(
            f"GPT-2's vocabulary could not be downloaded; the first use needs a network: {error}"
        ) from error
    return [encoding.decode_single_token_bytes(token) for token in range(encoding.eot_token)]
