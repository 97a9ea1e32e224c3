"""`pocketgpt train --init-from`: trained models in, fine-tuned models out, and every mistake answered in a sentence."""

import shutil

import pytest
import torch

from pocketgpt.cli import main
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.pretrained.to_huggingface import save_huggingface
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.training.checkpoint import latest_intact, load_checkpoint, save_checkpoint
from pocketgpt.training.initial_weights import weights_sha256
from pocketgpt.training.recipes import FINETUNING

LLAMA = preset("llama", vocab_size=257, d_model=32, n_layers=1, mixer={"n_heads": 2}, max_seq_len=32)
SMALL = ["--corpus", "own.txt", "--steps", "1", "--batch-size", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("pocketgpt.training.run_log.plot_losses", lambda records, file: None)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    return tmp_path


@pytest.fixture
def tokenizer():
    return ByteTokenizer([bytes([byte]) for byte in range(256)])


@pytest.fixture
def old(folder, tokenizer):
    """A run with one checkpoint."""
    torch.manual_seed(0)
    save_checkpoint(folder / "old" / "step-000009", GPT(LLAMA), tokenizer, {"step": 9, "validation_loss": 5.5})
    return load_checkpoint(folder / "old").model


def run(capsys, *argv):
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())


def help_of(capsys, *options):
    code, out, _ = run(capsys, "train", *options, "--help")
    assert code == 0
    return " ".join(out.replace("│", " ").split())


def message_of(capsys, *argv):
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "") and "Traceback" not in err
    return " ".join(err.replace("│", " ").split())


def test_a_run_becomes_another_run_in_a_folder_of_its_own(capsys, folder, old):
    code, out, err = run(capsys, "train", "--init-from", "old", *SMALL)
    assert code == 0
    assert "step 0: validation loss" in out + err
    assert "--model runs/old-finetuned" in out
    new = load_checkpoint("runs/old-finetuned")
    assert new.training["initial_weights"]["sha256"] == weights_sha256(old)
    assert new.training["recipe"]["lr"] == FINETUNING["finetune"].lr
    assert new.training["recipe"]["seq_len"] == 32  # as much as this model has positions for
    assert run(capsys, "generate", "Full", "--model", "runs/old-finetuned", "--max-new-tokens", "3")[0] == 0
    assert run(capsys, "train", "--resume", "runs/old-finetuned", "--steps", "2")[0] == 0


def test_a_published_model_is_fine_tuned_by_low_rank_pairs(capsys, folder, old, tokenizer):
    save_huggingface(old, tokenizer, folder / "published")
    assert run(capsys, "train", "--init-from", "published", "--lora-rank", "2", *SMALL)[0] == 0
    training = load_checkpoint("runs/published-finetuned").training
    assert (training["recipe"]["lr"], training["recipe"]["lora_rank"]) == (FINETUNING["lora"].lr, 2)
    assert training["initial_weights"]["sha256"] == weights_sha256(old)
    assert run(capsys, "train", "--resume", "runs/published-finetuned", "--steps", "2")[0] == 0
    assert latest_intact(folder / "runs" / "published-finetuned").name == "step-000002"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "finetune"),
        (["--lora-rank", "4"], "lora"),
        (["--lora-rank", "None"], "finetune"),
        (["--recipe", "lora"], "lora"),
    ],
)
def test_help_shows_the_numbers_of_the_recipe(capsys, old, options, name):
    out = help_of(capsys, "--init-from", "old", *options)
    assert f"Peak learning rate of AdamW. (default: {FINETUNING[name].lr})" in out
    assert f"None trains all weights. (default: {FINETUNING[name].lora_rank})" in out
    assert "(default: old/step-000009/tokenizer.json)" in out


def test_help_says_what_there_is(capsys):
    text = help_of(capsys)
    assert "--init-from" in text and "lora options" in text
    assert "with --init-from finetune, or lora" in text
    assert "nor do the router of a mixture and its experts" in text


def test_without_a_tokenizer_file_the_name_of_the_metadata_counts(capsys):
    out = help_of(capsys, "--init-from", "pocket-shakespeare")
    assert "or a path to a tokenizer.json. (default: shakespeare)" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--init_from", "nowhere"], "nowhere does not exist"),
        (["--init-from", "."], ". contains no intact checkpoint"),
        (["--init-from", "own.txt"], "own.txt is a file"),
        (["--init-from", "old", "--preset", "llama"], "--init-from begins with the model of old: leave out --preset"),
        (["--init-from", "old", "--resume", "old"], "--resume continues with the weights of its run: leave out --init"),
        (
            ["--init-from", "old", "--recipe", "quick"],
            "no recipe 'quick' for --init-from: choose one of finetune, lora",
        ),
        (["--init-from", "old", "--model.n-layers", "2"], "do not fit the model: blocks.1."),
        (["--init-from", "old", "--model.vocab-size", "300"], "the tokenizer decides it"),
        (["--init-from", "old", "--model.dropout", "0.3"], "use --dropout 0.3"),
        (
            ["--init-from", "old", "--tokenizer", "shakespeare"],
            "knows the tokens of its own tokenizer and not those of",
        ),
        (["--init-from", "old", "--seq-len", "64"], "--seq-len 64 cannot work: use at most 32"),
        (["--init-from", "old", "--lora-rank", "0"], "--lora-rank 0 cannot work: use a whole number of at least 1"),
        (
            ["--init-from", "old", "--lora-rank", "2", "--optimizer", "muon"],
            "--optimizer 'muon' cannot work: use adamw",
        ),
        (["--lora-rank", "2", "--optimizer", "adamw"], "use --init-from FOLDER with it"),
        (["--init-from", "old", "--out", "old"], "not empty: resume it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_with_what_would_work(capsys, folder, old, options, said):
    assert said in message_of(capsys, "train", *SMALL, *options)
    assert not list((folder / "runs").rglob("*.*"))


def test_damaged_weights_are_named(capsys, folder, old):
    shutil.copytree(folder / "old" / "step-000009", folder / "copy")
    (folder / "copy" / "model.safetensors").write_bytes(b"\0" * 99)
    assert "copy is damaged: model.safetensors" in message_of(capsys, "train", "--init-from", "copy", *SMALL)
