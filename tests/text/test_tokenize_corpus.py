import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import encode, shards
from pocketgpt.text import tokenize_corpus as tokens_module
from pocketgpt.text.byte_tokenizer import train_tokenizer
from pocketgpt.text.chunks import TextChunk
from pocketgpt.text.corpora import Corpus, in_memory
from pocketgpt.text.shards import open_tokens
from pocketgpt.text.tokenize_corpus import tokenize_corpus, write_tokens
from pocketgpt.text.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer("shakespeare")
DOCUMENTS = [f"Document number {i} says {'word ' * (i % 7)}\n" for i in range(60)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """A chunk of a few documents, a shard of a few chunks."""
    monkeypatch.setattr(encode, "CHUNK_CHARS", 100)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 100)


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _expected():
    return [token for text in DOCUMENTS for token in [*TOKENIZER.encode(text), TOKENIZER.end_of_text]]


def test_documents_come_in_order_each_ended(tmp_path):
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=1)
    opened = open_tokens(tmp_path / "x", TOKENIZER)
    assert len(opened.headers) > 3
    assert opened.tokens[:].tolist() == _expected()


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "INLINE_BATCHES", 2)
    for workers in (1, 3):
        write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / str(workers), workers=workers)
    assert _content(tmp_path / "1") == _content(tmp_path / "3")


def test_a_short_text_starts_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK_CHARS", 2**20)
    monkeypatch.setattr(encode, "ProcessPoolExecutor", None)  # would fail
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=4)


def _interrupted(at):
    """A corpus whose reading ends with Ctrl-C after so many documents."""

    def read(skip):
        assert skip < at
        yield from map(TextChunk, DOCUMENTS[skip:at])
        raise KeyboardInterrupt

    return Corpus(name="x", hash="", read=read)


def test_after_an_interruption_finished_shards_are_kept_and_the_rest_is_added(tmp_path):
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "whole", workers=1)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(_interrupted(at=40), TOKENIZER, tmp_path / "x", workers=1)
    kept = _content(tmp_path / "x")
    assert len(kept) >= 2
    assert all(_content(tmp_path / "whole")[name] == data for name, data in kept.items())
    read_from = []
    rest = Corpus(name="x", hash="", read=lambda skip: read_from.append(skip) or in_memory("x", DOCUMENTS).read(skip))
    write_tokens(rest, TOKENIZER, tmp_path / "x", workers=1)
    assert read_from[0] >= 20
    assert _content(tmp_path / "x") == _content(tmp_path / "whole")


def test_interrupted_before_the_index_only_the_index_is_written(tmp_path):
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=1)
    before = _content(tmp_path / "x")
    (tmp_path / "x" / "index.json").unlink()
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "x").iterdir()}
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=1)
    assert _content(tmp_path / "x") == before
    assert all((tmp_path / "x" / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


def test_a_finished_shard_that_is_damaged_is_made_again(tmp_path):
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=1)
    before = _content(tmp_path / "x")
    (tmp_path / "x" / "index.json").unlink()
    (tmp_path / "x" / "00001.tokens").write_bytes(before["00001.tokens"][:-1] + b"\x01")
    write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x", workers=1)
    assert _content(tmp_path / "x") == before


KILLED = """
import sys, time
from pathlib import Path
from pocketgpt.text import encode, shards
from pocketgpt.text.corpora import Corpus
from pocketgpt.text.chunks import TextChunk
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.text.tokenize_corpus import write_tokens

def read(skip):
    for number in range(skip, 10**6):
        time.sleep(0.001)
        yield TextChunk(f"Document number {number} says something.")

if __name__ == "__main__":
    encode.CHUNK_CHARS, encode.INLINE_BATCHES, shards.SHARD_TOKENS = 100, 1, 100
    corpus = Corpus(name="x", hash="", read=read)
    write_tokens(corpus, load_tokenizer("shakespeare"), Path(sys.argv[1]), workers=2)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL and process groups")
def test_a_killed_process_leaves_whole_shards_and_no_workers(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, tmp_path / "killed.py", tmp_path / "x"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 300  # only so that a broken build does not hang
    while not (tmp_path / "x" / "00004.tokens").exists():
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [shards.read_header(path, TOKENIZER) for path in sorted((tmp_path / "x").glob("[0-9]*.tokens"))]
    n_kept = sum(header.n_documents for header in kept)
    expected = [f"Document number {number} says something." for number in range(n_kept)]
    write_tokens(in_memory("x", expected), TOKENIZER, tmp_path / "x", workers=1)
    text = TOKENIZER.decode(open_tokens(tmp_path / "x", TOKENIZER).tokens[:].tolist())
    assert text == "".join(document + "<|endoftext|>" for document in expected)
    with pytest.raises(ProcessLookupError):  # nobody of the process's group is left
        while time.time() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tokens_module, "write_shard", full)
    with pytest.raises(PocketError, match=r"no room for the tokens in .*POCKETGPT_CACHE.*0 finished shards"):
        write_tokens(in_memory("x", DOCUMENTS), TOKENIZER, tmp_path / "x")


def test_a_lone_surrogate_becomes_the_replacement_character(tmp_path):
    write_tokens(in_memory("odd", ["a\ud83d"]), TOKENIZER, tmp_path / "odd")
    opened = open_tokens(tmp_path / "odd", TOKENIZER)
    assert TOKENIZER.decode(opened.tokens[:-1].tolist()) == "a\ufffd"
    assert opened.n_bytes == len("a\ufffd".encode())


@pytest.fixture
def story(tmp_path):
    story = tmp_path / "story.txt"
    story.write_text("Once upon a time.\n" * 20)
    return story


def test_prepare_tokenizes_a_split_once(story, monkeypatch):
    first = tokenize_corpus(story, TOKENIZER, "validation")
    assert TOKENIZER.decode(first.tokens[:-1].tolist()) == "Once upon a time.\n" * 2
    monkeypatch.setattr(tokens_module, "write_tokens", None)  # a second call would fail
    assert tokenize_corpus(story, TOKENIZER, "validation").path == first.path


def test_prepare_notices_a_changed_text(story):
    before = tokenize_corpus(story, TOKENIZER, "train")
    story.write_text("Twice upon a time.\n" * 20)
    after = tokenize_corpus(story, TOKENIZER, "train")
    assert before.path != after.path
    assert TOKENIZER.decode(after.tokens[:].tolist()).startswith("Twice")


def test_prepare_keeps_tokenizers_apart(story):
    other = train_tokenizer([story.read_text()], 260)
    assert tokenize_corpus(story, TOKENIZER, "train").path != tokenize_corpus(story, other, "train").path
