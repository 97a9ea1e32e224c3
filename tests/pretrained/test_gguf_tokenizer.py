"""The tokenizer in a GGUF file encodes as transformers reads it, and as the rules of llama.cpp say."""

import json
from itertools import pairwise

import gguf
import pytest
import regex
from gguf import GGMLQuantizationType as Kind
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from pocketgpt.errors import PocketError
from pocketgpt.pretrained.gguf_tokenizer import load_gguf_tokenizer
from pocketgpt.text.byte_tokenizer import BYTE_LETTERS
from pocketgpt.text.tokenizer import load_tokenizer

TRAINING = (
    "To be, or not to be: that is the question. 1234567 thousand naïve cafés, 3.14!\n\n  It's 中文 and 🙂.    12\n" * 20
)
TEXTS = [
    "To be, or not to be?",
    "",
    " ",
    "It's 3.14 and 1234567.",
    "naïve cafés 中文🙂 \t\r\n x",
    "a<|im_end|>b <|im_start|>",
    "ends with spaces   ",
]
DIGITS_AFTER_SPACES = ["the  12", "\n\n  1", "a\t7 b", "1  2\n3"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WHOLE = ["<think>", "    "]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"

# The expressions of llama.cpp, which splits by one after the other.
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LLAMA_3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RULES = {"gpt-2": [GPT_2], "smollm": [r"\p{N}", GPT_2], "llama-bpe": [LLAMA_3]}


@pytest.fixture
def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a small BPE, of digits and of white space too, so that each rule gives other tokens."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = dict(vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False)
    library.train_from_iterator([TRAINING], trainers.BpeTrainer(**options))
    names = sorted(library.get_vocab(), key=library.get_vocab().get)
    merges = json.loads(library.to_str())["model"]["merges"]
    return names, [" ".join(pair) for pair in merges]


@pytest.fixture
def file(tmp_path, random_llama, write_gguf, vocabulary):
    """file(pre) -> Path of a GGUF file with that rule of splitting; further fields replace or leave out its own."""

    def file(pre: str = "smollm", **changes):
        names, merges = vocabulary
        values = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.chat_template": TEMPLATE,
        } | {name.replace("__", "."): value for name, value in changes.items()}

        def add(writer: gguf.GGUFWriter) -> None:
            writer.add_token_list(names)
            writer.add_token_types([3 if name in SPECIAL else 4 if name in WHOLE else 1 for name in names])
            writer.add_token_merges(merges)
            for name, value in values.items():
                if value is not None:
                    (writer.add_uint32 if isinstance(value, int) else writer.add_string)(name, value)

        model = random_llama(vocab_size=len(names), num_hidden_layers=1)
        write_gguf(tmp_path / "a.gguf", model, Kind.F32, add, **{"vocab_size": len(names)})
        return tmp_path / "a.gguf"

    return file


def encode_by_hand(text: str, rules: list[str], names: list[str], merges: list[str]) -> list[int]:
    """Split, then merge the earliest pair of the list until none is left."""
    pieces = [text]
    for rule in rules:
        cut = []
        for piece in pieces:
            end = 0
            for found in regex.finditer(rule, piece):
                cut += [piece[end : found.start()], found[0]]  # what no expression matches is a piece too
                end = found.end()
            cut.append(piece[end:])
        pieces = [piece for piece in cut if piece]
    ids, order = [], {merge: place for place, merge in enumerate(merges)}
    for piece in pieces:
        parts = [BYTE_LETTERS[byte] for byte in piece.encode()]
        while pairs := [f"{a} {b}" for a, b in pairwise(parts) if f"{a} {b}" in order]:
            place = next(i for i in range(len(parts)) if f"{parts[i]} {parts[i + 1]}" == min(pairs, key=order.get))
            parts[place : place + 2] = ["".join(parts[place : place + 2])]
        ids += [names.index(part) for part in parts]
    return ids


@pytest.mark.parametrize("pre", RULES)
def test_ids_are_those_of_llama_cpp_s_rules(file, vocabulary, pre):
    ours = load_gguf_tokenizer(file(pre))
    for text in TEXTS + DIGITS_AFTER_SPACES:
        assert ours.encode(text) == encode_by_hand(text, RULES[pre], *vocabulary)
        assert ours.decode(ours.encode(text)) == text


def test_ids_are_those_of_transformers(file):
    """Except for digits: transformers does not read the rule of splitting."""
    ours = load_gguf_tokenizer(file())
    theirs = AutoTokenizer.from_pretrained(file().parent, gguf_file="a.gguf")
    for text in TEXTS:
        if "<|" in text or "3.14" in text:  # names of special tokens in a text are special tokens to transformers
            continue
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_the_rules_give_different_tokens(file):
    assert len({tuple(load_gguf_tokenizer(file(pre)).encode("12345  12")) for pre in RULES}) == len(RULES)


def test_special_tokens_roles_and_template_are_read(file):
    ours = load_gguf_tokenizer(file())
    assert ours.special_tokens == {name: number for number, name in enumerate(SPECIAL)}
    assert ours.roles == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    assert (ours.end_of_text, ours.chat_template) == (2, TEMPLATE)


def test_user_defined_tokens_are_text_that_is_one_token(file, vocabulary):
    """As in llama.cpp, which finds them in every text, unlike special ones."""
    names = vocabulary[0]
    names += WHOLE
    ours = load_gguf_tokenizer(file())
    assert ours.encode("<think>    a<|im_end|>")[:2] == [names.index("<think>"), names.index("    ")]
    assert not {*WHOLE} & {*ours.special_tokens}
    for text in ("<think>    a", "if x:\n    y  z"):
        assert ours.decode(ours.encode(text)) == text
    assert [ours.token_bytes(names.index(name)) for name in WHOLE] == [b"<think>", b"    "]


def test_what_was_saved_is_loaded_again(file, tmp_path):
    ours = load_gguf_tokenizer(file())
    ours.save(tmp_path / "saved" / "tokenizer.json")
    again = load_tokenizer(tmp_path / "saved" / "tokenizer.json")
    assert again.hash == ours.hash
    assert (again.roles, again.chat_template) == (ours.roles, ours.chat_template)
    assert all(again.encode(text) == ours.encode(text) for text in TEXTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer__ggml__model": "llama"}, r"its tokenizer \(llama, split by 'smollm'\) is not one we can load"),
        ({"tokenizer__ggml__pre": "qwen2"}, r"split by 'qwen2'\) is not one we can load: .*gpt-2, smollm, llama-bpe"),
        ({"tokenizer__ggml__eos_token_id": None}, "eos_token_id is missing"),
        ({"tokenizer__ggml__eos_token_id": 10**6}, "is damaged"),
    ],
)
def test_a_tokenizer_of_another_kind_is_named(file, fields, message):
    with pytest.raises(PocketError, match=f"a.gguf .*{message}"):
        load_gguf_tokenizer(file(**fields))


def test_merges_that_do_not_belong_to_the_tokens_are_named(file, vocabulary):
    names, merges = vocabulary
    names.remove(merges[-1].replace(" ", ""))
    with pytest.raises(PocketError, match=r"a\.gguf is damaged.*out of vocabulary"):
        load_gguf_tokenizer(file())


def test_a_file_without_a_tokenizer_is_named(tmp_path, random_llama, write_gguf):
    write_gguf(tmp_path / "a.gguf", random_llama(), Kind.F32)
    with pytest.raises(PocketError, match=r"the field tokenizer\.ggml\.model is missing"):
        load_gguf_tokenizer(tmp_path / "a.gguf")
