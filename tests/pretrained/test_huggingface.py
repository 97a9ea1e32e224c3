import json

import pytest
import torch
from safetensors.torch import save_file

from pocketgpt.errors import PocketError
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.presets import preset
from pocketgpt.pretrained import configs
from pocketgpt.pretrained.huggingface import from_huggingface, load_huggingface

# What stands in the published files, down to the fields that are read.
SMOLLM2 = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
GPT2 = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-05,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
TINY = SMOLLM2 | {"hidden_size": 18, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 7}


def published(weights: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """A whole set of weights for TINY, with changes."""
    shapes = {
        "model.embed_tokens": (7, 18),
        "model.layers.0.input_layernorm": (18,),
        "model.layers.0.self_attn.q_proj": (18, 18),
        "model.layers.0.self_attn.k_proj": (6, 18),
        "model.layers.0.self_attn.v_proj": (6, 18),
        "model.layers.0.self_attn.o_proj": (18, 18),
        "model.layers.0.post_attention_layernorm": (18,),
        "model.layers.0.mlp.gate_proj": (8, 18),
        "model.layers.0.mlp.up_proj": (8, 18),
        "model.layers.0.mlp.down_proj": (18, 8),
        "model.norm": (18,),
    }
    return {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()} | (weights or {})


def test_smollm2_is_our_preset():
    assert configs.llama(SMOLLM2).resolved() == preset("smollm2-135m").resolved()


def test_gpt2_is_our_preset():
    assert configs.gpt2(GPT2).resolved() == preset("gpt2", dropout=0.0).resolved()


def test_rope_of_both_layouts_is_the_same():
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    old = SMOLLM2 | {"rope_scaling": scaling}
    new = {k: v for k, v in SMOLLM2.items() if not k.startswith("rope")}
    new["rope_parameters"] = scaling | {"rope_theta": 100000}
    expected = RopeConfig(theta=1e5, scaling="yarn", factor=4.0, original_max_seq_len=2048)
    assert configs.rope(old) == configs.rope(new) == expected


def test_weights_in_half_precision_become_float32():
    weights = {name: tensor.bfloat16() for name, tensor in published().items()}
    model = from_huggingface(TINY, weights)
    assert model.dtype == torch.float32 and not model.training
    assert torch.equal(model.final_norm.weight.data, weights["model.norm.weight"].float())


def test_tied_head_stays_one_tensor_even_if_the_file_holds_it_twice():
    weights = published()
    model = from_huggingface(TINY, weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "falcon"}, "model_type = 'falcon' is not one we can load: bert, gpt2, llama, mistral"),
        ({"model_type": None}, "model_type = None"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu' is not supported: our model computes hidden_act = 'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope_type = 'longrope'"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 0.7}}, "mscale = 0.7"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"rope_scaling": {"type": "linear"}}, "is missing the field 'factor'"),
        ({"num_key_value_heads": 4}, "AttentionConfig.n_kv_heads = 4 cannot work"),
        ({"model_type": "qwen3", "use_sliding_window": True}, "use_sliding_window = True"),
        ({"tie_word_embeddings": False}, "Missing key.*head.weight"),
        ({"attention_bias": True}, "Missing key.*q_proj.bias"),
        ({"hidden_size": 36}, "size mismatch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_unsupported_config_is_named(changes, message):
    with pytest.raises(PocketError, match=f"(?s){message}"):
        from_huggingface(TINY | changes, published())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
    ],
)
def test_unsupported_option_of_gpt2_is_named(option, value):
    with pytest.raises(PocketError, match=f"{option} = {value!r}"):
        from_huggingface(GPT2 | {option: value}, {})


def test_field_that_is_missing_is_named():
    config = {k: v for k, v in TINY.items() if k != "hidden_size"}
    with pytest.raises(PocketError, match="llama model is missing the field 'hidden_size'"):
        from_huggingface(config, published())


def test_unexpected_weight_is_named():
    with pytest.raises(PocketError, match=r"'model\.layers\.0\.mlp\.router\.weight' has no place"):
        from_huggingface(TINY, published({"model.layers.0.mlp.router.weight": torch.zeros(2, 2)}))


def test_weight_of_a_layer_too_many_is_named():
    with pytest.raises(PocketError, match=r"(?s)Unexpected key.*blocks\.1\.mixer\.q_proj\.weight"):
        from_huggingface(TINY, published({"model.layers.1.self_attn.q_proj.weight": torch.zeros(18, 18)}))


def test_missing_weight_is_named():
    weights = published()
    del weights["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(PocketError, match=r"(?s)Missing key.*blocks\.0\.feedforward\.up_proj\.weight"):
        from_huggingface(TINY, weights)


def test_empty_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(PocketError, match=r"contains no published model.*hf download"):
        load_huggingface(tmp_path)


def test_missing_shard_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    index = {"weight_map": dict.fromkeys(published(), "model-00001-of-00001.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PocketError, match=r"model-00001-of-00001\.safetensors is missing"):
        load_huggingface(tmp_path)


def test_weights_that_are_cut_short_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    save_file(published(), tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PocketError, match=r"model\.safetensors is damaged or truncated"):
        load_huggingface(tmp_path)


SMALL_LLAMA = SMOLLM2 | {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 61}
SMALL_LLAMA |= {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 32}
BROKEN = ["many", None, -1, 0, 1.5, [], {}, {"a": 1}, True, 10**30, float("nan"), "1e999"]


@pytest.mark.parametrize("value", BROKEN, ids=repr)
def test_a_broken_value_in_any_field_ends_in_a_sentence(value):
    for field in SMALL_LLAMA:
        with pytest.raises(PocketError):  # if the config happens to work, the weights are missing
            from_huggingface(SMALL_LLAMA | {field: value}, {})
    for field in ("factor", "rope_theta", "rope_type", "original_max_position_embeddings"):
        scaling = {"rope_type": "yarn", "factor": 4.0, field: value}
        with pytest.raises(PocketError):
            from_huggingface(SMALL_LLAMA | {"rope_scaling": scaling}, {})
    with pytest.raises(PocketError):
        from_huggingface(SMALL_LLAMA | {"rope_scaling": value}, {})


@pytest.mark.parametrize("config", [[], "a", 3, None, {}, {"model_type": ["llama"]}], ids=repr)
def test_a_config_that_is_no_object_of_a_known_model_ends_in_a_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(PocketError):
        load_huggingface(tmp_path)
