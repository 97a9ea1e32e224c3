import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketgpt.text import tokens as tokens_module
from pocketgpt.text.tokenizer import Tokenizer, train_tokenizer
from pocketgpt.text.tokens import HEADER_BYTES, TokenFileError, open_tokens, prepare, write_tokens

TOKENIZER = Tokenizer.load("shakespeare")
DOCUMENTS = ["ROMEO:\nBut soft, what light?\n", "Grüße, 世界", ""]


@pytest.fixture
def path(tmp_path):
    write_tokens(DOCUMENTS, TOKENIZER, tmp_path / "small.tokens")
    return tmp_path / "small.tokens"


def test_the_file_holds_the_documents_each_ended(path):
    expected = [token for text in DOCUMENTS for token in [*TOKENIZER.encode(text), TOKENIZER.end_of_text]]
    assert open_tokens(path, TOKENIZER).tokens.tolist() == expected


def test_the_header_counts_tokens_documents_and_bytes_of_text(path):
    file = open_tokens(path, TOKENIZER)
    assert len(file) == len(file.tokens)
    assert file.header.n_documents == 3
    assert file.n_bytes == sum(len(text.encode()) for text in DOCUMENTS)


def test_a_small_vocabulary_takes_two_bytes_a_token_and_a_large_one_four(tmp_path):
    tokenizer = Tokenizer(TOKENIZER.vocabulary)
    for size, dtype in [(2**16, np.uint16), (2**16 + 1, np.uint32)]:
        tokenizer.vocab_size = size
        write_tokens(DOCUMENTS, tokenizer, tmp_path / "sized.tokens")
        assert open_tokens(tmp_path / "sized.tokens", tokenizer).tokens.dtype == dtype


def test_a_lone_surrogate_becomes_the_replacement_character(tmp_path):
    write_tokens(["a\ud83d"], TOKENIZER, tmp_path / "odd.tokens")
    file = open_tokens(tmp_path / "odd.tokens", TOKENIZER)
    assert TOKENIZER.decode(file.tokens[:-1].tolist()) == "a\ufffd"
    assert file.n_bytes == len("a\ufffd".encode())


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def documents():
        yield "first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(documents(), TOKENIZER, tmp_path / "never.tokens")
    assert list(tmp_path.glob("*.tokens*")) == []


def test_another_tokenizer_is_refused(path):
    other = train_tokenizer(DOCUMENTS, 258)
    with pytest.raises(TokenFileError, match=r"made with another tokenizer.*Delete .*small\.tokens and run again"):
        open_tokens(path, other)


def test_a_file_cut_short_is_refused(path):
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(TokenFileError, match=r"is cut short.*Delete"):
        open_tokens(path, TOKENIZER)


def test_a_file_with_more_than_was_written_is_refused(path):
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(TokenFileError, match=r"is too long.*Delete"):
        open_tokens(path, TOKENIZER)


def test_changed_ids_are_refused(path):
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(TokenFileError, match=r"is damaged.*Delete"):
        open_tokens(path, TOKENIZER)


def test_a_changed_count_of_bytes_is_refused(path):
    data = path.read_bytes()
    header = json.loads(data[:HEADER_BYTES])
    header["n_bytes"] += 1
    path.write_bytes(json.dumps(header).encode().ljust(HEADER_BYTES) + data[HEADER_BYTES:])
    with pytest.raises(TokenFileError, match=r"is damaged.*Delete"):
        open_tokens(path, TOKENIZER)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"vocabulary": "x"}', b"ROMEO: " * 500])
def test_a_file_of_another_kind_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(TokenFileError, match=r"is not a token file.*Delete"):
        open_tokens(path, TOKENIZER)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(TokenFileError, match="There is no token file"):
        open_tokens(tmp_path / "missing.tokens", TOKENIZER)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(path, data):
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= 1
    path.write_bytes(bad)
    with pytest.raises(TokenFileError):
        open_tokens(path, TOKENIZER)
    path.write_bytes(good)


@pytest.fixture
def story(tmp_path):
    story = tmp_path / "story.txt"
    story.write_text("Once upon a time.\n" * 20)
    return story


def test_prepare_tokenizes_a_split_once(story, monkeypatch):
    first = prepare(story, TOKENIZER, "validation")
    assert TOKENIZER.decode(first.tokens[:-1].tolist()) == "Once upon a time.\n" * 2
    monkeypatch.setattr(tokens_module, "write_tokens", None)  # a second call would fail
    assert prepare(story, TOKENIZER, "validation").path == first.path


def test_prepare_notices_a_changed_text(story):
    before = prepare(story, TOKENIZER, "train")
    story.write_text("Twice upon a time.\n" * 20)
    after = prepare(story, TOKENIZER, "train")
    assert before.path != after.path
    assert TOKENIZER.decode(after.tokens.tolist()).startswith("Twice")


def test_prepare_keeps_tokenizers_apart(story):
    other = train_tokenizer([story.read_text()], 260)
    assert prepare(story, TOKENIZER, "train").path != prepare(story, other, "train").path
