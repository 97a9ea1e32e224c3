"""What all models share: attention backends are swapped in one way, and costs do not depend on preparation."""

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import quantize
from pocketgpt.layers.attention_backends import BACKENDS
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS
from pocketgpt.models.stack import sharing_weights
from pocketgpt.models.t5 import T5Config
from pocketgpt.training.prepare import prepare_for_training

TOKENS = torch.arange(20)[None]
ONE_INPUT = [name for name, config in PRESETS.items() if not isinstance(config, T5Config)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ONE_INPUT)
def test_every_backend_gives_the_same_logits(name, backend, small, lively, assert_equal):
    model = lively(small(name))
    expected = model(TOKENS).detach()
    assert_equal(model.use_attention(backend)(TOKENS).detach(), expected)


def test_a_function_of_ones_own_is_a_backend(small, lively, assert_equal):
    model, calls = lively(small("llama")), []
    expected = model(TOKENS).detach()

    def own(q, k, v, mask=None, is_causal=False, dropout=0.0):
        calls.append(q.shape)
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    assert model.use_attention(own) is model
    assert_equal(model(TOKENS).detach(), expected)
    assert calls == [(1, 6, 20, 8)] * 2


def test_an_unknown_backend_is_answered_with_those_there_are(small):
    with pytest.raises(
        PocketError, match="no attention backend 'flash': use one of step_by_step, fused, short, decode"
    ):
        GPT(small("llama")).use_attention("flash")


def test_a_copy_that_shares_weights_can_compute_in_another_way(small):
    model = GPT(small("llama"))
    copy = sharing_weights(model).use_attention("step_by_step")
    ours, theirs = dict(copy.named_parameters()), dict(model.named_parameters())
    assert all(ours[name] is theirs[name] for name in theirs) and ours.keys() == theirs.keys()
    assert copy.head.weight is copy.embedding.weight
    assert [mixer.attend for mixer in model.mixers()] == [BACKENDS["fused"]] * 2
    assert [mixer.attend for mixer in copy.mixers()] == [BACKENDS["step_by_step"]] * 2


@pytest.mark.parametrize("name", ONE_INPUT)
def test_costs_are_those_of_the_model_however_it_is_prepared(name, small, lively):
    model = lively(small(name))
    for prepared in (
        quantize(model, "bf16"),
        quantize(model, "int8"),
        prepare_for_decoding(model, "int8"),
        prepare_for_training(model, torch.device("cpu"), "auto"),
    ):
        assert prepared.flops_per_token(20) == model.flops_per_token(20)
        assert prepared.cache_bytes(3, 20) == model.cache_bytes(3, 20)


@pytest.mark.parametrize("name", ONE_INPUT)
def test_preparing_leaves_the_model_as_it_was(name, small, lively):
    model = lively(small(name))
    before, expected = list(map(id, model.modules())), model(TOKENS).detach()
    backends = [getattr(mixer, "attend", None) for mixer in model.mixers()]
    prepare_for_decoding(model, "int8")
    prepare_for_training(model, torch.device("cpu"), "auto")
    assert list(map(id, model.modules())) == before
    assert [getattr(mixer, "attend", None) for mixer in model.mixers()] == backends
    assert torch.equal(model(TOKENS), expected)
