import json
from itertools import pairwise
from pydoc_data.topics import topics

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.text.byte_tokenizer import train_tokenizer
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.tokenizer import load_tokenizer

LONG_TEXT = "\n".join(topics.values())  # Python's manual: 700 kB that come with every Python
SHORT_TEXT = LONG_TEXT[:100_000]
SHIPPED = asset("shakespeare-tokenizer.json")
TOKENIZER = load_tokenizer("shakespeare")
LIBRARY = tokenizers.Tokenizer.from_file(str(SHIPPED))

# Strange text on its own is seldom joined by any merge, so chunks of English stand among it.
PIECES = st.sampled_from(
    ["the", " the", "ROMEO:\n", " ", "  ", "\n\n", "'ll", "'", "12", "é", "\u00a0", "naïve", "日本", "🙂"]
)
ANY_TEXT = st.lists(st.one_of(PIECES, st.text(max_size=8))).map("".join)


def test_encodes_a_long_text_as_the_tokenizers_library_does():
    assert TOKENIZER.encode(LONG_TEXT) == LIBRARY.encode(LONG_TEXT).ids


def test_encodes_the_whole_corpus_as_the_tokenizers_library_does(plays):
    documents = plays["train"] + plays["validation"]
    for text, expected in zip(documents, LIBRARY.encode_batch_fast(documents), strict=True):
        assert TOKENIZER.encode(text) == expected.ids


@given(ANY_TEXT)
def test_encodes_any_text_as_the_tokenizers_library_does(text):
    assert TOKENIZER.encode(text) == LIBRARY.encode(text).ids


@given(ANY_TEXT)
def test_decoding_restores_any_text(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1)))
def test_decodes_any_tokens_as_the_tokenizers_library_does(tokens):
    assert TOKENIZER.decode(tokens) == LIBRARY.decode(tokens, skip_special_tokens=False)


def test_merging_by_rank_gives_the_encoding():
    ranks = {pair: rank for rank, pair in enumerate(TOKENIZER.merges)}
    for word in [" wherefore", " misadventured", "ROMEO", " überall"]:
        parts = [bytes([byte]) for byte in word.encode()]
        while known := [pair for pair in pairwise(parts) if pair in ranks]:
            best = min(known, key=ranks.get)
            i = list(pairwise(parts)).index(best)
            parts[i : i + 2] = [best[0] + best[1]]
        assert [TOKENIZER.token_bytes(token) for token in TOKENIZER.encode(word)] == parts


def test_merges_are_those_of_the_file():
    merges = json.loads(SHIPPED.read_text())["model"]["merges"]
    letters = {letter: byte for letter, byte in zip(*_bytes_and_letters(), strict=True)}
    assert [tuple(bytes(letters[x] for x in part) for part in pair) for pair in merges] == TOKENIZER.merges


def _bytes_and_letters():
    """The library's own table, read off by encoding each two-byte character and each ASCII character."""
    to_letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters, values = [], []
    for character in map(chr, range(0x800)):
        [(word, _)] = to_letters.pre_tokenize_str(character)
        letters += word
        values += character.encode()
    return letters, values


def test_shipped_vocabulary_has_4096_tokens_and_ends_with_end_of_text():
    assert (TOKENIZER.vocab_size, TOKENIZER.end_of_text) == (4096, 4095)
    assert TOKENIZER.decode([TOKENIZER.end_of_text]) == "<|endoftext|>"
    assert LIBRARY.token_to_id("<|endoftext|>") == 4095


def test_shipped_vocabulary_is_reproduced_byte_for_byte(plays, tmp_path):
    train_tokenizer(plays["train"], 4096).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == SHIPPED.read_bytes()


def test_end_of_text_inside_a_text_is_ordinary_text():
    tokens = TOKENIZER.encode("a<|endoftext|>b")
    assert TOKENIZER.end_of_text not in tokens
    assert TOKENIZER.decode(tokens) == "a<|endoftext|>b"


def test_half_a_character_decodes_to_the_replacement_character():
    half = [TOKENIZER.encode("é")[0]]
    assert TOKENIZER.decode(half) == "\ufffd"


@pytest.mark.parametrize("token", [-1, 4096, 10**12])
def test_a_token_outside_the_vocabulary_is_named(token):
    with pytest.raises(PocketError, match=f"no token {token}: this vocabulary has the ids 0 to 4095"):
        TOKENIZER.decode([token])


def test_training_twice_gives_the_same_vocabulary():
    first, second = (train_tokenizer(iter([SHORT_TEXT]), 500) for _ in range(2))
    assert first.vocabulary == second.vocabulary
    assert (first.vocab_size, first.hash) == (500, second.hash)


def test_hash_tells_vocabularies_apart():
    assert train_tokenizer([SHORT_TEXT], 300).hash != train_tokenizer([SHORT_TEXT], 301).hash


def test_saved_and_loaded_is_the_same(tmp_path):
    trained = train_tokenizer([SHORT_TEXT], 400)
    trained.save(tmp_path / "own.json")
    assert load_tokenizer(tmp_path / "own.json").hash == trained.hash
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "own.json"))
    assert trained.encode(LONG_TEXT) == library.encode(LONG_TEXT).ids


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(PocketError, match="vocabulary of 256 is too small"):
        train_tokenizer([SHORT_TEXT], 256)


def test_too_short_a_text_says_how_many_tokens_it_has_pairs_for():
    with pytest.raises(PocketError, match="pairs for 260 tokens, not for 300"):
        train_tokenizer(["aaaa aaaa"], 300)


def test_the_json_of_gpt2s_time_is_read(tmp_path):
    data = json.loads(SHIPPED.read_text())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    data["model"]["vocab"]["<|endoftext|>"] = 4095
    del data["pre_tokenizer"]["use_regex"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert load_tokenizer(tmp_path / "old.json").hash == TOKENIZER.hash


def _with_prefix_space(data):
    data["pre_tokenizer"]["add_prefix_space"] = True


def _with_a_normalizer(data):
    data["normalizer"] = {"type": "NFC"}


def _with_merges_in_another_order(data):
    data["model"]["merges"].reverse()


def _with_a_second_special_token(data):
    data["added_tokens"].append(data["added_tokens"][0] | {"id": 4096, "content": "<|user|>"})


def _with_a_gap(data):
    data["model"]["vocab"]["Ġqqqq"] = 5000


def _without_pre_tokenizer(data):
    data["pre_tokenizer"] = None


@pytest.mark.parametrize(
    "change",
    [
        _with_prefix_space,
        _with_a_normalizer,
        _with_merges_in_another_order,
        _with_a_second_special_token,
        _with_a_gap,
        _without_pre_tokenizer,
    ],
)
def test_a_tokenizer_we_would_encode_differently_is_left_to_the_library(change, tmp_path):
    data = json.loads(SHIPPED.read_text())
    change(data)
    (tmp_path / "other.json").write_text(json.dumps(data))
    loaded = load_tokenizer(tmp_path / "other.json")
    assert isinstance(loaded, PublishedTokenizer)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    text = "To be, or not to be: <|that|> is the question."
    assert loaded.encode(text) == theirs.encode(text).ids


def test_a_tokenizer_of_another_type_is_refused(tmp_path):
    data = json.loads(SHIPPED.read_text())
    data["model"]["type"] = "WordPiece"
    (tmp_path / "other.json").write_text(json.dumps(data))
    with pytest.raises(PocketError, match=r"is not byte-level BPE \(its model is WordPiece\)"):
        load_tokenizer(tmp_path / "other.json")


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "torn.json").write_text(SHIPPED.read_text()[:1000])
    with pytest.raises(PocketError, match="is not a tokenizer that can be loaded"):
        load_tokenizer(tmp_path / "torn.json")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PocketError, match=r"'gtp2' is neither a tokenizer \(shakespeare, gpt2\) nor a file"):
        load_tokenizer("gtp2")


def test_gpt2_without_a_network_says_so(monkeypatch):
    def offline(name):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(
        PocketError, match="could not be downloaded; the first use needs a network: name resolution failed"
    ):
        load_tokenizer("gpt2")


def test_gpt2_encodes_as_tiktoken_does():
    try:
        tokenizer = load_tokenizer("gpt2")
    except PocketError as error:
        pytest.skip(f"needs GPT-2's vocabulary: {error}")
    assert tokenizer.vocab_size == 50257
    assert tokenizer.encode(LONG_TEXT) == tiktoken.get_encoding("gpt2").encode_ordinary(LONG_TEXT)
