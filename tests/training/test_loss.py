import math

import torch
from torch import nn
from torch.nn import functional as F

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
