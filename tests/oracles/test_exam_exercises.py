"""Chapter 25's references against the library transformers, and its sums against the library's closed forms."""

import pytest
import torch
from torch import nn
from transformers import Cohere2Config, Qwen3Config
from transformers.models.cohere2.modeling_cohere2 import Cohere2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3Model, Qwen3RMSNorm

from pocketgpt.course.ch25_exam.serving_plan import _cache
from pocketgpt.course.ch25_exam.training_plan import counted
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

D_MODEL, HEADS, KV_HEADS, D_HEAD, D_FF, WINDOW, EPS = 20, 6, 2, 8, 34, 3, 0.1
SIZES = {
    "hidden_size": D_MODEL,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": D_FF,
    "num_hidden_layers": 1,
    "vocab_size": 29,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention"],
    "attn_implementation": "eager",
}


def config_of(**changes) -> ModelConfig:
    """The same in this library, whose block is not parallel and has one norm more."""
    fields = {
        "vocab_size": 29,
        "d_model": D_MODEL,
        "n_layers": 3,
        "max_seq_len": 64,
        "mixer": AttentionConfig(n_heads=HEADS, n_kv_heads=KV_HEADS, d_head=D_HEAD, window=WINDOW, qk_norm=True),
        "feedforward": FeedForwardConfig(d_ff=D_FF),
        "norm_eps": EPS,
    }
    return ModelConfig(**fields | changes).resolved()


def qwen3() -> Qwen3Model:
    torch.manual_seed(0)
    model = Qwen3Model(
        Qwen3Config(**SIZES, head_dim=D_HEAD, rms_norm_eps=EPS, use_sliding_window=True, max_window_layers=0)
    ).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.4)
    return model


def answers(name):
    exercise = find_exercise(name)
    return [exercise.reference, *exercise.accepted_answers]


@pytest.fixture
def inputs():
    """x, and what the model of transformers makes of positions: angles twice as wide as ours, and a mask."""
    model = qwen3()
    x = torch.randn(2, 9, D_MODEL)
    caught = {}

    def catch(module, args, kwargs):
        caught.update(kwargs)

    hook = model.layers[0].self_attn.register_forward_pre_hook(catch, with_kwargs=True)
    with torch.no_grad():
        model(inputs_embeds=x, use_cache=False)
    hook.remove()
    cos, sin = (each[0, :, : D_HEAD // 2] for each in caught["position_embeddings"])
    return model, x, caught["position_embeddings"], caught["attention_mask"], (cos, sin)


@torch.no_grad()
@pytest.mark.parametrize("answer", answers("window_attention"), ids=lambda answer: answer.__name__)
def test_window_attention_is_that_of_qwen3(answer, inputs, assert_equal):
    model, x, angles, mask, rope = inputs
    theirs = model.layers[0].self_attn
    assert int((mask == 0).sum(-1).max()) == WINDOW
    expected, _ = theirs(x, position_embeddings=angles, attention_mask=mask)

    def heads(projection):
        return projection(x).unflatten(-1, (-1, D_HEAD)).transpose(1, 2)

    q, k, v = (heads(each) for each in (theirs.q_proj, theirs.k_proj, theirs.v_proj))
    y = answer(q, k, v, theirs.q_norm.weight, theirs.k_norm.weight, rope, WINDOW, EPS)
    assert_equal(theirs.o_proj(y.transpose(1, 2).flatten(2)), expected)


@torch.no_grad()
@pytest.mark.parametrize("answer", answers("parallel_block"), ids=lambda answer: answer.__name__)
def test_parallel_block_is_the_layer_of_cohere2_with_the_parts_of_qwen3(answer, inputs, assert_equal):
    model, x, angles, mask, rope = inputs
    layer = Cohere2DecoderLayer(Cohere2Config(**SIZES), 0)
    layer.self_attn, layer.mlp = model.layers[0].self_attn, model.layers[0].mlp
    layer.input_layernorm = model.layers[0].input_layernorm
    assert isinstance(layer.mlp, Qwen3MLP) and isinstance(layer.input_layernorm, Qwen3RMSNorm)
    expected = layer(x, position_embeddings=angles, attention_mask=mask)
    names = {"input_layernorm": "norm", "self_attn": "mixer", "mlp": "feedforward"}
    weights = {
        f"{names[first]}.{rest}": weight
        for first, rest, weight in ((*name.split(".", 1), weight) for name, weight in layer.state_dict().items())
    }
    assert_equal(answer(x, weights, rope, config_of()), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_model_size_is_that_of_the_librarys_model_without_its_second_norms(tied):
    config = config_of(tie_embeddings=tied)
    theirs = sum(weight.numel() for weight in GPT(config).parameters())
    for answer in answers("model_size"):
        assert answer(config) == theirs - config.n_layers * D_MODEL


@pytest.mark.parametrize("context", [2, WINDOW, 40])
def test_the_cache_of_a_text_is_that_of_the_library(context):
    config = config_of()
    assert _cache(config, context) == GPT(config).cache_bytes(1, context, torch.bfloat16)


def test_the_flops_are_three_times_those_of_the_library():
    config = config_of()
    assert counted(config, 7) == 3 * GPT(config).flops_per_token(7)
