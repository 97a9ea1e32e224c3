"""A T5 by one command: trained, resumed, measured, and writing what is missing in a text."""

import json

import pytest
import torch

from pocketgpt.cli import main
from pocketgpt.models.t5 import T5
from pocketgpt.training.checkpoint import load_checkpoint

TRAIN = ["train", "--preset", "pocket-t5", "--corpus", "own.txt", "--batch-size", "2", "--seq-len", "40"]
TRAIN += ["--model.d-model", "48", "--model.n-layers", "1", "--eval-every", "2", "--eval-tokens", "200"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with a text and a run of four steps."""
    folder = tmp_path_factory.mktemp("t5")
    (folder / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POCKETGPT_CACHE", str(folder / "cache"))
        patch.setattr("os.fsync", lambda descriptor: None)
        assert main([*TRAIN, "--steps", "4", "--save-every", "2", "--out", "run"]) == 0
        yield folder


def answer(capsys, *argv):
    code = main(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, " ".join(err.split())


def test_a_run_is_a_t5_with_sentinels_and_a_start_token(place):
    checkpoint = load_checkpoint("run")
    assert isinstance(checkpoint.model, T5) and checkpoint.objective_name == "span-corruption"
    assert checkpoint.model.config.vocab_size == checkpoint.tokenizer.vocab_size + 101
    assert checkpoint.model.config.start_token == checkpoint.tokenizer.vocab_size + 100
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation_loss" in line for line in lines) == 2
    samples = [file.read_text() for file in (place / "run").glob("samples/*")]
    assert samples and all("___" not in text and text.count("[") == 4 for text in samples)


def test_resuming_cuts_the_same_spans_as_a_run_without_a_break():
    assert main(["train", "--resume", "run/step-000002", "--out", "resumed"]) == 0
    whole, resumed = (load_checkpoint(f"{run}/step-000004").model.state_dict() for run in ("run", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_generate_fills_the_gaps_and_leaves_the_rest(capsys):
    command = ("generate", "Full ___ five ___ father", "--model", "run", "--max-new-tokens", "5", "--seed", "1")
    code, out, _ = answer(capsys, *command, "--samples", "2")
    assert code == 0 and out.count("Full") >= 2 and "___" not in out and "father" in out
    assert answer(capsys, *command)[1] in out


def test_generate_without_a_gap_says_how_to_write_one(capsys):
    code, out, err = answer(capsys, "generate", "Full fathom", "--model", "run")
    assert (code, out) == (2, "")
    assert "The text has 0 gaps: write ___ for each missing part" in err


def test_eval_measures_tokens_of_the_output(capsys):
    lines = [answer(capsys, "eval", "run", "own.txt", "--max-tokens", "150")[1].splitlines()[-1] for _ in range(2)]
    assert lines[0] == lines[1] and "nats per token of the output" in lines[0]
    assert "bits per byte" not in lines[0]  # the output is not the text


def test_info_describes_both_stacks(capsys):
    code, out, _ = answer(capsys, "info", "run")
    assert code == 0 and "1 + 1 layers · d_model 48" in out and "positions relative" in out


def test_a_t5_cannot_learn_the_next_token(capsys):
    code, _, err = answer(capsys, *TRAIN, "--objective", "next-token", "--out", "other")
    assert code == 2 and "cannot work with a T5" in err
