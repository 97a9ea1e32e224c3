"""Word tokenizer: BPE within the words between white space, with [UNK] and the other special tokens of BERT.

Text is split at white space and around punctuation; "▁" marks where a word begins; pairs are merged within words as in
byte-level BPE. Unlike byte-level BPE it is lossy: decoded text has one space before each word, whatever the original
white space, and a character that training has not seen becomes [UNK].

Source: Sennrich et al. 2016 (arXiv 1508.07909); special tokens: Devlin et al. 2018 (arXiv 1810.04805).
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing
from pocketgpt.text.chunks import check_vocab_size, interruptible, training_text, well_formed

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "[EOS]"]  # ids 0 to 6
MIN_FREQUENCY = 2  # a pair that occurs once makes no token


class WordTokenizer:
    """BPE within words; [EOS] ends a text. Encodes with the `tokenizers` library."""

    lossless = False  # white space and unknown characters are not in the tokens

    def __init__(self, library: tokenizers.Tokenizer) -> None:
        self._library = library
        self._library.encode_special_tokens = True  # "[EOS]" inside a text is ordinary text
        names = library.get_vocab()
        self.vocabulary = [name.replace("▁", " ").encode() for name in sorted(names, key=names.get)]
        self.end_of_text = names["[EOS]"]
        self.vocab_size = len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; a character that training has not seen is [UNK]."""
        return self._library.encode(well_formed(text)).ids

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`. Raises PocketError for an id outside the vocabulary."""
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token, with a space where a word begins. Raises PocketError for an id outside the vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise PocketError(f"There is no token {token}: this vocabulary has the ids 0 to {self.vocab_size - 1}.")
        return self.vocabulary[token]

    @cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """Merges of the training, in order."""
        merges = json.loads(self._library.to_str())["model"]["merges"]
        return [(left.replace("▁", " ").encode(), right.replace("▁", " ").encode()) for left, right in merges]

    @property
    def hash(self) -> str:
        """SHA-256 of tokens and merges: equal for two tokenizers if and only if they encode alike."""
        return hashlib.sha256(repr((self.vocabulary, self.merges)).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the vocabulary in the JSON format of the `tokenizers` library."""
        with replacing(Path(path)) as beside:
            beside.write_text(self._library.to_str(pretty=True) + "\n", encoding="utf-8")

    def to_library(self) -> tokenizers.Tokenizer:
        """The object of the `tokenizers` library that encodes."""
        return self._library

    def __reduce__(self) -> tuple[type, tuple[tokenizers.Tokenizer]]:
        return WordTokenizer, (self._library,)  # the library's own pickle forgets encode_special_tokens

    @staticmethod
    def reads(data: dict[str, Any]) -> bool:
        """Return True if the library's JSON describes a word tokenizer."""
        expected, model = json.loads(_untrained().to_str()), data["model"]
        parts = ("pre_tokenizer", "normalizer", "decoder", "post_processor")
        alike = all(data.get(part) == expected[part] for part in parts)
        return alike and [model["vocab"].get(name) for name in SPECIAL_TOKENS] == list(range(7))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "WordTokenizer":
        """Load a tokenizer from the library's JSON."""
        return cls(tokenizers.Tokenizer.from_str(json.dumps(data)))


def train_word_tokenizer(documents: Iterable[str], vocab_size: int) -> WordTokenizer:
    """Learn a vocabulary of `vocab_size` tokens, special ones included; the same documents give the same vocabulary.

    A word longer than 256 characters counts as several, or training would take time quadratic in its length.

    Raises PocketError if the text has more characters than that, or is too short for so many tokens.
    """
    check_vocab_size(vocab_size)
    library = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=MIN_FREQUENCY, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    interruptible(lambda: library.train_from_iterator(training_text(documents), trainer))
    tokenizer = WordTokenizer(library)
    if tokenizer.vocab_size > vocab_size:
        raise PocketError(
            f"A vocabulary of {vocab_size} is too small: the characters of the text and {len(SPECIAL_TOKENS)} special "
            f"tokens make {tokenizer.vocab_size}. Ask for more."
        )
    if tokenizer.vocab_size < vocab_size:
        raise PocketError(
            f"The text has pairs for {tokenizer.vocab_size} tokens, not for {vocab_size}: "
            f"ask for at most {tokenizer.vocab_size}, or give more text."
        )
    return tokenizer


def _untrained() -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    begin = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), begin])
    library.decoder = decoders.Metaspace(prepend_scheme="never")
    return library
