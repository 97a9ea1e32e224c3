import json
import sys
import types

import pyarrow
import pyarrow.parquet
import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text.corpora import HOLD_OUT, cache_dir, load_corpus

TEXTS = [f"Document {i}.\n" for i in range(25)]


def _both(corpus):
    return list(load_corpus(corpus, "train")), list(load_corpus(corpus, "validation"))


def test_shakespeare_is_35_plays_to_train_on_and_3_held_out(plays):
    assert (len(plays["train"]), len(plays["validation"])) == (35, 3)
    assert not set(plays["train"]) & set(plays["validation"])


def test_about_a_sixteenth_of_shakespeare_is_held_out(plays):
    train, validation = (sum(map(len, plays[split])) for split in ("train", "validation"))
    assert 0.04 < validation / (train + validation) < 0.07


def test_one_text_file_is_cut_at_a_line_break(tmp_path):
    lines = [f"line {i}\n" for i in range(100)]
    (tmp_path / "story.txt").write_text("".join(lines))
    [train], [validation] = _both(tmp_path / "story.txt")
    assert train + validation == "".join(lines)
    assert validation.startswith("line ")
    assert 0.1 <= len(validation) / len(train + validation) < 0.12


def test_one_line_is_cut_all_the_same(tmp_path):
    (tmp_path / "line.txt").write_text("\n" + "x" * 999)
    [train], [validation] = _both(tmp_path / "line.txt")
    assert (len(train), len(validation)) == (900, 100)


def test_the_last_tenth_of_a_folder_is_held_out(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:02}.txt").write_text(text)
    (tmp_path / "notes.md").write_text("not a part of it")
    assert _both(tmp_path) == (TEXTS[:22], TEXTS[22:])


def test_the_last_tenth_of_a_jsonl_is_held_out(tmp_path):
    lines = [json.dumps({"text": text, "id": 1}) for text in TEXTS]
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, "", ""]))
    assert _both(str(tmp_path / "data.jsonl")) == (TEXTS[:22], TEXTS[22:])


def test_the_last_tenth_of_a_parquet_is_held_out(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": [None, *TEXTS]}), tmp_path / "data.parquet")
    assert _both(tmp_path / "data.parquet") == (TEXTS[:22], TEXTS[22:])


def test_two_documents_are_one_for_each_split(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
    assert _both(tmp_path / "data.jsonl") == (["a"], ["b"])


def test_windows_line_ends_and_byte_order_mark_are_dropped(tmp_path):
    (tmp_path / "story.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n" + b"three\r\n" * 20)
    assert load_corpus(tmp_path / "story.txt")[0].startswith("one\ntwo\nthree\n")


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "too little text to split"),
        ("latin.txt", b"caf\xe9", "is not UTF-8: byte 0xe9 at 3.*iconv"),
        ("data.csv", b"a,b", r"data\.csv is a \.csv; text is read from \.txt, \.jsonl, \.parquet"),
        ("torn.jsonl", b'{"text": "a"}\n{"text": ', "line 2, is not an object like"),
        ("other.jsonl", b'{"body": "a"}', 'line 1, is not an object like {"text"'),
        ("number.jsonl", b'{"text": 3}', "line 1, is not an object like"),
        ("list.jsonl", b"[1]", "line 1, is not an object like"),
        ("text.parquet", b"PAR1 no", "cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    with pytest.raises(PocketError, match=message):
        load_corpus(_write(tmp_path / name, content))


def test_a_parquet_without_text_names_its_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": TEXTS}), tmp_path / "data.parquet")
    with pytest.raises(PocketError, match='no column "text", only body'):
        load_corpus(tmp_path / "data.parquet")


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(PocketError, match=r"has no \.txt files"):
        load_corpus(tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PocketError, match=r"'shakespear' is neither a corpus \(shakespeare, wikitext-103"):
        load_corpus("shakespear")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert cache_dir().is_dir()


def _hub(monkeypatch, load_dataset):
    """Put a stand-in for the `datasets` library in its place."""
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))


def test_a_hub_corpus_asks_for_its_own_validation_split(monkeypatch):
    _hub(monkeypatch, lambda name, configuration, split, streaming: [{"text": f"{name} {split}"}])
    assert _both("tinystories") == (["roneneldan/TinyStories train"], ["roneneldan/TinyStories validation"])


def test_a_hub_corpus_without_validation_split_holds_documents_out(monkeypatch):
    rows = [{"text": str(i)} for i in range(2 * HOLD_OUT)]
    _hub(monkeypatch, lambda *names, split, streaming: rows if split == "train" else None)
    train, validation = _both("fineweb-edu")
    assert validation == ["0", str(HOLD_OUT)]
    assert sorted(train + validation) == sorted(row["text"] for row in rows)


def test_wikitext_is_joined_into_articles(monkeypatch):
    first = [" = Homer = \n", "", " A poet . \n", " = = Works = = \n", " The Iliad . \n"]
    second = [" = Virgil = \n", " x = y = \n"]
    rows = [{"text": text} for text in ["", *first, *second]]
    _hub(monkeypatch, lambda *names, split, streaming: rows)
    assert list(load_corpus("wikitext-103")) == ["".join(first), "".join(second)]


def test_a_hub_corpus_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PocketError, match=r"tinystories comes through `datasets`: `pip install pocketgpt\[train\]`"):
        list(load_corpus("tinystories"))


def test_a_hub_corpus_without_a_network_says_so(monkeypatch):
    def offline(*names, split, streaming):
        raise ConnectionError("Couldn't reach the Hub")

    _hub(monkeypatch, offline)
    with pytest.raises(PocketError, match=r"tinystories \(roneneldan/TinyStories\) could not be read.*Couldn't reach"):
        list(load_corpus("tinystories"))
