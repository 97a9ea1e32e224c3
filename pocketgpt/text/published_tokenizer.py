"""Tokenizers of published models, from the tokenizer.json beside their weights: Llama 3, Qwen, SmolLM2 and others.

The library `tokenizers`, which wrote the file, does the encoding, so that pattern, normalizer and special tokens are
those of the model.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, replacing
from pocketgpt.text.byte_tokenizer import BYTE_LETTERS
from pocketgpt.text.chunks import well_formed

# End-of-text tokens, tried in order if no other file names one: GPT-2, SmolLM2 and Qwen; Llama 3; Llama 2 and Mistral.
KNOWN_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>", "<|im_end|>", "<eos>")


class PublishedTokenizer:
    """A byte-level BPE tokenizer of a published model, with all of its special tokens."""

    def __init__(self, library: tokenizers.Tokenizer, end_of_text: str) -> None:
        self._library = library
        self._library.encode_special_tokens = True  # "<|endoftext|>" inside a text is ordinary text
        self._library.no_padding()
        self._library.no_truncation()
        names = library.get_vocab(with_added_tokens=True)
        self.names = {token: name for name, token in names.items()}
        self.vocab_size = max(self.names) + 1
        self.end_of_text = names[end_of_text]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; no special token is added, and one inside the text is ordinary text."""
        return self._library.encode(well_formed(text), add_special_tokens=False).ids

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`; bytes that are not UTF-8, such as half a character, become U+FFFD.

        Raises PocketError for an id outside the vocabulary.
        """
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token; of a special token, its name. Raises PocketError for an id outside the vocabulary."""
        if token not in self.names:
            raise PocketError(f"There is no token {token}: this vocabulary has ids from 0 to {self.vocab_size - 1}.")
        name = self.names[token]
        if token in self._added:
            return name.encode()
        letters = self._bytes_of_letters
        return bytes(letters[letter] for letter in name)

    @cached_property
    def _added(self) -> set[int]:
        return set(self._library.get_added_tokens_decoder())

    @cached_property
    def _bytes_of_letters(self) -> dict[str, int]:
        return {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}

    @property
    def hash(self) -> str:
        """SHA-256 of the whole tokenizer, end of text included."""
        return hashlib.sha256(f"{self.end_of_text} {self._library.to_str()}".encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, and beside it tokenizer_config.json with the end of text."""
        path = Path(path)
        with replacing(path) as beside:
            beside.write_text(self._library.to_str(pretty=True) + "\n", encoding="utf-8")
        with replacing(path.with_name("tokenizer_config.json")) as beside:
            beside.write_text(json.dumps({"eos_token": self.names[self.end_of_text]}) + "\n", encoding="utf-8")

    def __reduce__(self) -> tuple[Any, ...]:
        # The library's own pickle forgets encode_special_tokens.
        return _unpickle, (self._library.to_str(), self.names[self.end_of_text])

    @classmethod
    def from_json(cls, data: dict[str, Any], folder: Path) -> "PublishedTokenizer":
        """Load a tokenizer.json; `folder` has the other files of the model.

        Raises PocketError if it is not byte-level BPE, or no end-of-text token is known.
        """
        parts = json.dumps([data.get("pre_tokenizer"), data.get("decoder")])
        if data["model"]["type"] != "BPE" or '"ByteLevel"' not in parts:
            raise PocketError(
                f"{folder / 'tokenizer.json'} is not byte-level BPE (its model is {data['model']['type']}). "
                "Published tokenizers of that kind are supported, such as those of Llama 3, Qwen, SmolLM2 or GPT-2."
            )
        library = tokenizers.Tokenizer.from_str(json.dumps(data))
        return cls(library, end_of_text(library.get_vocab(with_added_tokens=True), folder))


def _unpickle(text: str, end: str) -> PublishedTokenizer:
    return PublishedTokenizer(tokenizers.Tokenizer.from_str(text), end)


def end_of_text(names: dict[str, int], folder: Path) -> str:
    """Find the name of the end-of-text token: from tokenizer_config.json, or else the first well-known one.

    Raises PocketError if there is none.
    """
    config = folder / "tokenizer_config.json"
    if config.is_file():
        named = read_json(config).get("eos_token")
        named = named.get("content") if isinstance(named, dict) else named
        if named in names:
            return named
    for name in KNOWN_ENDS:
        if name in names:
            return name
    raise PocketError(
        f"Nothing in {folder} says which token ends a text: put the model's tokenizer_config.json, with its eos_token, "
        "beside tokenizer.json."
    )
