import json
from dataclasses import replace

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "run" / "best", model, tokenizer, {"step": 7})
    return tmp_path / "run" / "best"


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
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "training.json"]
    assert [file.name for file in folder.parent.iterdir()] == ["best"]


def test_a_later_save_replaces_the_earlier_one(folder, config, tokenizer):
    other = GPT(config).eval()
    save_checkpoint(folder, other, tokenizer, {"step": 8})
    tokens = torch.randint(257, (1, 5))
    assert torch.equal(load_checkpoint(folder).model(tokens), other(tokens))
    assert [file.name for file in folder.parent.iterdir()] == ["best"]


def test_a_save_that_fails_halfway_leaves_the_old_checkpoint(folder, model, tokenizer, monkeypatch):
    def no_space(self, path):
        raise OSError("No space left on device")

    monkeypatch.setattr(Tokenizer, "save", no_space)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(folder, model, tokenizer, {"step": 8})
    assert load_checkpoint(folder).training == {"step": 7}


def test_the_folder_of_a_run_stands_for_its_best_checkpoint(folder, model, tokenizer):
    save_checkpoint(folder.parent / "last", model, tokenizer, {"step": 9})
    assert find_checkpoint(folder.parent) == folder


def test_a_run_without_best_stands_for_its_last_checkpoint(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "last", model, tokenizer, {})
    assert find_checkpoint(tmp_path) == tmp_path / "last"


def test_a_missing_folder_says_how_to_get_a_checkpoint(tmp_path):
    with pytest.raises(PocketError, match=r"nowhere does not exist.*pocketgpt train"):
        load_checkpoint(tmp_path / "nowhere")


def test_an_empty_folder_says_that_it_holds_none(tmp_path):
    with pytest.raises(PocketError, match=r"holds no checkpoint.*pocketgpt train"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(PocketError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "training.json"])
def test_a_file_that_is_cut_short_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PocketError, match=name):
        load_checkpoint(folder)


def test_a_config_of_another_program_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 768}))
    with pytest.raises(PocketError, match="model_type"):
        load_checkpoint(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    Tokenizer.load("shakespeare").save(folder / "tokenizer.json")
    with pytest.raises(PocketError, match=r"4096 tokens.*257"):
        load_checkpoint(folder)


def test_weights_of_another_model_are_refused(folder, config, tmp_path):
    GPT(replace(config, d_model=64, d_head=16)).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(PocketError, match=r"model\.safetensors"):
        load_checkpoint(folder)
