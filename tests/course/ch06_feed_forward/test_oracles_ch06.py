"""The references of chapter 06 agree with published implementations and configs."""

import pytest
import torch

from pocketgpt.course.syllabus import find_exercise


def reference(name):
    return find_exercise(name).reference


def test_swiglu_is_the_mlp_of_llama():
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    from transformers import LlamaConfig

    mlp = modeling.LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2))
    x = torch.randn(3, 5, 12)
    ours = reference("swiglu")(x, mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
    torch.testing.assert_close(ours, mlp(x))


@pytest.mark.parametrize(("approximate", "name"), [("none", "gelu"), ("tanh", "gelu_new")])
def test_both_forms_of_gelu_are_those_of_transformers(approximate, name):
    activations = pytest.importorskip("transformers.activations")
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(find_exercise("gelu").finished_answer(x, approximate), activations.ACT2FN[name](x))


def test_relu_squared_has_the_activation_of_transformers():
    activations = pytest.importorskip("transformers.activations")
    x, up, down = torch.randn(3, 5), torch.randn(8, 5), torch.randn(5, 8)
    theirs = activations.ACT2FN["relu2"](x @ up.T) @ down.T
    torch.testing.assert_close(reference("relu_squared")(x, up, down), theirs)


@pytest.mark.parametrize(
    ("d_model", "gated", "multiple", "published"),
    [
        (768, False, 64, 3072),  # GPT-2
        (4096, True, 256, 11008),  # Llama 2 7B
        (5120, True, 256, 13824),  # Llama 2 13B
        (6656, True, 256, 17920),  # LLaMA 33B
        (8192, True, 256, 22016),  # LLaMA 65B
        (2048, True, 256, 5632),  # TinyLlama 1.1B
        (576, True, 64, 1536),  # SmolLM2 135M
        (192, True, 64, 512),  # the pocket model
    ],
)
def test_widths_are_those_of_published_models(d_model, gated, multiple, published):
    assert reference("hidden_size")(d_model, gated, multiple) == published
