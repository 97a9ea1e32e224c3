import json
import sys
import types

import pyarrow
import pyarrow.parquet
import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import huggingface_datasets
from pocketgpt.text.corpora import load_corpus
from pocketgpt.text.huggingface_datasets import DataSet

pytest.importorskip("datasets")

STORIES = [f"Story number {i}.\n" for i in range(50)]


@pytest.fixture
def put(tmp_path, monkeypatch):
    """put(name, split=texts, …): a data set of the hub as parquet files here, read by the same library."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def put(name, **splits):
        files = {}
        for split, texts in splits.items():
            files[split] = str(tmp_path / f"{name}-{split}.parquet")
            table = pyarrow.table({"text": texts, "id": list(range(len(texts)))})
            pyarrow.parquet.write_table(table, files[split], row_group_size=7)
        changed = DataSet(
            load={"path": "parquet", "data_files": files},
            validation=huggingface_datasets.DATA_SETS[name].validation,
            documents=huggingface_datasets.DATA_SETS[name].documents,
        )
        monkeypatch.setitem(huggingface_datasets.DATA_SETS, name, changed)

    return put


def test_a_data_set_with_a_validation_split_of_its_own(put):
    put("tinystories", train=STORIES[:40], validation=STORIES[40:])
    assert list(load_corpus("tinystories", "train")) == STORIES[:40]
    assert list(load_corpus("tinystories", "validation")) == STORIES[40:]


def test_a_data_set_without_one_holds_out_its_beginning(put):
    texts = [f"Page {i}." for i in range(10_020)]
    put("fineweb-edu", train=texts)
    assert list(load_corpus("fineweb-edu", "validation")) == texts[:10_000]
    assert list(load_corpus("fineweb-edu", "train")) == texts[10_000:]


@pytest.mark.parametrize("skip", [0, 1, 7, 20, 40])
def test_reading_goes_on_after_what_is_skipped(put, skip):
    put("tinystories", train=STORIES[:40], validation=STORIES[40:])
    assert [chunk.text for chunk in load_corpus("tinystories").read(skip)] == STORIES[skip:40]


def test_wikitext_comes_as_articles(put):
    rows = [
        "",
        " = Homer = \n",
        "",
        " A poet , they say . \n",
        " = = Works = = \n",
        " The Iliad . \n",
        " = Virgil = \n",
        "",
    ]
    put("wikitext-103", train=rows, validation=rows)
    articles = ["Homer\n\nA poet, they say.\n\nWorks\n\nThe Iliad.\n", "Virgil\n"]
    assert list(load_corpus("wikitext-103")) == articles
    assert [chunk.text for chunk in load_corpus("wikitext-103").read(1)] == articles[1:]


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PocketError, match=r"tinystories comes through `datasets`: `pip install pocketgpt\[train\]`"):
        list(load_corpus("tinystories"))


def test_without_a_network_the_message_says_so(monkeypatch):
    def offline(**arguments):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(
        PocketError, match=r"tinystories \(roneneldan/TinyStories\) could not be read from the Hub.*reach"
    ):
        list(load_corpus("tinystories"))


def test_a_connection_that_breaks_says_how_to_go_on(put, tmp_path):
    put("tinystories", train=STORIES, validation=STORIES)
    lines = [json.dumps({"text": text}) for text in STORIES]
    (tmp_path / "torn.jsonl").write_text("\n".join([*lines, '{"text": ']))
    load = {"path": "json", "data_files": {"train": str(tmp_path / "torn.jsonl")}, "chunksize": 200}
    huggingface_datasets.DATA_SETS["tinystories"] = DataSet(
        load=load, validation="validation"
    )  # put back by the fixture
    corpus = load_corpus("tinystories")
    with pytest.raises(PocketError, match=r"could not be read (.|\n)*again to continue: finished shards"):
        list(corpus)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("wikitext-103", "Salesforce/wikitext"),
        ("fineweb-edu", "HuggingFaceFW/fineweb-edu"),
        ("tinystories", "roneneldan/TinyStories"),
    ],
)
def test_the_data_sets_are_those_of_the_hub(name, path):
    assert huggingface_datasets.DATA_SETS[name].load["path"] == path
