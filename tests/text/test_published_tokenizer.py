"""Tokenizers in the format of published models encode as the library that wrote them, and as transformers."""

import json
import pickle

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from pocketgpt.errors import PocketError
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.tokenizer import Tokenizer as Protocol
from pocketgpt.text.tokenizer import load_tokenizer

TEXT = "To be, or not to be: that is the question. 1234567 thousand naïve cafés, 3.14!\n\n  It's 中文 and 🙂.\n" * 20
TEXTS = [
    TEXT[:60],
    "",
    " ",
    "a<|endoftext|>b <|begin_of_text|>",
    "e\u0301 is é",
    "1234567",
    "\ud83d lone",
    "Ünïcödé \t\r\n x",
    "中文🙂",
]
LLAMA_3 = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
QWEN = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def trained(pre_tokenizer, special: list[str], normalizer=None, **model) -> Tokenizer:
    library = Tokenizer(models.BPE(**model))
    library.normalizer = normalizer
    library.pre_tokenizer = pre_tokenizer
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    library.add_special_tokens([AddedToken(name, special=True) for name in special])  # beyond the vocabulary
    return library


def llama_3() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    library = trained(pre_tokenizers.Sequence([split, byte_level]), names, ignore_merges=True)
    begin = library.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)])
    library.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return library


def qwen() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(QWEN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return trained(pre_tokenizers.Sequence([split, byte_level]), names, normalizers.NFC())


def smollm2() -> Tokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return trained(pre_tokenizers.Sequence([digits, byte_level]), ["<|endoftext|>", "<|im_start|>"])


KINDS = {"Llama 3": llama_3, "Qwen": qwen, "SmolLM2": smollm2}
ENDS = {"Llama 3": "<|end_of_text|>", "Qwen": "<|endoftext|>", "SmolLM2": "<|endoftext|>"}


@pytest.fixture(scope="module", params=KINDS)
def published(request, tmp_path_factory) -> tuple[str, Tokenizer, PublishedTokenizer]:
    folder = tmp_path_factory.mktemp("model")
    library = KINDS[request.param]()
    library.save(str(folder / "tokenizer.json"))
    return request.param, Tokenizer.from_file(str(folder / "tokenizer.json")), load_tokenizer(folder / "tokenizer.json")


def test_it_is_a_tokenizer_of_the_published_kind(published):
    _, _, ours = published
    assert isinstance(ours, PublishedTokenizer) and isinstance(ours, Protocol)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_ids_are_those_of_the_library_and_of_transformers(published, text):
    _, library, ours = published
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    theirs = PreTrainedTokenizerFast(tokenizer_object=library, split_special_tokens=True)
    expected = theirs(clean, add_special_tokens=False).input_ids
    assert ours.encode(text) == expected


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_comes_back_from_its_ids_and_from_the_bytes_of_each(published, text):
    _, library, ours = published
    ids = ours.encode(text)
    assert ours.decode(ids) == library.decode(ids, skip_special_tokens=False)
    assert b"".join(map(ours.token_bytes, ids)).decode() == ours.decode(ids)


def test_special_tokens_have_ids_beyond_the_others_and_their_names(published):
    name, library, ours = published
    assert ours.vocab_size == library.get_vocab_size(with_added_tokens=True)
    assert ours.token_bytes(ours.end_of_text) == ENDS[name].encode()
    with pytest.raises(PocketError, match=f"no token {ours.vocab_size}: this vocabulary has ids from 0"):
        ours.token_bytes(ours.vocab_size)


def test_what_stands_beside_it_says_which_token_ends_a_text(published, tmp_path):
    name, library, _ = published
    library.save(str(tmp_path / "tokenizer.json"))
    other = {"Llama 3": "<|eot_id|>", "Qwen": "<|im_end|>", "SmolLM2": "<|im_start|>"}[name]
    for named in (other, {"content": other}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        assert loaded.end_of_text == library.token_to_id(other)


def test_without_a_known_end_of_text_it_says_what_to_give(tmp_path):
    digits = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained(digits, ["<|user|>", "<|bot|>"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(PocketError, match=r"which token ends a text: put the model's tokenizer_config\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_with_byte_fallback_is_refused(tmp_path):
    library = Tokenizer(models.BPE(vocab={"<unk>": 0, "▁a": 1, "<0x0A>": 2}, merges=[], byte_fallback=True))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(PocketError, match=r"is not byte-level BPE.*such as those of Llama 3, Qwen, SmolLM2"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_saved_and_loaded_it_is_the_same_with_its_end_of_text(published, tmp_path):
    _, _, ours = published
    ours.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (loaded.hash, loaded.end_of_text) == (ours.hash, ours.end_of_text)
    assert loaded.encode(TEXT) == ours.encode(TEXT)


def test_a_worker_process_gets_the_same_tokenizer(published):
    _, _, ours = published
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.hash == ours.hash and copy.encode("a<|endoftext|>b") == ours.encode("a<|endoftext|>b")


def test_padding_and_truncation_in_the_file_are_ignored(published, tmp_path):
    _, library, ours = published
    changed = Tokenizer.from_str(library.to_str())
    changed.enable_truncation(3)
    changed.enable_padding(length=16)
    changed.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "tokenizer.json").encode(TEXT) == ours.encode(TEXT)
