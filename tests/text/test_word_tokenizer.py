import json
import pickle
import re
from pydoc_data.topics import topics

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.text.word_tokenizer import SPECIAL_TOKENS, WordTokenizer, train_word_tokenizer

TEXT = "\n".join(topics.values())[:200_000]  # Python's manual
TOKENIZER = train_word_tokenizer([TEXT], 1000)
ANY_TEXT = st.lists(
    st.one_of(st.sampled_from(["the", " function", " ", "\n\n", "[EOS]", "é", "▁"]), st.text(max_size=5))
)


# The library's own tokenizer out of the JSON that we save, with special tokens read as text.
LIBRARY = tokenizers.Tokenizer.from_str(TOKENIZER.to_library().to_str())
LIBRARY.encode_special_tokens = True


def test_the_special_tokens_come_first():
    assert [TOKENIZER.token_bytes(token).decode() for token in range(7)] == SPECIAL_TOKENS
    assert SPECIAL_TOKENS == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "[EOS]"]
    assert (TOKENIZER.vocab_size, TOKENIZER.end_of_text) == (1000, 6)


def test_encodes_a_long_text_as_the_tokenizers_library_does():
    assert TOKENIZER.encode(TEXT) == LIBRARY.encode(TEXT).ids


@given(ANY_TEXT.map("".join))
def test_encodes_any_text_as_the_tokenizers_library_does(text):
    assert TOKENIZER.encode(text) == LIBRARY.encode(text).ids


def test_half_a_surrogate_pair_is_the_replacement_character():
    assert TOKENIZER.encode("a\ud83d") == LIBRARY.encode("a\ufffd").ids


def test_words_are_what_stands_between_white_space_and_punctuation():
    text = "It is, they\tsay:\n\n(so) 'easy'..."
    assert TOKENIZER.decode(TOKENIZER.encode(text)).split() == re.findall(r"\w+|[^\w\s]+", text)


def test_decoding_text_of_known_words_restores_it():
    text = " the value of the function is returned"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_pair_that_occurs_once_makes_no_token():
    with pytest.raises(PocketError, match="pairs for 12 tokens, not for 50"):  # 7 special ones, ▁ a b c, ▁a
        train_word_tokenizer(["a a bc"], 50)


def test_an_unknown_character_is_unk():
    assert TOKENIZER.token_bytes(TOKENIZER.encode("日")[-1]) == b"[UNK]"


def test_a_special_token_inside_a_text_is_ordinary_text():
    tokens = TOKENIZER.encode("a [EOS] b[PAD]")
    assert not set(tokens) & set(range(7))
    assert TOKENIZER.decode(tokens).replace(" ", "") == "a[EOS]b[PAD]"


def test_a_copy_in_another_process_encodes_alike():
    copy = pickle.loads(pickle.dumps(TOKENIZER))
    assert copy.encode("a [EOS] b") == TOKENIZER.encode("a [EOS] b")
    assert copy.hash == TOKENIZER.hash


def test_training_twice_gives_the_same_vocabulary():
    again = train_word_tokenizer(iter([TEXT]), 1000)
    assert (again.vocabulary, again.merges) == (TOKENIZER.vocabulary, TOKENIZER.merges)


def test_merges_make_the_tokens_after_the_characters_in_order():
    n_merges = len(TOKENIZER.merges)
    assert [left + right for left, right in TOKENIZER.merges] == TOKENIZER.vocabulary[-n_merges:]


def test_hash_tells_vocabularies_apart():
    assert train_word_tokenizer([TEXT], 999).hash != TOKENIZER.hash


def test_saved_and_loaded_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path / "own.json")
    loaded = load_tokenizer(tmp_path / "own.json")
    assert isinstance(loaded, WordTokenizer)
    assert loaded.hash == TOKENIZER.hash
    assert loaded.encode(TEXT) == TOKENIZER.encode(TEXT)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    data = json.loads(TOKENIZER.to_library().to_str())
    data["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "other.json").write_text(json.dumps(data))
    with pytest.raises(PocketError, match="is not byte-level BPE"):
        load_tokenizer(tmp_path / "other.json")


@pytest.mark.parametrize("token", [-1, 1000])
def test_a_token_outside_the_vocabulary_is_named(token):
    with pytest.raises(PocketError, match=f"no token {token}: this vocabulary has the ids 0 to 999"):
        TOKENIZER.decode([token])


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(PocketError, match=r"vocabulary of 20 is too small: .* make "):
        train_word_tokenizer([TEXT], 20)
