"""A GGUF file is read as transformers reads it, and undoes what llama.cpp's converter did to the published weights."""

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from pocketgpt.errors import PocketError
from pocketgpt.pretrained.gguf import load_gguf, load_gguf_config

TOKENS = torch.arange(40).view(2, 20)


def transformers_reading(file) -> LlamaForCausalLM:
    """What `from_pretrained(folder, gguf_file=…)` makes, without the package accelerate that it asks for."""
    config = LlamaConfig(**load_gguf_checkpoint(str(file))["config"])
    model = LlamaForCausalLM(config).eval()
    weights = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and missing == ["lm_head.weight"] * config.tie_word_embeddings
    model.tie_weights()
    return model


SHAPES = {
    "tied": {},
    "own head": {"tie_word_embeddings": False},
    "wide heads": {"head_dim": 32},
    "as many keys as queries": {"num_key_value_heads": 4},
}


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_float32_gives_back_the_published_model(random_llama, write_gguf, shape, tmp_path, assert_equal):
    theirs = random_llama(**SHAPES[shape])
    write_gguf(tmp_path / "a.gguf", theirs, Kind.F32)
    ours = load_gguf(tmp_path / "a.gguf")
    assert_equal(ours(TOKENS), theirs(TOKENS).logits)
    assert ours.config.tie_embeddings == theirs.config.tie_word_embeddings and not ours.training
    assert (ours.head.weight is ours.embedding.weight) == ours.config.tie_embeddings


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.BF16], ids=lambda kind: kind.name)
@torch.no_grad()
def test_quantized_weights_are_those_that_transformers_reads(random_llama, write_gguf, kind, tmp_path, assert_equal):
    write_gguf(tmp_path / "a.gguf", random_llama(), kind)
    ours, theirs = load_gguf(tmp_path / "a.gguf"), transformers_reading(tmp_path / "a.gguf")
    assert ours.dtype == torch.float32
    assert_equal(ours(TOKENS), theirs(TOKENS).logits)
    with pytest.raises(AssertionError):  # 4 bits are not 32
        assert_equal(ours(TOKENS), random_llama()(TOKENS).logits)


@torch.no_grad()
def test_biases_are_read_and_permuted(random_llama, write_gguf, tmp_path, assert_equal):
    theirs = random_llama(attention_bias=True, mlp_bias=True)
    write_gguf(tmp_path / "a.gguf", theirs, Kind.F32)
    assert_equal(load_gguf(tmp_path / "a.gguf")(TOKENS), theirs(TOKENS).logits)


def test_every_field_is_read_and_missing_ones_have_llama_cpp_s_defaults(random_llama, write_gguf, tmp_path):
    theirs = random_llama(num_key_value_heads=4)
    write_gguf(tmp_path / "a.gguf", theirs, Kind.F32)
    config = load_gguf_config(tmp_path / "a.gguf")
    assert (config.rope.theta, config.norm_eps, config.max_seq_len) == (500.0, 1e-3, 64)
    missing = {"rope.freq_base": None, "attention.head_count_kv": None, "vocab_size": None}
    write_gguf(tmp_path / "b.gguf", theirs, Kind.F32, **missing)
    config = load_gguf_config(tmp_path / "b.gguf")
    assert (config.rope.theta, config.mixer.n_kv_heads, config.vocab_size) == (10_000.0, 4, 61)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope.dimension_count": 8}, "rope.dimension_count = 8 is not supported"),
        ({"rope.scaling.type": "yarn"}, "rope.scaling.type = 'yarn' is not supported: our model computes .* = 'none'"),
        ({"rope.scaling.factor": 4.0}, "rope.scaling.factor = 4.0 is not supported"),
        ({"rope.scale_linear": 4.0}, "rope.scale_linear = 4.0 is not supported"),
        ({"expert_count": 8}, "expert_count = 8 is not supported"),
        ({"attention.layer_norm_rms_epsilon": None}, "llama.attention.layer_norm_rms_epsilon is missing"),
        ({"attention.head_count_kv": 3}, "AttentionConfig.n_kv_heads = 3 cannot work"),
        ({"attention.head_count": 0}, "is damaged"),
        ({"block_count": 3}, "Missing key.*blocks.2"),
        ({"feed_forward_length": 64}, "size mismatch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_our_model_does_not_compute_is_named(random_llama, write_gguf, fields, message, tmp_path):
    write_gguf(tmp_path / "a.gguf", random_llama(), Kind.F32, **fields)
    with pytest.raises(PocketError, match=f"(?s)a.gguf .*({message})"):
        load_gguf(tmp_path / "a.gguf")


def test_a_weight_without_a_place_is_named(random_llama, write_gguf, tmp_path):
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", torch.ones(8).numpy())

    write_gguf(tmp_path / "a.gguf", random_llama(), Kind.F32, add)
    with pytest.raises(PocketError, match=r"a.gguf .*'rope_freqs.weight' has no place"):
        load_gguf(tmp_path / "a.gguf")


def test_a_file_that_is_missing_cut_short_or_none_ends_in_a_sentence(random_llama, write_gguf, tmp_path):
    write_gguf(tmp_path / "a.gguf", random_llama(), Kind.Q4_1)
    whole = (tmp_path / "a.gguf").read_bytes()
    for size in (0, 3, 20, 90, 700, len(whole) // 2, len(whole) - 300):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(PocketError, match=r"cut.gguf is damaged, or no GGUF file"):
            load_gguf(tmp_path / "cut.gguf")
    with pytest.raises(PocketError, match="There is no file"):
        load_gguf(tmp_path / "nowhere.gguf")
