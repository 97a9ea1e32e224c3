"""Our logits are those of the published implementations, with random weights and nothing downloaded."""

import json

import pytest
import torch
import transformers
from torch import Tensor

from pocketgpt.pretrained.huggingface import convert_config, from_huggingface, load_huggingface

GPT_SIZE = {"vocab_size": 61, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 40}
LLAMA_SIZE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
    "head_dim": 16,
}
SCALINGS = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 10},
    "yarn with betas": {
        "rope_type": "yarn",
        "rope_theta": 500.0,
        "factor": 8.0,
        "original_max_position_embeddings": 40,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
    },
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "original_max_position_embeddings": 20,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}
OLD_SCALINGS = {
    "none": None,
    "linear": {"type": "linear", "factor": 4.0},
    "dynamic": {"type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10},
    "llama3": {k: v for k, v in SCALINGS["llama3"].items() if k != "rope_theta"},
}


def theirs(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """Their model, with weights so large that attention is far from uniform and no bias or norm can be left out."""
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.3)
        else:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def ours(model: transformers.PreTrainedModel):
    """Our model, by way of JSON as in config.json."""
    return from_huggingface(json.loads(model.config.to_json_string(use_diff=False)), model.state_dict())


@torch.no_grad()
def their_logits(model: transformers.PreTrainedModel, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, use_cache=False).logits


@torch.no_grad()
def same_logits(config: transformers.PreTrainedConfig, seq: int, assert_equal) -> None:
    model = theirs(config)
    tokens = torch.randint(config.vocab_size, (2, seq))
    expected = their_logits(model, tokens)
    assert expected.std() > 0.5  # logits that say something
    assert_equal(ours(model)(tokens), expected)


@pytest.mark.parametrize(
    "options", [{}, {"n_inner": 72}, {"tie_word_embeddings": False}, {"activation_function": "gelu"}]
)
def test_gpt2(options, assert_equal):
    same_logits(transformers.GPT2Config(**GPT_SIZE, **options), 40, assert_equal)


def test_openai_gpt_is_post_norm(assert_equal):
    same_logits(transformers.OpenAIGPTConfig(**GPT_SIZE), 40, assert_equal)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_llama_with_each_rope_scaling(scaling, assert_equal):
    same_logits(transformers.LlamaConfig(**LLAMA_SIZE, rope_parameters=SCALINGS[scaling]), 40, assert_equal)


@pytest.mark.parametrize("seq", [1, 39, 41, 64, 100])
def test_dynamic_rope_beyond_the_trained_length(seq, assert_equal):
    # Theirs keeps the angles of the longest sequence it has seen: every length gets a model of its own.
    same_logits(transformers.LlamaConfig(**LLAMA_SIZE, rope_parameters=SCALINGS["dynamic"]), seq, assert_equal)


@pytest.mark.parametrize(
    "options",
    [
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 6},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"tie_word_embeddings": True},
        {"head_dim": None},
        {"rms_norm_eps": 0.1},
    ],
    ids=str,
)
def test_llama_with_each_option(options, assert_equal):
    same_logits(transformers.LlamaConfig(**LLAMA_SIZE | options), 30, assert_equal)


@pytest.mark.parametrize("window", [1, 2, 7, 39, 40, 64, None])
def test_mistral_with_a_window_shorter_and_longer_than_the_sequence(window, assert_equal):
    same_logits(transformers.MistralConfig(**LLAMA_SIZE, sliding_window=window), 40, assert_equal)


@pytest.mark.parametrize("attention_bias", [False, True])
def test_qwen3_normalizes_queries_and_keys(attention_bias, assert_equal):
    same_logits(transformers.Qwen3Config(**LLAMA_SIZE, attention_bias=attention_bias), 40, assert_equal)


@pytest.mark.parametrize("scaling", OLD_SCALINGS)
def test_config_in_the_layout_before_transformers_5(scaling, assert_equal):
    old = {"rope_theta": 500, "rope_scaling": OLD_SCALINGS[scaling]}  # a whole number, as many files have it
    model = theirs(transformers.LlamaConfig(**LLAMA_SIZE, **old))
    values = json.loads(model.config.to_json_string(use_diff=False))
    del values["rope_parameters"]
    tokens = torch.randint(61, (2, 40))
    with torch.no_grad():
        assert_equal(from_huggingface(values | old, model.state_dict())(tokens), their_logits(model, tokens))


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt", "llama", "mistral", "qwen3"])
def test_missing_options_have_the_defaults_of_transformers(kind):
    wide = {**LLAMA_SIZE, "num_attention_heads": 64, "hidden_size": 128}  # more heads than a default has keys
    size = GPT_SIZE if "gpt" in kind else {n: wide[n] for n in wide if n not in ("num_key_value_heads", "head_dim")}
    full = transformers.AutoConfig.for_model(kind, **size).to_dict()
    assert convert_config({"model_type": kind, **size}) == convert_config(full)


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"], ids=["one file", "shards"])
def test_folder_written_by_save_pretrained(shard_size, tmp_path, assert_equal):
    model = theirs(transformers.LlamaConfig(**LLAMA_SIZE))
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "20KB")
    tokens = torch.randint(61, (2, 40))
    with torch.no_grad():
        assert_equal(load_huggingface(tmp_path)(tokens), their_logits(model, tokens))


def test_weights_without_prefix_and_with_stored_masks_as_in_the_first_published_gpt2(assert_equal):
    model = theirs(transformers.GPT2Config(**GPT_SIZE))
    weights = {name: w for name, w in model.transformer.state_dict().items()} | {
        "h.0.attn.bias": torch.ones(1, 1, 4, 4)
    }
    tokens = torch.randint(61, (1, 9))
    with torch.no_grad():
        assert_equal(from_huggingface(model.config.to_dict(), weights)(tokens), their_logits(model, tokens))


def test_parameters_are_as_many():
    for config in (transformers.GPT2Config(**GPT_SIZE), transformers.LlamaConfig(**LLAMA_SIZE)):
        model = theirs(config)
        assert ours(model).n_params() == model.num_parameters()
