"""The tokenizer of a GGUF file: its token list, merges and chat template, into a `PublishedTokenizer`.

The file names the rule by which a text is split before the merges (`tokenizer.ggml.pre`), and does not contain it.
"""

from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from pocketgpt.errors import PocketError
from pocketgpt.pretrained.gguf import damage_named, open_gguf, value
from pocketgpt.text.published_tokenizer import PublishedTokenizer

# Contractions; a word with the character before it, up to three digits, punctuation, line breaks, other white space.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _gpt2() -> list[PreTokenizer]:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False)]


def _each_digit_alone() -> list[PreTokenizer]:
    return [pre_tokenizers.Digits(individual_digits=True), *_gpt2()]


def _llama_3() -> list[PreTokenizer]:
    split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


SPLITS = {"gpt-2": _gpt2, "smollm": _each_digit_alone, "llama-bpe": _llama_3}
"""The rule of splitting, by its name in GGUF."""

ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Our name of a special token's role, and its name in GGUF."""

SPECIAL = gguf.TokenType.CONTROL
"""The type of tokens that no text encodes to."""
WHOLE = gguf.TokenType.USER_DEFINED
"""The type of tokens whose name is text, which is not split or merged, such as several spaces."""


def load_gguf_tokenizer(file: str | Path) -> PublishedTokenizer:
    """Load the tokenizer of a GGUF file, with its chat template if there is one.

    Raises PocketError if the file is missing or damaged, or if its tokenizer is not byte-level BPE of a known kind.
    """
    reader = open_gguf(file)
    with damage_named(file):
        kind, rule = value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre", "gpt-2")
        if kind != "gpt2" or rule not in SPLITS:
            raise PocketError(
                f"its tokenizer ({kind}, split by {rule!r}) is not one we can load: byte-level BPE (gpt2) is, split "
                f"by {', '.join(SPLITS)}."
            )
        names, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
        merges = [tuple(pair.split(" ")) for pair in value(reader, "tokenizer.ggml.merges")]
        # Llama 3 takes a word that is in the vocabulary as it is, even if no merges lead to it.
        bpe = models.BPE({name: token for token, name in enumerate(names)}, merges, ignore_merges=rule == "llama-bpe")
        library = Tokenizer(bpe)
        library.pre_tokenizer = pre_tokenizers.Sequence(SPLITS[rule]())
        library.decoder = decoders.ByteLevel()
        special = [name for name, kind in zip(names, types, strict=True) if kind == SPECIAL]
        library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
        whole = [name for name, kind in zip(names, types, strict=True) if kind == WHOLE]
        library.add_tokens([AddedToken(name, special=False, normalized=False) for name in whole])
        ids = {role: value(reader, f"tokenizer.ggml.{name}_token_id", None) for role, name in ROLES.items()}
        roles = {role: names[token] for role, token in ids.items() if token is not None}
        if "eos_token" not in roles:
            raise PocketError("the field tokenizer.ggml.eos_token_id is missing: nothing says which token ends a text.")
        return PublishedTokenizer(library, roles["eos_token"], value(reader, "tokenizer.chat_template", None), roles)
