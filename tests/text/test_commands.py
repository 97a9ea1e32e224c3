import pytest

from pocketgpt.cli import main
from pocketgpt.text.shards import open_tokens
from pocketgpt.text.tokenizer import load_tokenizer

LINES = "".join(f"Line {i} of the {['first', 'second', 'third'][i % 3]} verse.\n" for i in range(400))
SIZES = {"bytes": "270", "words": "60"}


@pytest.fixture
def story(tmp_path, monkeypatch):
    (tmp_path / "story.txt").write_text(LINES)
    monkeypatch.chdir(tmp_path)


def test_fetch_says_what_it_made(story, capsys, tmp_path):
    assert main(["fetch", "story.txt"]) == 0
    train, validation = capsys.readouterr().out.splitlines()[2:]
    split, documents, n_bytes, n_tokens, shards, ratio, folder = train.split()
    opened = open_tokens(tmp_path / folder, load_tokenizer())
    assert (split, documents, shards) == ("train", "1", "1")
    assert int(n_tokens.replace(",", "")) == len(opened)
    assert int(n_bytes.replace(",", "")) + int(validation.split()[2].replace(",", "")) == len(LINES)
    assert float(ratio) == pytest.approx(opened.n_bytes / len(opened), abs=0.005)


def test_fetch_shows_progress(story, capsys):
    main(["fetch", "story.txt"])
    assert "tokenize story (train): 100%" in capsys.readouterr().err


def test_fetch_verifies_what_is_there(story, capsys, tmp_path):
    main(["fetch", "story.txt", "--verify"])
    [shard] = (tmp_path / "cache").glob("story-*-train-*/00000.tokens")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    assert main(["fetch", "story.txt", "--verify"]) == 2
    assert "00000.tokens is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_a_tokenizer_is_trained_and_measured_on_held_out_text(story, capsys, kind):
    assert main(["tokenizer", "story.txt", "--vocab-size", SIZES[kind], "--out", "my.json", "--kind", kind]) == 0
    tokenizer, held_out = load_tokenizer("my.json"), LINES[-len(LINES) // 9 :]
    said = float(capsys.readouterr().out.split("tokens · ")[1].split(" bytes per token")[0])
    assert said == pytest.approx(len(held_out) / len(tokenizer.encode(held_out)), rel=0.05)


@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_what_was_trained_trains_a_model_that_writes(story, capsys, kind):
    main(["tokenizer", "story.txt", "--vocab-size", SIZES[kind], "--out", "my.json", "--kind", kind])
    small = ["--steps", "2", "--batch-size", "2", "--seq-len", "16", "--prompt", "Line", "--device", "cpu"]
    assert main(["train", "--corpus", "story.txt", "--tokenizer", "my.json", "--out", "run", *small]) == 0
    capsys.readouterr()
    assert main(["generate", "Line", "--model", "run", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("Line")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "story.txt"], "story.txt exists already: choose another --out, such as story-2.txt"),
        (["--out", "nowhere/my.json"], "There is no folder nowhere"),
        (["--out", "my.json", "--vocab-size", "30"], "vocabulary of 30 is too small"),
        (["--out", "my.json", "--vocab-size", "9999"], "not for 9999: ask for at most"),
    ],
)
def test_a_mistake_is_answered_with_what_would_work(story, capsys, arguments, said):
    assert main(["tokenizer", "story.txt", *arguments]) == 2
    assert said in capsys.readouterr().err
