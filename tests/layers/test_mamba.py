import pytest
import torch

from pocketgpt.checked import ConfigError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.mamba import scan
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset


def one_by_one(decay: torch.Tensor, added: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    states = []
    for t in range(decay.shape[1]):
        state = decay[:, t] * state + added[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("seq", [*range(1, 18), 100])
def test_scan_is_the_recurrence(seq):
    decay, added, state = torch.rand(2, seq, 3, 4), torch.randn(2, seq, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(scan(decay, added, state), one_by_one(decay, added, state))


def test_gradients_of_scan_are_those_of_the_recurrence():
    inputs = [
        x.double().requires_grad_() for x in (torch.rand(2, 13, 3, 4), torch.randn(2, 13, 3, 4), torch.randn(2, 3, 4))
    ]
    weight = torch.randn(2, 13, 3, 4).double()
    ours = torch.autograd.grad((scan(*inputs) * weight).sum(), inputs)
    theirs = torch.autograd.grad((one_by_one(*inputs) * weight).sum(), inputs)
    torch.testing.assert_close(ours, theirs)


def test_a_state_is_as_large_after_one_token_as_after_many(small, lively):
    model = lively(small("pocket-mamba"))
    assert model.cache_bytes(2, 1) == model.cache_bytes(2, 24)
    cache = new_cache(model, 2)
    shapes = [[tensor.shape for tensor in store.tensors] for store in cache.layers]
    model(torch.randint(61, (2, 20)), cache)
    assert [[tensor.shape for tensor in store.tensors] for store in cache.layers] == shapes


def test_padding_does_not_touch_the_state(small, lively, assert_equal):
    model = lively(small("pocket-mamba"))
    alone, padded = new_cache(model, 1), new_cache(model, 1)
    tokens = torch.randint(61, (1, 5))
    with torch.no_grad():
        model(tokens, alone)
        padded.added = torch.tensor([5])
        model(torch.cat((tokens, torch.randint(61, (1, 7))), dim=1), padded)
    for ours, theirs in zip(padded.layers, alone.layers, strict=True):
        for mine, expected in zip(ours.tensors, theirs.tensors, strict=True):
            assert_equal(mine, expected)


def test_the_recurrence_is_in_float32_whatever_the_weights_are(small, lively):
    model = lively(small("pocket-mamba")).to(torch.bfloat16)
    cache = new_cache(model, 1)
    assert model(torch.randint(61, (1, 5)), cache).dtype == torch.bfloat16
    assert {tensor.dtype for store in cache.layers for tensor in store.tensors} == {torch.float32}


def test_a_model_that_looks_ahead_cannot_have_it():
    with pytest.raises(ConfigError, match="causal = False cannot work: use True with Mamba"):
        preset("pocket-mamba", causal=False)


def test_steps_of_a_new_layer_spread_over_two_orders_of_magnitude():
    mixer = GPT(preset("pocket-mamba", n_layers=1)).blocks[0].mixer
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias).log10()
    assert -3.01 < steps.min() < -2.9 and -1.1 < steps.max() < -0.99
    assert steps.mean().item() == pytest.approx(-2, abs=0.1)
