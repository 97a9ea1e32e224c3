"""A model folder of the older version, whose config was flat, becomes one of today with the same logits."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketgpt.checked import ConfigError
from pocketgpt.errors import PocketError
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.convert import convert, convert_config
from pocketgpt.models.gpt import GPT
from pocketgpt.training.checkpoint import find_damage

# The config of the shipped model as the older version wrote it, with other sizes.
OLD = {
    "vocab_size": 61,
    "d_model": 48,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "d_head": 8,
    "d_ff": 64,
    "max_seq_len": 24,
    "positions": "rope",
    "rope": {"theta": 10000.0, "scaling": "none", "factor": 1.0, "original_max_seq_len": None},
    "norm": "rmsnorm",
    "norm_weight": True,
    "norm_bias": False,
    "norm_eps": 1e-05,
    "norm_order": "pre",
    "embedding_norm": False,
    "feedforward": "relu2",
    "feedforward_bias": True,
    "attention_bias": True,
    "output_bias": False,
    "qk_norm": True,
    "window": 7,
    "causal": True,
    "dropout": 0.1,
    "tie_embeddings": True,
}


@pytest.fixture
def old_folder(tmp_path, lively):
    """A folder of the older version, and the model that was saved in it."""
    model = lively(ModelConfig.from_dict(convert_config(OLD)))
    model.save(tmp_path)
    weights = {
        name.replace(".mixer.", ".attention.").replace(".mixer_norm.", ".attention_norm."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(OLD))
    (tmp_path / "checksums.json").write_text(json.dumps({"config.json": "?", "model.safetensors": "?"}))
    return tmp_path, model


def test_every_field_has_its_place():
    config = ModelConfig.from_dict(convert_config(OLD))
    attention, feedforward = config.mixer, config.feedforward
    assert (attention.n_heads, attention.n_kv_heads, attention.d_head, attention.window) == (6, 2, 8, 7)
    assert attention.bias and attention.qk_norm and not attention.output_bias
    assert (feedforward.activation, feedforward.d_ff, feedforward.bias) == ("relu2", 64, True)
    assert (config.d_model, config.dropout, config.tie_embeddings) == (48, 0.1, True)


def test_a_folder_is_refused_with_the_command_that_then_converts_it(old_folder):
    folder, model = old_folder
    with pytest.raises(PocketError, match=r"older version.*python -m pocketgpt\.models\.convert FOLDER"):
        GPT.load(folder)
    subprocess.run([sys.executable, "-m", "pocketgpt.models.convert", str(folder)], check=True)
    tokens = torch.randint(61, (2, 20))
    assert torch.equal(GPT.load(folder)(tokens), model(tokens))
    assert find_damage(folder, ("config.json", "model.safetensors")) is None


def test_a_conversion_that_was_interrupted_can_be_repeated(old_folder, monkeypatch):
    folder, model = old_folder

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pocketgpt.models.convert.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            convert(folder)
    convert(folder)
    tokens = torch.randint(61, (2, 20))
    assert torch.equal(GPT.load(folder)(tokens), model(tokens))


def test_a_folder_of_today_is_left_alone(tmp_path, small):
    GPT(small("llama")).save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(PocketError, match=r"no config\.json of the older version: nothing was changed"):
        convert(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_flat_config_is_not_read():
    with pytest.raises(ConfigError, match="older version"):
        ModelConfig.from_dict(OLD)
