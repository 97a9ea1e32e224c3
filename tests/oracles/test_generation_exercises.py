"""The exercises of chapter 11 do what transformers does: filters, and greedy text from the same weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pocketgpt.course.syllabus import find_exercise
from pocketgpt.pretrained.huggingface import from_huggingface


def answers(name):
    exercise = find_exercise(name)
    return [exercise.reference, *exercise.accepted_answers]


def logits(seed):
    return 3 * torch.randn(4, 37, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(20))
def test_temperature_and_filters(seed):
    x = logits(seed)
    warped = TemperatureLogitsWarper(0.7)(None, x).softmax(-1)
    assert all(torch.allclose(temper(x, 0.7), warped) for temper in answers("temper"))
    for k in (1, 5, 37, 50):
        assert all(torch.equal(keep(x, k), TopKLogitsWarper(k)(None, x)) for keep in answers("keep_top_k"))
    for p in (0.1, 0.5, 0.9):
        assert all(torch.equal(keep(x, p), TopPLogitsWarper(p)(None, x)) for keep in answers("keep_top_p"))


def test_draws_from_evenly_spaced_numbers_have_the_probabilities():
    p = logits(0)[:1].softmax(-1)
    u = (torch.arange(100_000) + 0.5) / 100_000
    for draw in answers("draw")[:2]:
        shares = draw(p.expand(len(u), -1), u).bincount(minlength=37) / len(u)
        torch.testing.assert_close(shares, p[0], rtol=0, atol=3e-5)


@pytest.fixture(scope="module")
def models():
    """Their model and ours with its weights; the seed gives texts that do not repeat one token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=80, max_position_embeddings=64, initializer_range=0.2,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    theirs = AutoModelForCausalLM.from_config(config).eval()
    return theirs, from_huggingface(theirs.config.to_dict(), theirs.state_dict())


def their_greedy(model, prompt, stop=None):
    new = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=25, eos_token_id=stop)[0].tolist()
    new = new[len(prompt) :]
    return new[: new.index(stop)] if stop in new else new


def greedy(x):
    return x.argmax(-1)


def test_one_text_and_several_at_once_are_the_greedy_texts_of_transformers(models):
    theirs, ours = models
    prompts = [[5, 17, 3], [9], torch.randint(1, 61, (11,)).tolist()]
    free = [their_greedy(theirs, prompt) for prompt in prompts]
    stop = free[0][7]
    for stops, expected in ((set(), free), ({stop}, [their_greedy(theirs, prompt, stop) for prompt in prompts])):
        for write in answers("write"):
            assert [write(ours, prompt, 25, greedy, 64, stops) for prompt in prompts] == expected
        for write_batch in answers("write_batch"):
            assert write_batch(ours, prompts, 25, greedy, 64, stops) == expected
