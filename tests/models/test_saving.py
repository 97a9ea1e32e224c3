"""What is saved is what is loaded, or nothing is saved."""

import pytest
import torch
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.inference.quantization import quantize
from pocketgpt.models.gpt import GPT

TOKENS = torch.arange(12)[None]


@pytest.fixture
def model(small) -> GPT:
    return GPT(small("llama")).eval()


def test_a_head_that_was_untied_is_saved_and_loaded(model, tmp_path):
    assert model.config.tie_embeddings
    model.head = nn.Linear(48, 61, bias=False)
    model.save(tmp_path)
    assert torch.equal(GPT.load(tmp_path)(TOKENS), model(TOKENS))
    assert not GPT.load(tmp_path).config.tie_embeddings


@torch.no_grad()
def test_a_head_that_is_the_embedding_is_saved_once_whatever_the_config_and_the_values_are(small, lively, tmp_path):
    diverged, tied_later = lively(small("llama")), lively(small("llama", tie_embeddings=False))
    diverged.embedding.weight[3, 5] = torch.nan
    tied_later.head.weight = tied_later.embedding.weight
    for model in (diverged, tied_later):
        model.save(tmp_path)
        loaded = GPT.load(tmp_path)
        assert loaded.head.weight is loaded.embedding.weight
        assert torch.equal(loaded.embedding.weight.nan_to_num(9.0), model.embedding.weight.nan_to_num(9.0))


def test_a_head_of_its_own_beside_a_config_that_ties_it_is_refused(model, tmp_path):
    model.head = nn.Linear(48, 61, bias=False)
    model.save(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"tie_embeddings": false', '"tie_embeddings": true'))
    with pytest.raises(PocketError, match="has a head of its own: set tie_embeddings to false"):
        GPT.load(tmp_path)


@pytest.mark.parametrize("weights", ["float32", "bf16"])
def test_a_model_in_another_float_format_is_saved_and_loaded(model, tmp_path, weights):
    quantized = quantize(model, weights)
    quantized.save(tmp_path)
    assert (GPT.load(tmp_path)(TOKENS) - quantized(TOKENS)).abs().max() < 0.02


def test_an_int8_model_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(PocketError, match=r"cannot be saved.*down_proj\.scale.*quantize.*after loading"):
        quantize(model, "int8").save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_was_replaced_is_refused(model, tmp_path):
    model.head = nn.Linear(48, 61)
    with pytest.raises(PocketError, match=r"head\.bias"):
        model.save(tmp_path)


def test_saving_draws_no_random_numbers(model, tmp_path):
    before = torch.get_rng_state()
    model.save(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_published_model_says_how_to_load_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(PocketError, match=r"model_type 'llama'\): load it with pocketgpt.pretrained.huggingface"):
        GPT.load(tmp_path)
