"""Our BERT is that of transformers, with the same random weights, with and without padding and token types."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pocketgpt.errors import PocketError
from pocketgpt.models.bert import BERT
from pocketgpt.models.classes import load_model
from pocketgpt.pretrained.huggingface import from_huggingface, load_huggingface

SIZE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
}


def theirs(**options) -> transformers.BertForMaskedLM:
    """Their model, with weights so large that attention is far from uniform and no bias or norm can be left out."""
    config = transformers.BertConfig(**SIZE | options)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.3)
        else:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def ours(model: transformers.BertForMaskedLM) -> BERT:
    return from_huggingface(json.loads(model.config.to_json_string(use_diff=False)), model.state_dict())


@torch.no_grad()
def assert_same_logits(model, seq, assert_equal, lengths=None, token_types=None):
    tokens = torch.randint(SIZE["vocab_size"], (3, seq))
    mask = None if lengths is None else torch.arange(seq) < torch.tensor(lengths)[:, None]
    attention_mask = None if mask is None else mask.long()
    expected = model(input_ids=tokens, attention_mask=attention_mask, token_type_ids=token_types).logits
    assert expected.std() > 0.5  # logits that say something
    found = ours(model)(tokens, mask, token_types)
    real = slice(None) if mask is None else mask
    assert_equal(found[real], expected[real])


@pytest.mark.parametrize("seq", [1, 7, 40])
def test_logits_of_whole_sequences(seq, assert_equal):
    assert_same_logits(theirs(), seq, assert_equal)


@pytest.mark.parametrize(
    "options",
    [{"layer_norm_eps": 0.1}, {"tie_word_embeddings": False}, {"num_attention_heads": 1}, {"type_vocab_size": 5}],
    ids=str,
)
def test_logits_with_other_options(options, assert_equal):
    assert_same_logits(theirs(**options), 12, assert_equal)


@pytest.mark.parametrize("token_types", [False, True])
def test_logits_of_padded_sequences(token_types, assert_equal):
    types = torch.randint(2, (3, 20)) if token_types else None
    assert_same_logits(theirs(), 20, assert_equal, lengths=[20, 1, 13], token_types=types)


def test_logits_with_token_types(assert_equal):
    model = theirs()
    assert_same_logits(model, 20, assert_equal, token_types=torch.randint(2, (3, 20)))
    tokens = torch.randint(61, (1, 9))
    first, second = (ours(model)(tokens, None, torch.full((1, 9), kind)) for kind in (0, 1))
    assert torch.equal(first, ours(model)(tokens)) and not torch.allclose(first, second, atol=0.1)


def test_a_published_folder_loads_and_saves_as_ours(tmp_path, assert_equal):
    model, tokens = theirs(), torch.randint(61, (2, 9))
    model.save_pretrained(tmp_path / "published")
    loaded = load_huggingface(tmp_path / "published")
    assert isinstance(loaded, BERT)
    with torch.no_grad():
        assert_equal(loaded(tokens), model(input_ids=tokens).logits)
        loaded.save(tmp_path / "ours")
        assert torch.equal(load_model(tmp_path / "ours")(tokens), loaded(tokens))


def test_the_first_published_names_and_heads_are_read(tmp_path, assert_equal):
    """bert-base-uncased: gamma and beta, a pooler, a head for next sentences, no copy of the decoder."""
    config = transformers.BertConfig(**SIZE)
    model = transformers.BertForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert any("pooler" in name for name in weights) and any("seq_relationship" in name for name in weights)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
        if "decoder" not in name
    }
    save_file(old, tmp_path / "model.safetensors")
    tokens = torch.randint(61, (2, 9))
    with torch.no_grad():
        assert_equal(load_huggingface(tmp_path)(tokens), model(input_ids=tokens).prediction_logits)


@pytest.mark.parametrize(
    "option",
    [{"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}],
    ids=str,
)
def test_an_option_that_ours_lacks_is_named(option):
    model = theirs()
    with pytest.raises(PocketError, match=next(iter(option))):
        from_huggingface(json.loads(model.config.to_json_string(use_diff=False)) | option, model.state_dict())
