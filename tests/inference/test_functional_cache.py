"""A cache that goes in and comes out gives the logits of the one that is written in place, for every kind of model."""

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.functional_cache import FunctionalCache, empty_tensors, tensor_names
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS
from pocketgpt.models.stack import Stack

TOKENS = torch.randint(61, (3, 20), generator=torch.Generator().manual_seed(0))
VARIANTS = {
    **{name: (name, {}) for name in PRESETS},
    "window 1": ("llama", {"window": 1}),
    "window 5": ("gpt2", {"window": 5}),
    "window 5 and 2 anchors": ("llama", {"window": 5, "n_anchors": 2}),
    "relative": ("llama", {"positions": "relative"}),
    "sinusoidal": ("gpt2", {"positions": "sinusoidal"}),
}


@pytest.fixture(params=VARIANTS)
def model(request, small, lively) -> Stack:
    name, changes = VARIANTS[request.param]
    model = lively(small(name, **changes))
    if not isinstance(model, GPT) or not model.config.causal:
        pytest.skip("has no cache of what came before")
    if {mixer.config.kind for mixer in model.mixers()} == {"linear_attention"}:
        model = lively(small(name, **changes | {"positions": "none"}))
    return model


@torch.no_grad()
@pytest.mark.parametrize("chunks", [[20], [1] * 20, [7, 1, 12]], ids=str)
def test_logits_do_not_depend_on_the_kind_of_cache(model, chunks, assert_equal):
    expected = model(TOKENS, new_cache(model, 3))
    tensors, logits = empty_tensors(model, 3), []
    for chunk in TOKENS.split(chunks, dim=1):
        before = [tensor.clone() for tensor in tensors]
        cache = FunctionalCache(model, tensors)
        logits.append(model(chunk, cache))
        assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True))  # nothing is written in place
        tensors = cache.tensors()
    assert_equal(torch.cat(logits, dim=1), expected)
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in empty_tensors(model, 3, past=20)]


def test_every_tensor_has_a_name_of_its_own(model):
    names = tensor_names(model)
    assert len(set(names)) == len(names) == len(empty_tensors(model, 1))
    assert [int(name.partition(".")[0]) for name in names] == sorted(int(name.partition(".")[0]) for name in names)


def test_a_model_whose_states_do_not_tell_the_position_is_refused(small, lively):
    model = lively(small("pocket-mamba", positions="learned"))
    with pytest.raises(PocketError, match="positions = 'none' works"):
        FunctionalCache(model, empty_tensors(model, 1))
