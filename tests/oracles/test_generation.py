"""Choosing tokens as transformers does: every filter on random logits, and greedy text from the same weights."""

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler, apply_temperature, min_p, top_k, top_p
from pocketgpt.pretrained.huggingface import from_huggingface

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0.01, 0.99)


def logits(seed: int, vocab: int = 37) -> torch.Tensor:
    return 3 * torch.randn(4, vocab, generator=torch.Generator().manual_seed(seed))


@given(seed=SEEDS, temperature=st.floats(0.1, 10))
def test_temperature(seed, temperature):
    x = logits(seed)
    assert torch.equal(apply_temperature(x, temperature), TemperatureLogitsWarper(temperature)(None, x))


@given(seed=SEEDS, k=st.integers(1, 50))
def test_top_k(seed, k):
    x = logits(seed)
    assert torch.equal(top_k(x, k), TopKLogitsWarper(k)(None, x))


@given(seed=SEEDS, p=SHARES)
def test_top_p(seed, p):
    x = logits(seed)
    assert torch.equal(top_p(x, p), TopPLogitsWarper(p)(None, x))


@given(seed=SEEDS, p=SHARES)
def test_min_p(seed, p):
    x = logits(seed)
    assert torch.equal(min_p(x, p), MinPLogitsWarper(p)(None, x))


@given(seed=SEEDS, temperature=st.floats(0.2, 3), k=st.integers(1, 37), p=SHARES, share=SHARES)
def test_sampler_applies_temperature_then_top_k_then_top_p_then_min_p(seed, temperature, k, p, share):
    x = logits(seed)
    warped = x
    for warper in (
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(share),
    ):
        warped = warper(None, warped)
    expected = torch.multinomial(warped.softmax(-1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    sampler = Sampler(temperature=temperature, top_k=k, top_p=p, min_p=share)
    assert torch.equal(sampler(x, torch.Generator().manual_seed(seed)), expected)


@pytest.fixture(scope="module")
def their_llama() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=80,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def their_greedy(model: transformers.PreTrainedModel, prompts: list[list[int]], **options) -> list[list[int]]:
    """Their batches are padded on the left, and hide the padding with a mask."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return model.generate(tokens, attention_mask=mask, do_sample=False, **options)[:, longest:].tolist()


def test_greedy_text_of_a_batch_of_prompts_of_different_lengths(their_llama):
    model = from_huggingface(their_llama.config.to_dict(), their_llama.state_dict())
    prompts = [[5, 17, 3], [9], torch.randint(1, 61, (11,)).tolist()]
    ours = generate(model, prompts, max_new_tokens=30, sampler=Sampler(temperature=0.0))
    assert ours == their_greedy(their_llama, prompts, max_new_tokens=30)
    assert len({token for row in ours for token in row}) > 10  # a text, not one token over and over


def test_each_row_ends_at_its_stop_token(their_llama):
    model = from_huggingface(their_llama.config.to_dict(), their_llama.state_dict())
    prompts = [[5, 17, 3], [9]]
    free = generate(model, prompts, max_new_tokens=30, sampler=Sampler(temperature=0.0))
    stop = free[0][7]
    ours = generate(model, prompts, max_new_tokens=30, sampler=Sampler(temperature=0.0), stop_tokens=(stop,))
    # Theirs keeps the stop token and fills the row with padding.
    theirs = their_greedy(their_llama, prompts, max_new_tokens=30, eos_token_id=stop)
    assert ours == [row[: row.index(stop)] if stop in row else row for row in theirs]
