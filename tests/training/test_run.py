import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.models.presets import preset
from pocketgpt.training.checkpoint import latest_intact, load_checkpoint
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run import resume, train
from pocketgpt.training.run_folder import free_folder, new_folder, owned

PRESET = preset("pocket-shakespeare")


@pytest.fixture
def config(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    tokenizer.save(tmp_path / "bytes.json")
    return TrainConfig(
        corpus=str(tmp_path / "own.txt"),
        tokenizer=str(tmp_path / "bytes.json"),
        steps=2,
        batch_size=2,
        seq_len=16,
        dropout=0.1,
        device="cpu",
    )


def test_a_text_of_your_own_becomes_a_model(tmp_path, config):
    result = train(PRESET, config, tmp_path / "run", preset_name="pocket-shakespeare")
    checkpoint = load_checkpoint(result.folder)
    assert checkpoint.training["preset"] == "pocket-shakespeare"
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("Full fathom")) == "Full fathom"


def test_dropout_and_vocabulary_of_the_model_come_from_the_recipe(tmp_path, config):
    model = load_checkpoint(train(PRESET, config, tmp_path / "run").folder).model
    assert (model.config.vocab_size, model.config.dropout) == (257, 0.1)


def test_any_field_of_the_model_can_be_changed(tmp_path, config):
    changed = preset("pocket-shakespeare", n_layers=1, mixer={"n_kv_heads": 3})
    model = load_checkpoint(train(changed, config, tmp_path / "run").folder).model
    assert (len(model.blocks), model.config.mixer.n_kv_heads) == (1, 3)


def test_a_folder_that_is_in_use_is_not_written_over(tmp_path, config):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").touch()
    with pytest.raises(PocketError, match=r"not empty: give.*run-2"):
        train(PRESET, config, tmp_path / "run")


def test_a_folder_that_holds_a_run_says_how_to_go_on_with_it(tmp_path, config):
    (tmp_path / "run" / "step-000003").mkdir(parents=True)
    with pytest.raises(PocketError, match=r"not empty: resume it with `pocketgpt train --resume .*run`.*run-2"):
        train(PRESET, config, tmp_path / "run")


def test_half_a_first_checkpoint_is_swept_away(tmp_path, config):
    (tmp_path / "run" / ".step-000000.123.partial").mkdir(parents=True)
    folder = train(PRESET, config, tmp_path / "run").folder
    assert not list(folder.glob(".*"))


def test_a_window_longer_than_the_model_reads_names_both(tmp_path, config):
    with pytest.raises(PocketError, match=r"seq_len = 512.*at most 256"):
        train(PRESET, replace(config, seq_len=512), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_free_folder_is_counted_up(tmp_path):
    assert free_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert free_folder(tmp_path / "run") == tmp_path / "run-3"


def test_runs_that_start_together_get_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(new_folder, [tmp_path / "run"] * 8))
    assert len(set(folders)) == 8 and all(folder.is_dir() for folder in folders)


def test_the_current_folder_has_a_free_neighbor(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert free_folder(Path(".")) == tmp_path / "here-2"


OWN = """
import sys
from pathlib import Path
from pocketgpt.training.run_folder import owned
with owned(Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.read()
"""


def test_a_run_has_one_owner_until_that_process_ends_however_it_ends(tmp_path, config):
    folder = train(PRESET, config, tmp_path / "run").folder
    before = sorted(file.name for file in folder.iterdir())
    command = [sys.executable, "-c", OWN, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        owner.stdout.readline()
        with pytest.raises(PocketError, match=rf"run is in use by process {owner.pid} on .*stop it"):
            resume(latest_intact(folder))
        owner.kill()
    assert resume(latest_intact(folder)).step == 2
    assert sorted(file.name for file in folder.iterdir()) == before


def test_a_folder_can_be_owned_again_inside_and_a_new_empty_one_is_removed(tmp_path):
    with owned(tmp_path / "run"):
        with owned(tmp_path / "run"):
            pass
        assert {file.name for file in (tmp_path / "run").iterdir()} == {".lock", ".owner"}
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(tmp_path, config):
    with pytest.raises(PocketError, match=r"nowhere\.txt"):
        train(PRESET, replace(config, corpus="nowhere.txt"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
