"""Less memory for a training step, and how much a call needs."""

import ctypes
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from pocketgpt.device import peak_memory
from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import NextTokenLoss

TOKENS = torch.arange(4 * 25).reshape(4, 25)


@pytest.fixture
def pair(config):
    """Twice the same model, with dropout; the blocks of the second one are checkpointed."""
    model = GPT(replace(config, dropout=0.2)).train()
    checkpointed = deepcopy(model)
    checkpointed.recompute_blocks = True
    return model, checkpointed


def loss_and_gradients(model):
    torch.manual_seed(7)
    loss = NextTokenLoss(model)(TOKENS[:, :-1], TOKENS[:, 1:])
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in model.parameters()]


def saved_bytes(model):
    """Bytes that forward keeps for backward, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.features(TOKENS)
    assert features.grad_fn is not None  # alive until here, so that no storage was used twice
    return sum(size for pointer, size in storages.items() if pointer not in weights)


def test_checkpointed_blocks_give_the_same_loss_and_gradients_with_dropout(pair):
    torch.testing.assert_close(loss_and_gradients(pair[1]), loss_and_gradients(pair[0]), rtol=0, atol=0)


def test_random_numbers_after_a_checkpointed_step_are_those_after_a_plain_one(pair):
    drawn = []
    for model in pair:
        loss_and_gradients(model)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_a_checkpointed_block_keeps_what_enters_it_and_nothing_else(config):
    for n_layers in (2, 5):
        model = GPT(replace(config, n_layers=n_layers)).train()
        plain = saved_bytes(model)
        model.recompute_blocks = True
        kept = saved_bytes(model)
        assert kept < plain / 3
        stream = TOKENS.numel() * config.d_model * 4
        if n_layers == 2:
            kept_of_two = kept
    assert kept - kept_of_two == 3 * stream


def test_names_of_weights_stay(pair):
    assert list(pair[1].state_dict()) == list(pair[0].state_dict())


def test_a_copy_of_a_checkpointed_model_runs_its_own_blocks(pair):
    copy = deepcopy(pair[1])
    copy.blocks[0].mixer.o_proj.weight.data.zero_()
    assert not torch.equal(copy.eval()(TOKENS), pair[1].eval()(TOKENS))


def test_a_checkpointed_model_decodes_with_a_cache(pair, monkeypatch):
    model, checkpointed = pair
    monkeypatch.setattr("pocketgpt.models.stack.checkpoint", None)  # a block run twice would fill the cache twice
    checkpointed.eval()
    with torch.no_grad():
        logits = checkpointed(TOKENS, new_cache(checkpointed, 4, 32))
    torch.testing.assert_close(logits, model.eval()(TOKENS).detach())


def test_where_peak_memory_is_not_known_it_says_so():
    with pytest.raises(PocketError, match="mps"):
        peak_memory(lambda: None, torch.device("mps"))


MB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say how high the resident set was")
class TestPeakMemory:
    """Freed memory counts, memory that was there before does not. The kernel counts in pages and lags a little."""

    @pytest.fixture(autouse=True)
    def on_the_cpu(self, monkeypatch):
        monkeypatch.setattr("pocketgpt.device.choose_device", lambda: torch.device("cpu"))

    def test_of_an_allocation_of_known_size(self):
        for size in (64, 256):
            assert peak_memory(lambda size=size: torch.ones(size * MB // 4)) == pytest.approx(size * MB, abs=2 * MB)

    def test_counts_memory_that_was_given_back_before_the_end(self):
        def give_back():
            torch.ones(96 * MB // 4)
            torch.ones(32 * MB // 4)

        # The C library may hold the first back while it takes the second, if an earlier test told it to.
        assert 94 * MB < peak_memory(give_back) < 130 * MB

    def test_leaves_out_what_was_there_before(self):
        before = torch.ones(128 * MB // 4)
        assert peak_memory(lambda: before.add_(1)) < 2 * MB

    def test_is_measured_anew_at_each_call(self):
        peak_memory(lambda: torch.ones(128 * MB // 4))
        assert peak_memory(lambda: None) < 2 * MB

    def test_memory_that_the_process_had_freed_before_counts_again(self):
        # Small pieces below one that stays are kept by the C library when they are freed; a reuse would not show.
        pieces = [ctypes.create_string_buffer(60_000) for _ in range(1500)]
        last = pieces.pop()
        del pieces
        assert peak_memory(lambda: [ctypes.create_string_buffer(60_000) for _ in range(1500)]) > 60 * MB
        del last
