"""The references of chapter 10 agree with transformers and with PyTorch's counts."""

import math

import pytest
import torch

from pocketgpt.course.ch10_the_gpt import shared
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.pretrained.huggingface import from_huggingface

transformers = pytest.importorskip("transformers")

LLAMA = transformers.LlamaConfig(
    vocab_size=29,
    hidden_size=24,
    intermediate_size=34,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=16,
    rms_norm_eps=0.1,
    tie_word_embeddings=True,
    attn_implementation="eager",
)
GPT2 = transformers.GPT2Config(
    vocab_size=29, n_embd=24, n_layer=3, n_head=6, n_positions=16, layer_norm_epsilon=0.1, attn_implementation="eager"
)
KINDS = {"llama": LLAMA, "gpt2": GPT2}


def reference(name):
    return find_exercise(name).reference


def theirs(kind):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind]).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1 and name.endswith("weight")), std=0.3)
    return model


def ours(model):
    """Weights by our names, and the config."""
    converted = from_huggingface(model.config.to_dict(), model.state_dict())
    return dict(converted.named_parameters()), converted.config


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_model_is_that_of_transformers(kind):
    model = theirs(kind)
    tokens = torch.randint(29, (2, 9))
    torch.testing.assert_close(reference("gpt")(tokens, *ours(model)), model(tokens).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_block_is_the_layer_of_llama():
    model = theirs("llama")
    weights, config = ours(model)
    x, positions = torch.randn(2, 7, 24), torch.arange(7)[None]
    hidden = torch.full((7, 7), -math.inf).triu(1)[None, None]
    turned = model.model.rotary_emb(x, positions)
    expected = model.model.layers[1](x, attention_mask=hidden, position_embeddings=turned)
    expected = expected[0] if isinstance(expected, tuple) else expected
    got = reference("transformer_block")(x, shared.of_block(weights, 1), shared.drawn_rope(config, 7), config)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_block_is_that_of_gpt2():
    model = theirs("gpt2")
    weights, config = ours(model)
    x = torch.randn(2, 7, 24)
    expected = model.transformer.h[2](x, attention_mask=torch.full((7, 7), -math.inf).triu(1)[None, None])
    expected = expected[0] if isinstance(expected, tuple) else expected
    got = reference("transformer_block")(x, shared.of_block(weights, 2), None, config)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_of_transformers():
    from transformers.loss.loss_utils import ForCausalLMLoss

    logits, tokens = torch.randn(3, 6, 11), torch.randint(11, (3, 6))
    tokens[0, -2:] = -100
    torch.testing.assert_close(reference("next_token_loss")(logits, tokens), ForCausalLMLoss(logits, tokens, 11))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_transformers(kind):
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(KINDS[kind])
    assert reference("count_parameters")(ours(theirs(kind))[1]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama", "brain", "pocket", "pocket-shakespeare", "smollm2-135m"])
def test_counts_of_the_presets_are_those_of_the_library(name):
    config = PRESETS[name].resolved()
    with torch.device("meta"):
        model = GPT(config)
    assert find_exercise("count_parameters").finished_answer(config) == model.n_params()
    assert find_exercise("count_flops").finished_answer(config, 64) == 64 * model.flops_per_token(64)


def test_the_start_is_that_of_transformers_gpt2():
    config = transformers.GPT2Config(vocab_size=500, n_embd=96, n_layer=6, n_head=4, n_positions=64)
    torch.manual_seed(0)
    weights, _ = ours(transformers.GPT2LMHeadModel(config))
    for name, weight in weights.items():
        expected = reference("init_std")(name, 6)
        assert weight.std().item() == pytest.approx(expected, rel=0.05) if expected else not weight.std().any()


@pytest.mark.parametrize("kind", shared.KINDS)
@torch.no_grad()
def test_drawn_weights_are_those_of_a_model_with_the_same_config(kind):
    config = shared.drawn_config(torch.Generator().manual_seed(0), kind)
    mixer, part = config.mixer, config.feedforward
    own = preset(
        kind,
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        n_layers=config.n_layers,
        max_seq_len=config.max_seq_len,
        mixer={"n_heads": mixer.n_heads, "n_kv_heads": mixer.n_kv_heads, "d_head": mixer.d_head},
        feedforward={"d_ff": part.d_ff},
        norm_eps=config.norm_eps,
        rope={"theta": config.rope.theta},
    )
    model = GPT(own).eval()
    weights = shared.drawn_weights(torch.Generator().manual_seed(1), shared.model_shapes(config))
    assert {name: each.shape for name, each in model.named_parameters()} == {n: w.shape for n, w in weights.items()}
    tied = {"head.weight": weights["embedding.weight"]} if config.tie_embeddings else {}
    model.load_state_dict(weights | tied)
    tokens = torch.randint(config.vocab_size, (2, 8))
    torch.testing.assert_close(shared.model(tokens, weights, config), model(tokens), rtol=1e-4, atol=1e-4)
