"""Byte-level byte-pair encoding (BPE): text to integers and back.

A vocabulary is a list of byte strings. The first 256 are the single bytes, so that any text can be encoded; each
later one is the concatenation of two earlier ones, in the order in which training found them. That list alone
determines the encoding: split the text into words, start from bytes, and merge the pair whose result is earliest in the
list until no neighbors form a token.

Training is left to the `tokenizers` library and encoding to `tiktoken`, both in Rust.
Source: Sennrich et al. 2016 (arXiv 1508.07909); byte level and word pattern: Radford et al. 2019, GPT-2.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing
from pocketgpt.text.chunks import check_vocab_size, interruptible, split_long_spaces, training_text

END_OF_TEXT = "<|endoftext|>"

# GPT-2's words: contractions, letters, digits, punctuation, each with the space before it; merges never cross them.
WORD_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: printable Latin-1 maps to itself, the rest to U+0100 and up."""
    itself = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]


BYTE_LETTERS = _byte_letters()  # bytes as written in the JSON of the `tokenizers` library


class ByteTokenizer:
    """Byte-level BPE. `vocabulary` lists the tokens by id; the id after the last one is end-of-text."""

    def __init__(self, vocabulary: list[bytes]) -> None:
        self.vocabulary = vocabulary
        self.end_of_text = len(vocabulary)
        self.vocab_size = len(vocabulary) + 1
        self._encoding = tiktoken.Encoding(
            name="pocketgpt",
            pat_str=WORD_PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(vocabulary)},
            special_tokens={END_OF_TEXT: self.end_of_text},
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. An "<|endoftext|>" inside it is ordinary text; add `end_of_text` yourself.

        A run of more than 50,000 white-space characters is encoded in parts.
        """
        return list(chain.from_iterable(map(self._encoding.encode_ordinary, split_long_spaces(text))))

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`; bytes that are not UTF-8, such as half a character, become U+FFFD.

        Raises PocketError for an id outside the vocabulary.
        """
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token. Raises PocketError for an id outside the vocabulary."""
        if token == self.end_of_text:
            return END_OF_TEXT.encode()
        if not 0 <= token < self.end_of_text:
            raise PocketError(f"There is no token {token}: this vocabulary has the ids 0 to {self.end_of_text}.")
        return self.vocabulary[token]

    @cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """Merges of the training, in order: merge i made token 256 + i."""
        ranks = {token: rank for rank, token in enumerate(self.vocabulary)}
        return [_last_pair(token, ranks) for token in self.vocabulary[256:]]

    @property
    def hash(self) -> str:
        """SHA-256 of the vocabulary: equal for two tokenizers if and only if they encode alike."""
        return hashlib.sha256("\n".join(token.hex() for token in self.vocabulary).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the vocabulary in the JSON format of the `tokenizers` library."""
        with replacing(Path(path)) as beside:
            beside.write_text(self.to_library().to_str(pretty=True) + "\n", encoding="utf-8")

    def to_library(self) -> tokenizers.Tokenizer:
        """Convert to an object of the `tokenizers` library, for other tools (and slower)."""
        vocabulary = {_as_letters(token): rank for rank, token in enumerate(self.vocabulary)}
        merges = [(_as_letters(left), _as_letters(right)) for left, right in self.merges]
        library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        library.add_special_tokens([END_OF_TEXT])
        return library

    @staticmethod
    def reads(data: dict[str, Any]) -> bool:
        """Return True if the library's JSON describes byte-level BPE that this class encodes identically."""
        try:
            _vocabulary(data)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
        return True

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ByteTokenizer":
        """Load a tokenizer from the library's JSON. Raises ValueError for one of another kind."""
        return cls(_vocabulary(data))


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> ByteTokenizer:
    """Learn a vocabulary of `vocab_size` tokens, end of text included, from `documents`.

    The same documents give the same vocabulary, byte for byte. A word longer than 256 characters counts as several, or
    training would take time quadratic in its length. The one in assets/ is made with
        train_tokenizer(load_corpus("shakespeare"), 4096).save("assets/shakespeare-tokenizer.json")

    Raises PocketError if `vocab_size` is below 257 or the text is too short for so many tokens.
    """
    if vocab_size < 257:
        raise PocketError(f"A vocabulary of {vocab_size} is too small: 256 bytes and the end of text make 257.")
    check_vocab_size(vocab_size)
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    interruptible(lambda: library.train_from_iterator(training_text(documents), trainer))
    tokenizer = ByteTokenizer(_vocabulary(json.loads(library.to_str())))
    if tokenizer.vocab_size < vocab_size:
        raise PocketError(
            f"The text has pairs for {tokenizer.vocab_size} tokens, not for {vocab_size}: "
            f"ask for at most {tokenizer.vocab_size}, or give more text."
        )
    return tokenizer


def _vocabulary(data: dict[str, Any]) -> list[bytes]:
    """Read the tokens by id from the library's JSON. Raises ValueError where our encoding would differ from theirs."""
    if data["model"]["type"] != "BPE" or data["pre_tokenizer"]["type"] != "ByteLevel" or data["normalizer"]:
        raise ValueError("model BPE, pre_tokenizer ByteLevel and no normalizer are expected")
    if data["pre_tokenizer"]["add_prefix_space"] or not data["pre_tokenizer"].get("use_regex", True):
        raise ValueError("add_prefix_space must be off and use_regex on")
    letters = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}
    names = data["model"]["vocab"]
    tokens = [name for name in sorted(names, key=names.get) if name != END_OF_TEXT]
    specials = {token["content"]: token["id"] for token in data["added_tokens"]}
    if specials not in ({}, {END_OF_TEXT: len(tokens)}):
        raise ValueError(f"{END_OF_TEXT} must be the last and only special token")
    vocabulary = [bytes(letters[letter] for letter in token) for token in tokens]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in data["model"]["merges"]]
    if [names[token] for token in tokens] != list(range(len(tokens))) or len(set(vocabulary[:256])) != 256:
        raise ValueError("ids must run from 0 without a gap, single bytes first")
    if any(len(token) != 1 for token in vocabulary[:256]) or ["".join(merge) for merge in merges] != tokens[256:]:
        raise ValueError("each token after the bytes must be made by the merge of its rank")
    return vocabulary


def _as_letters(token: bytes) -> str:
    return "".join(BYTE_LETTERS[byte] for byte in token)


def _last_pair(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Find the pair whose merge made `token`: merge its bytes with the earlier tokens until two parts are left."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]
