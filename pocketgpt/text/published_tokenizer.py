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

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


class PublishedTokenizer:
    """A byte-level BPE tokenizer of a published model, with all of its special tokens.

    `chat_template` writes a conversation as text (`text/chat_template.py`), None if the model has none; `roles` are the
    names of special tokens by their role, such as bos_token, which a template may use.
    """

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        end_of_text: str,
        chat_template: str | None = None,
        roles: dict[str, str] | None = None,
    ) -> None:
        self._library = library
        self._library.encode_special_tokens = True  # "<|endoftext|>" inside a text is ordinary text
        self._library.no_padding()
        self._library.no_truncation()
        names = library.get_vocab(with_added_tokens=True)
        self.names = {token: name for name, token in names.items()}
        self.vocab_size = max(self.names) + 1
        self.end_of_text = names[end_of_text]
        self.chat_template = chat_template
        self.roles = {**(roles or {}), "eos_token": end_of_text}

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
    def special_tokens(self) -> dict[str, int]:
        """Ids of the special tokens, which no text encodes to, by name."""
        added = self._library.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

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
        """Write tokenizer.json, beside it tokenizer_config.json with the end of text, and the chat template."""
        path = Path(path)
        with replacing(path) as beside:
            beside.write_text(self._library.to_str(pretty=True) + "\n", encoding="utf-8")
        with replacing(path.with_name(CONFIG)) as beside:
            beside.write_text(json.dumps(self.roles) + "\n", encoding="utf-8")
        if self.chat_template is not None:
            with replacing(path.with_name(TEMPLATE)) as beside:
                beside.write_text(self.chat_template, encoding="utf-8")

    def __reduce__(self) -> tuple[Any, ...]:
        # The library's own pickle forgets encode_special_tokens.
        return _unpickle, (self._library.to_str(), self.names[self.end_of_text], self.chat_template, self.roles)

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
        end = end_of_text(library.get_vocab(with_added_tokens=True), folder)
        return cls(library, end, chat_template(folder), roles(folder))


def _unpickle(text: str, *more: Any) -> PublishedTokenizer:
    return PublishedTokenizer(tokenizers.Tokenizer.from_str(text), *more)


def roles(folder: Path) -> dict[str, str]:
    """Names of the special tokens that tokenizer_config.json gives a role, such as {"bos_token": "<s>"}."""
    file = folder / CONFIG
    found = {}
    for role, name in (read_json(file) if file.is_file() else {}).items():
        name = name.get("content") if isinstance(name, dict) else name
        if role.endswith("_token") and isinstance(name, str):
            found[role] = name
    return found


def chat_template(folder: Path) -> str | None:
    """The chat template of a model: a file of its own, or a field of tokenizer_config.json; of several, the default
    one."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    template = read_json(folder / CONFIG).get("chat_template") if (folder / CONFIG).is_file() else None
    if isinstance(template, list):
        template = {each["name"]: each["template"] for each in template}.get("default")
    return template


def end_of_text(names: dict[str, int], folder: Path) -> str:
    """Find the name of the end-of-text token: from tokenizer_config.json, or else the first well-known one.

    Raises PocketError if there is none.
    """
    named = roles(folder).get("eos_token")
    if named in names:
        return named
    for name in KNOWN_ENDS:
        if name in names:
            return name
    raise PocketError(
        f"Nothing in {folder} says which token ends a text: put the model's tokenizer_config.json, with its eos_token, "
        "beside tokenizer.json."
    )
