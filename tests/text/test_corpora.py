import os

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import corpora
from pocketgpt.text.corpora import cache_dir, in_memory, load_corpus


def test_shakespeare_is_35_plays_to_train_on_and_3_held_out(plays):
    assert (len(plays["train"]), len(plays["validation"])) == (35, 3)
    assert not set(plays["train"]) & set(plays["validation"])


def test_about_a_sixteenth_of_shakespeare_is_held_out(plays):
    train, validation = (sum(map(len, plays[split])) for split in ("train", "validation"))
    assert 0.04 < validation / (train + validation) < 0.07


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PocketError, match=r"'shakespear' is neither a corpus \(shakespeare, wikitext-103"):
        load_corpus("shakespear")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert cache_dir().is_dir()


def test_documents_in_memory_are_read_from_any_place():
    assert [chunk.text for chunk in in_memory("x", ["a", "b", "c"]).read(1)] == ["b", "c"]
    assert [chunk.done for chunk in in_memory("x", ["a", "bc", "d"]).read(0)] == [0.25, 0.75, 1.0]


def test_the_hash_tells_texts_apart():
    hashes = [in_memory("x", documents).hash for documents in (["ab"], ["a", "b"], ["b", "a"], ["ab"])]
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, hashed and noted."""
    monkeypatch.setattr(corpora, "LARGE", 10)
    (tmp_path / "large.txt").write_text("Once upon a time.\n" * 20)
    return tmp_path / "large.txt"


def test_a_large_file_is_hashed_once(large, monkeypatch):
    before = load_corpus(large).hash
    monkeypatch.setattr(corpora.hashlib, "file_digest", None)  # would fail
    assert load_corpus(large).hash == before


def test_the_hash_is_of_the_text_not_of_the_name(large, tmp_path):
    (tmp_path / "copy.txt").write_text(large.read_text())
    assert load_corpus(large).hash == load_corpus(tmp_path / "copy.txt").hash


def test_a_large_file_that_changed_is_hashed_anew(large):
    before, status = load_corpus(large).hash, large.stat()
    large.write_text("Once upon a rime.\n" * 20)  # of the same size,
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))  # and of the same time, as far as it says
    assert load_corpus(large).hash != before


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"large.txt": 5}', '{"large.txt": []}'])
def test_a_damaged_note_of_hashes_is_made_anew(large, damage):
    before = load_corpus(large).hash
    (cache_dir() / "hashes.json").write_text(damage.replace("large.txt", str(large.resolve())))
    assert load_corpus(large).hash == before


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(PocketError, match="neither a file nor a folder but a pipe or a device"):
        load_corpus(tmp_path / "pipe.txt")


def test_a_cache_of_an_unknown_user_is_named_with_its_variable(monkeypatch):
    monkeypatch.setenv("POCKETGPT_CACHE", "~nobody-here/cache")
    with pytest.raises(PocketError, match=r"no folder for the cache.*Set POCKETGPT_CACHE"):
        cache_dir()
