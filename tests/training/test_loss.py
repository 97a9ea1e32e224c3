import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import IGNORE, NextTokenLoss


class Fixed(nn.Module):
    """Gives out the same logits whatever comes in."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, tokens):
        return self.logits


def tokens_and_targets(vocab_size=257, batch=3, seq=7):
    tokens = torch.randint(vocab_size, (batch, seq + 1))
    return tokens[:, :-1], tokens[:, 1:]


def test_equals_cross_entropy_of_torch(model):
    tokens, targets = tokens_and_targets()
    expected = F.cross_entropy(model(tokens).transpose(1, 2), targets)
    torch.testing.assert_close(NextTokenLoss(model)(tokens, targets), expected)


def test_equals_the_hand_computed_value():
    # Scores 0, ln 2, ln 5 are probabilities 1/8, 2/8, 5/8.
    logits = torch.tensor([[[0.0, math.log(2), math.log(5)], [0.0, math.log(2), math.log(5)]]])
    targets = torch.tensor([[2, 0]])
    expected = -(math.log(5 / 8) + math.log(1 / 8)) / 2
    assert NextTokenLoss(Fixed(logits))(targets, targets).item() == torch.tensor(expected).item()


def test_ignored_targets_count_for_nothing():
    logits = torch.randn(2, 3, 11)
    targets = torch.tensor([[4, IGNORE, 7], [IGNORE, IGNORE, 0]])
    log_p = logits.log_softmax(-1)
    expected = -(log_p[0, 0, 4] + log_p[0, 2, 7] + log_p[1, 2, 0]) / 3
    torch.testing.assert_close(NextTokenLoss(Fixed(logits))(targets, targets), expected)


def test_is_float32_for_bf16_logits():
    logits = torch.randn(2, 3, 4096).bfloat16()
    targets = torch.randint(4096, (2, 3))
    loss = NextTokenLoss(Fixed(logits))(targets, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.double().flatten(0, 1), targets.flatten()).float())


def test_untrained_model_is_as_unsure_as_the_vocabulary_is_large(model):
    tokens, targets = tokens_and_targets(batch=8, seq=32)
    assert abs(NextTokenLoss(model)(tokens, targets).item() - math.log(257)) < 0.1


def with_gaps(targets):
    """Every third target counts for nothing."""
    return targets.where(torch.arange(targets.shape[1]) % 3 > 0, IGNORE)


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def loss_and_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return loss.detach(), gradients(model)


def test_is_divided_by_the_number_it_is_given(model):
    tokens, targets = tokens_and_targets()
    expected = F.cross_entropy(model(tokens).transpose(1, 2), targets, reduction="sum") / 50
    torch.testing.assert_close(NextTokenLoss(model)(tokens, targets, 50), expected)
    torch.testing.assert_close(NextTokenLoss(model, chunk=4)(tokens, targets, torch.tensor(50.0)), expected)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 7, 21, 1000])
def test_in_chunks_loss_and_gradients_are_those_of_cross_entropy_on_the_whole(config, chunk, tied):
    model = GPT(replace(config, tie_embeddings=tied))
    tokens, targets = tokens_and_targets()
    targets = with_gaps(targets)
    expected = loss_and_gradients(model, F.cross_entropy(model(tokens).transpose(1, 2), targets, ignore_index=IGNORE))
    ours = loss_and_gradients(model, NextTokenLoss(model, chunk)(tokens, targets))
    torch.testing.assert_close(ours, expected)


def test_in_chunks_a_scaled_loss_has_scaled_gradients(model):
    tokens, targets = tokens_and_targets()
    _, expected = loss_and_gradients(model, F.cross_entropy(model(tokens).transpose(1, 2), targets))
    _, scaled = loss_and_gradients(model, NextTokenLoss(model, 4)(tokens, targets) * 1024)
    torch.testing.assert_close([gradient / 1024 for gradient in scaled], expected)


def test_in_chunks_the_loss_without_gradients_is_the_same(model):
    tokens, targets = tokens_and_targets()
    with torch.no_grad():
        torch.testing.assert_close(NextTokenLoss(model, 4)(tokens, targets), NextTokenLoss(model)(tokens, targets))


@pytest.mark.parametrize("chunk", [None, 4])
def test_loss_is_float32_under_bf16_autocast_and_gradients_are_as_close_as_bf16_is(model, chunk):
    tokens, targets = tokens_and_targets()
    exact, exact_gradients = loss_and_gradients(model, F.cross_entropy(model(tokens).transpose(1, 2), targets))
    with torch.autocast("cpu", torch.bfloat16):
        loss = NextTokenLoss(model, chunk)(tokens, targets)
    loss, ours = loss_and_gradients(model, loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=1e-3, atol=0)
    for gradient, expected in zip(ours, exact_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - expected).norm() < 0.02 * expected.norm()


def test_in_chunks_the_head_is_multiplied_in_bf16_under_autocast(model):
    tokens, targets = tokens_and_targets()
    with Shapes() as shapes, torch.autocast("cpu", torch.bfloat16):
        NextTokenLoss(model, 4)(tokens, targets)
    assert (4, 257, torch.bfloat16) in shapes.seen


class Shapes(TorchDispatchMode):
    """Collects (rows, columns, dtype) of every tensor that an operator makes."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.ndim:
                self.seen.add((tensor.shape[:-1].numel(), tensor.shape[-1], tensor.dtype))
        return out


def most_logits(model, chunk, batch):
    """Rows of the largest tensor that is as wide as the vocabulary, in forward and backward."""
    tokens, targets = tokens_and_targets(batch=batch)
    with Shapes() as shapes:
        NextTokenLoss(model, chunk)(tokens, targets).backward()
    return max(rows for rows, columns, _ in shapes.seen if columns == 257)


def test_logits_of_all_tokens_exist_at_once_only_without_chunks(model):
    assert [most_logits(model, None, batch) for batch in (6, 12, 24)] == [42, 84, 168]
    assert [most_logits(model, 40, batch) for batch in (6, 12, 24)] == [40, 40, 40]
