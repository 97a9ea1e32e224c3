import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketgpt.text import shards
from pocketgpt.text.byte_tokenizer import ByteTokenizer, train_tokenizer
from pocketgpt.text.corpora import in_memory
from pocketgpt.text.shards import HEADER_BYTES, Joined, TokenFileError, open_tokens
from pocketgpt.text.tokenize_corpus import write_tokens
from pocketgpt.text.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer("shakespeare")
DOCUMENTS = ["ROMEO:\nBut soft, what light?\n", "Grüße, 世界", ""]


@pytest.fixture
def folder(tmp_path):
    write_tokens(in_memory("small", DOCUMENTS), TOKENIZER, tmp_path / "small.tokens")
    return tmp_path / "small.tokens"


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A folder of three shards, a document each."""
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1)
    monkeypatch.setattr("pocketgpt.text.encode.CHUNK_CHARS", 1)
    write_tokens(in_memory("three", DOCUMENTS), TOKENIZER, tmp_path / "three.tokens")
    return tmp_path / "three.tokens"


def test_a_folder_holds_the_documents_each_ended(folder):
    expected = [token for text in DOCUMENTS for token in [*TOKENIZER.encode(text), TOKENIZER.end_of_text]]
    assert open_tokens(folder, TOKENIZER).tokens.tolist() == expected


def test_a_shard_is_a_header_and_the_ids(folder):
    expected = [token for text in DOCUMENTS for token in [*TOKENIZER.encode(text), TOKENIZER.end_of_text]]
    data = (folder / "00000.tokens").read_bytes()
    assert json.loads(data[:1024])["n_tokens"] == len(expected)
    assert np.frombuffer(data[1024:], "<u2").tolist() == expected


def test_tokens_documents_and_bytes_of_text_are_counted(three):
    opened = open_tokens(three, TOKENIZER)
    assert (len(opened), len(opened.headers)) == (len(opened.tokens), 3)
    assert opened.n_documents == 3
    assert opened.n_bytes == sum(len(text.encode()) for text in DOCUMENTS)


def test_shards_read_as_one(folder, three):
    one, joined = open_tokens(folder, TOKENIZER).tokens, open_tokens(three, TOKENIZER).tokens
    assert joined[:].tolist() == one.tolist()


def test_a_small_vocabulary_takes_two_bytes_a_token_and_a_large_one_four(tmp_path):
    tokenizer = ByteTokenizer(TOKENIZER.vocabulary)
    for size, dtype in [(2**16, np.uint16), (2**16 + 1, np.uint32)]:
        tokenizer.vocab_size = size
        write_tokens(in_memory("sized", DOCUMENTS), tokenizer, tmp_path / str(size))
        assert open_tokens(tmp_path / str(size), tokenizer).tokens.dtype == dtype


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    start=st.integers(-3, 25),
    stop=st.one_of(st.none(), st.integers(-3, 25)),
)
def test_a_slice_of_joined_arrays_is_the_slice_of_their_concatenation(lengths, start, stop):
    whole = np.arange(sum(lengths), dtype=np.uint16)
    joined = Joined(np.split(whole, np.cumsum(lengths)[:-1]))
    assert joined[start:stop].tolist() == whole[start:stop].tolist()
    assert len(joined) == len(whole)


def test_a_slice_within_a_shard_is_not_copied():
    parts = [np.arange(4, dtype=np.uint16), np.arange(4, dtype=np.uint16)]
    assert np.shares_memory(Joined(parts)[5:8], parts[1])


def test_tokens_out_of_order_are_refused():
    with pytest.raises(ValueError, match="step 1; 2 is not supported"):
        Joined([np.arange(4, dtype=np.uint16)])[::2]


def test_another_tokenizer_is_refused(folder):
    other = train_tokenizer(DOCUMENTS, 258)
    with pytest.raises(TokenFileError, match=r"made with another tokenizer.*Delete .*small\.tokens and run again"):
        open_tokens(folder, other)


def test_a_shard_cut_short_is_refused(folder):
    shard = folder / "00000.tokens"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(TokenFileError, match=r"is cut short.*Delete"):
        open_tokens(folder, TOKENIZER)


def test_a_shard_with_more_than_was_written_is_refused(folder):
    shard = folder / "00000.tokens"
    shard.write_bytes(shard.read_bytes() + b"\0\0")
    with pytest.raises(TokenFileError, match=r"is too long.*Delete"):
        open_tokens(folder, TOKENIZER)


def test_a_shard_of_another_folder_is_refused(folder, three):
    shutil.copy(folder / "00000.tokens", three / "00001.tokens")
    with pytest.raises(TokenFileError, match=r"its shards are not those of its index.json.*Delete"):
        open_tokens(three, TOKENIZER)


def test_a_missing_shard_is_named(three):
    (three / "00001.tokens").unlink()
    with pytest.raises(TokenFileError, match=r"00001.tokens is missing.*Delete"):
        open_tokens(three, TOKENIZER)


def test_a_folder_that_is_not_complete_is_refused(three):
    (three / "index.json").unlink()
    with pytest.raises(TokenFileError, match=r"is not a complete token folder.*Delete"):
        open_tokens(three, TOKENIZER)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"vocabulary": "x"}', b"ROMEO: " * 500])
def test_a_file_of_another_kind_is_refused(folder, content):
    (folder / "00000.tokens").write_bytes(content)
    with pytest.raises(TokenFileError, match=r"(is not a token file|is damaged).*Delete"):
        open_tokens(folder, TOKENIZER)


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(TokenFileError, match="There is no token folder"):
        open_tokens(tmp_path / "missing.tokens", TOKENIZER)


def test_a_file_of_an_older_version_is_refused(tmp_path):
    (tmp_path / "old.tokens").write_bytes(b'{"format": "pocketgpt tokens 1"}'.ljust(HEADER_BYTES) + b"\0\0")
    with pytest.raises(TokenFileError, match=r"is not a complete token folder.*Delete"):
        open_tokens(tmp_path / "old.tokens", TOKENIZER)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(folder, data):
    path = folder / data.draw(st.sampled_from(["00000.tokens", "index.json"]))
    good = path.read_bytes()
    # White space in JSON says nothing: a tab for a space, where a bit is flipped, would not matter.
    place = data.draw(st.sampled_from([i for i, byte in enumerate(good) if chr(byte) not in " \n"]))
    bad = bytearray(good)
    bad[place] ^= 1
    path.write_bytes(bad)
    with pytest.raises(TokenFileError):
        open_tokens(folder, TOKENIZER)
    path.write_bytes(good)


def test_of_large_folders_one_shard_is_checked_at_each_opening(three, monkeypatch):
    monkeypatch.setattr(shards, "CHECKED_BYTES", 0)
    checked = []
    monkeypatch.setattr(shards, "check_ids", lambda path, header: checked.append(path.name))
    for _ in range(40):
        open_tokens(three, TOKENIZER)
    assert len(checked) == 40
    assert len(set(checked)) == 3


def test_verifying_reads_everything(three, monkeypatch):
    monkeypatch.setattr(shards, "CHECKED_BYTES", 0)
    shard = three / "00002.tokens"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    with pytest.raises(TokenFileError, match=r"00002.tokens is damaged.*Delete"):
        open_tokens(three, TOKENIZER, verify=True)
