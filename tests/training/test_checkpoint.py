import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketgpt import files
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.training.checkpoint import (
    CheckpointError,
    best_intact,
    checkpoints,
    find_checkpoint,
    find_damage,
    latest_intact,
    load_checkpoint,
    prune,
    remove_partial,
    save_checkpoint,
)


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "run" / "step-000007", model, tokenizer, {"step": 7}, {"rng": torch.arange(3)})
    return tmp_path / "run" / "step-000007"


@pytest.fixture
def save(tmp_path, model, tokenizer):
    """save(step, validation_loss) -> the folder of a checkpoint in one run."""

    def save(step, validation_loss=None, state=None):
        training = {"step": step} | ({} if validation_loss is None else {"validation_loss": validation_loss})
        folder = tmp_path / "run" / f"step-{step:06}"
        save_checkpoint(folder, model, tokenizer, training, state or {"step": step})
        return folder

    return save


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def names(run):
    return [folder.name for folder in checkpoints(run)]


@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_model_gives_the_same_logits(tmp_path, config, tokenizer, tied):
    model = GPT(replace(config, tie_embeddings=tied)).eval()
    save_checkpoint(tmp_path / "best", model, tokenizer, {})
    tokens = torch.randint(257, (2, 9))
    assert torch.equal(load_checkpoint(tmp_path / "best").model(tokens), model(tokens))


def test_tokenizer_and_training_notes_come_back(folder, tokenizer):
    loaded = load_checkpoint(folder)
    assert loaded.tokenizer.hash == tokenizer.hash
    assert loaded.training == {"step": 7}


def test_the_folder_holds_what_it_promises_and_nothing_is_left_beside_it(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "checksums.json",
        "config.json",
        "model.safetensors",
        "state.pt",
        "tokenizer.json",
        "training.json",
    ]
    assert [file.name for file in folder.parent.iterdir()] == ["step-000007"]


def test_checksums_are_those_of_sha256sum(folder):
    listed = json.loads((folder / "checksums.json").read_text())
    printed = subprocess.run(["sha256sum", *sorted(listed)], cwd=folder, capture_output=True, text=True).stdout
    assert [f"{digest}  {name}" for name, digest in sorted(listed.items())] == printed.splitlines()


def test_a_later_save_replaces_the_earlier_one(folder, config, tokenizer):
    other = GPT(config).eval()
    save_checkpoint(folder, other, tokenizer, {"step": 8})
    tokens = torch.randint(257, (1, 5))
    assert torch.equal(load_checkpoint(folder).model(tokens), other(tokens))
    assert names(folder.parent) == ["step-000007"]


def fail_at(monkeypatch, number):
    """Let file operation `number` of a save fail, and only that one; returns the list of those that were begun."""
    begun = []

    def failing(operation, name):
        def attempt(*arguments, **options):
            if "dir_fd" in options:  # the cleaning up afterwards
                return operation(*arguments, **options)
            begun.append(name)
            if len(begun) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return operation(*arguments, **options)

        return attempt

    for name in ("replace", "fsync", "open"):
        monkeypatch.setattr(os, name, failing(getattr(os, name), name))
    monkeypatch.setattr(Path, "mkdir", failing(Path.mkdir, "mkdir"))
    monkeypatch.setattr(Path, "open", failing(Path.open, "Path.open"))
    monkeypatch.setattr(files, "save_file", failing(files.save_file, "save_file"))
    return begun


@pytest.mark.parametrize("replaces", [False, True])
def test_a_save_that_fails_at_any_file_operation_leaves_the_checkpoints_of_before(save, replaces):
    save(1)
    old = save(2, state={"from": "before"})
    step, number, failed = 2 if replaces else 3, 0, True
    while failed:
        number += 1
        with pytest.MonkeyPatch.context() as monkeypatch:
            begun = fail_at(monkeypatch, number)
            try:
                save(step)
            except CheckpointError:
                failed = True
            else:
                failed = False
        if failed:
            assert find_damage(old) is None
            assert latest_intact(old.parent).name in ("step-000002", f"step-{step:06}")
            assert not list(old.parent.glob(".*"))
    assert number > 30 and number == len(begun) + 1
    assert latest_intact(old.parent).name == f"step-{step:06}"


def test_a_full_disk_is_answered_with_what_is_needed_and_what_is_free(save, monkeypatch):
    fail_at(monkeypatch, 20)
    with pytest.raises(
        CheckpointError, match=r"step-000003 cannot be written: No space left.*about 0\.1 MB, and .* MB"
    ):
        save(3)


def test_a_file_that_may_not_grow_is_answered_alike(tmp_path):
    """The real thing: the kernel refuses bytes in the middle of model.safetensors and of state.pt."""
    script = """
import resource, signal, sys, torch
from pathlib import Path
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer
from pocketgpt.training.checkpoint import CheckpointError, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = GPT(ModelConfig(vocab_size=257, d_model=64, n_layers=1, max_seq_len=8, mixer=AttentionConfig(n_heads=2)))
tokenizer = ByteTokenizer([bytes([byte]) for byte in range(256)])
for limit, state in ((100_000, {}), (1_000_000, {"moments": torch.zeros(1_000_000)})):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(Path(sys.argv[1]) / "step-000001", model, tokenizer, {}, state)
    except CheckpointError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.count("cannot be written") == result.stdout.count("File too large") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_while_it_saves_leaves_whole_checkpoints_and_a_partial_one(tmp_path):
    script = """
import sys, torch
from pathlib import Path
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.training.checkpoint import prune, save_checkpoint
model = GPT(ModelConfig(vocab_size=257, d_model=32, n_layers=1, max_seq_len=8, mixer=AttentionConfig(n_heads=2)))
tokenizer = ByteTokenizer([bytes([byte]) for byte in range(256)])
for step in range(10_000_000):
    save_checkpoint(Path(sys.argv[1]) / f"step-{step:06}", model, tokenizer, {"step": step}, {"step": step})
    prune(Path(sys.argv[1]), step)
    print(step, flush=True)
"""
    seen = 0
    for moment in range(2):
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
            for _ in range(3):
                seen = int(process.stdout.readline())
            time.sleep(0.0111 * moment)
            process.kill()
        folders = checkpoints(tmp_path)
        assert int(latest_intact(tmp_path).name[5:]) >= seen
        # The one that was being pruned may be half gone; it is never one of the last two.
        assert [find_damage(folder) for folder in folders[-2:]] == [None, None]
        for folder in folders:
            subprocess.run(["rm", "-r", folder], check=True)
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_last_intact_checkpoint_is_the_one_before_a_damaged_one(save, capsys):
    before, last = save(2), save(10)
    assert latest_intact(last.parent) == last
    flip_a_byte(last / "state.pt")
    assert latest_intact(last.parent) == before
    assert "step-000010 is damaged and was skipped: state.pt does not match" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_announced_once(save, capsys):
    save(1)
    flip_a_byte(save(2) / "model.safetensors")
    for _ in range(3):
        latest_intact(save(1).parent)
    assert capsys.readouterr().err.count("was skipped") == 1


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "tokenizer.json", "training.json", "checksums.json"])
def test_damage_names_the_file_that_is_missing(folder, name):
    (folder / name).unlink()
    assert find_damage(folder) == f"{name} is missing"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_damaged_checksums_are_damage(folder, content):
    (folder / "checksums.json").write_bytes(content)
    assert find_damage(folder) == "checksums.json cannot be read"


def test_a_run_whose_checkpoints_are_all_damaged_says_so(save):
    folder = save(1)
    flip_a_byte(folder / "state.pt")
    with pytest.raises(CheckpointError, match=r"run contains no intact checkpoint.*pocketgpt train"):
        latest_intact(folder.parent)


def test_the_best_checkpoint_has_the_lowest_validation_loss_of_the_intact_ones(save):
    second, best = save(1, 3.0), save(2, 2.0)
    save(3, 4.0), save(4)
    assert best_intact(best.parent) == best
    flip_a_byte(best / "model.safetensors")
    assert best_intact(best.parent) == second


def test_the_folder_of_a_run_stands_for_its_best_checkpoint(save):
    best = save(1, 2.0)
    save(2, 3.0)
    assert find_checkpoint(best.parent) == best


def test_a_run_without_evaluations_stands_for_its_last_checkpoint(save):
    save(1)
    last = save(2)
    assert find_checkpoint(last.parent) == last


def test_pruning_keeps_the_best_the_last_two_and_every_so_many_steps(save):
    for step in range(0, 80, 5):
        run = save(step, validation_loss=abs(step - 15) + 1.0).parent
    prune(run, 75, keep_every=20)
    assert names(run) == [f"step-{step:06}" for step in (15, 20, 40, 60, 70, 75)]
    prune(run, 75)
    assert names(run) == [f"step-{step:06}" for step in (15, 70, 75)]


def test_pruning_takes_a_damaged_future_for_no_successor(save):
    for step in (10, 20, 30):
        run = save(step).parent
    flip_a_byte(run / "step-000030" / "state.pt")
    save(25)  # went on from 20
    prune(run, 25)
    assert names(run) == ["step-000020", "step-000025"]


def test_sweeping_removes_what_killed_processes_left_and_nothing_else(save):
    run = save(1).parent
    (run / ".step-000002.4711.partial").mkdir()
    (run / ".step-000002.4711.partial" / "config.json").touch()
    (run / ".mine").mkdir()
    remove_partial(run)
    assert sorted(file.name for file in run.iterdir()) == [".mine", "step-000001"]


def test_a_checkpoint_without_state_and_checksums_loads(folder):
    (folder / "state.pt").unlink()
    assert load_checkpoint(folder).training == {"step": 7}
    (folder / "checksums.json").unlink()
    assert load_checkpoint(folder).training == {"step": 7}


def test_weights_that_changed_on_the_disk_are_refused(folder):
    flip_a_byte(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"step-000007 is damaged: model\.safetensors does not match"):
        load_checkpoint(folder)


def test_a_missing_folder_says_how_to_get_a_checkpoint(tmp_path):
    with pytest.raises(PocketError, match=r"nowhere does not exist.*pocketgpt train"):
        load_checkpoint(tmp_path / "nowhere")


def test_an_empty_folder_says_that_it_holds_none(tmp_path):
    with pytest.raises(PocketError, match=r"contains no intact checkpoint.*pocketgpt train"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(PocketError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "training.json"])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_file_that_is_cut_short_is_named(folder, name, checksums):
    if not checksums:
        (folder / "checksums.json").unlink()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PocketError, match=name):
        load_checkpoint(folder)


def test_a_config_of_another_program_is_refused(folder):
    (folder / "checksums.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 768}))
    with pytest.raises(PocketError, match="model_type"):
        load_checkpoint(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    (folder / "checksums.json").unlink()
    load_tokenizer("shakespeare").save(folder / "tokenizer.json")
    with pytest.raises(PocketError, match=r"4096 tokens.*257"):
        load_checkpoint(folder)


def test_weights_of_another_model_are_refused(folder, config, tmp_path):
    (folder / "checksums.json").unlink()
    GPT(replace(config, d_model=64)).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(PocketError, match=r"model\.safetensors"):
        load_checkpoint(folder)
