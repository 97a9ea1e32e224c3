"""The answers of all chapters, put into a model of SmolLM2's shape, give the logits of transformers."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pocketgpt.course.lab.caching import read_with_cache
from pocketgpt.course.lab.transplanting import REPLACEABLE_PARTS, transplant
from pocketgpt.course.syllabus import all_exercises
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.pretrained.huggingface import from_huggingface

TOKENS = torch.arange(48).view(2, 24)
SHAPES = {
    "SmolLM2": {"tie_word_embeddings": True},
    "own head, wide heads, other theta and eps": {
        "tie_word_embeddings": False,
        "head_dim": 10,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 700.0},
    },
}
# Those of the parts that Pocket has, which is a Llama.
IN_A_LLAMA = [
    name
    for name, exercise in all_exercises().items()
    if exercise.replaces and REPLACEABLE_PARTS[exercise.replaces].model == "pocket"
]
TOGETHER = {
    "layer by layer": (
        *("split_heads", "merge_heads", "grouped_attention", "apply_rope", "rope_frequencies"),
        *("rms_norm", "pre_norm", "swiglu"),
    ),
    "with a cache": ("cached_layer", "rms_norm", "pre_norm", "swiglu"),
    "the block": ("transformer_block", "rope_frequencies"),
}


@pytest.fixture(scope="module", params=SHAPES)
def both(request) -> tuple[GPT, torch.Tensor]:
    """Our model, and the logits of theirs."""
    torch.manual_seed(0)
    shape = dict(vocab_size=61, hidden_size=36, intermediate_size=40, num_hidden_layers=3, max_position_embeddings=64)
    rope = {"rope_type": "default", "rope_theta": 100_000.0}
    shape |= dict(num_attention_heads=9, num_key_value_heads=3, rms_norm_eps=1e-5, rope_parameters=rope)
    theirs = LlamaForCausalLM(LlamaConfig(**shape | SHAPES[request.param])).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    with torch.no_grad():
        return from_huggingface(theirs.config.to_dict(), theirs.state_dict()), theirs(TOKENS).logits


def logits(model: GPT, *names: str) -> torch.Tensor:
    changed = transplant(model, **{name: all_exercises()[name].finished_answer for name in names})
    decoding = any(REPLACEABLE_PARTS[all_exercises()[name].replaces].decoding for name in names)
    return read_with_cache(changed, TOKENS, prompt=8, last=3) if decoding else changed(TOKENS)


@pytest.mark.parametrize("name", IN_A_LLAMA)
@torch.inference_mode()
def test_each_answer_gives_the_logits_of_transformers(both, name, assert_equal):
    model, theirs = both
    assert_equal(logits(model, name), theirs, 1e-5)


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
@torch.inference_mode()
def test_all_answers_together_give_the_logits_of_transformers(both, names, assert_equal):
    model, theirs = both
    assert_equal(logits(model, *names), theirs, 1e-5)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("gpt2", "rms_norm", "has no RMSNorm: its norms are 'layernorm'"),
        ("gpt2", "apply_rope", "does not rotate: its positions are 'learned'"),
        ("pocket-mamba", "attention", "no attention layer with attend. Its mixer: MambaConfig"),
        ("pocket-mamba", "split_heads", "no attention layer with split_heads"),
        ("pocket-mamba", "merge_heads", "no attention layer with merge_heads"),
    ],
)
def test_a_part_that_the_model_does_not_have_is_refused_and_not_left_out(small, name, part, message):
    with pytest.raises(PocketError, match=message):
        transplant(GPT(small(name)), **{part: len})


@torch.inference_mode()
def test_attention_goes_into_every_attention_layer_of_a_mixed_model(small, lively):
    model = lively(small("pocket-hybrid"))
    changed = transplant(model, attention=all_exercises()["scaled_attention"].finished_answer)
    torch.testing.assert_close(changed(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)
