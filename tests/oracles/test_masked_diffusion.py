"""Masked diffusion beside the published formulas in float64, and beside exact sums over everything that can happen."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from pocketgpt.inference.diffusion import denoise, mask_id
from pocketgpt.inference.sampling import Sampler
from pocketgpt.training import masked_diffusion
from pocketgpt.training.loss import IGNORE
from pocketgpt.training.masked_diffusion import MaskedDiffusionLoss, diffusion_loss

AS_LEARNED = Sampler(temperature=1.0, top_k=None)


@pytest.fixture
def toy(small, lively):
    """A model of few tokens: three and the mask."""
    return lively(small("llama", vocab_size=4, d_model=16, mixer={"n_heads": 2, "d_head": 8}, causal=False)).double()


def log_p(model, tokens):
    """log p of every token but the mask, in float64: (T, vocab_size − 1)."""
    with torch.no_grad():
        return model(tokens[None])[0, :, :-1].double().log_softmax(dim=-1)


def any_order(model, text):
    """Mean over all orders of −log p(text), written token by token from those already written."""
    total, orders = 0.0, list(permutations(range(len(text))))
    for order in orders:
        tokens = torch.full_like(text, mask_id(model.config))
        for position in order:
            total -= log_p(model, tokens)[position, text[position]].item()
            tokens[position] = text[position]
    return total / len(orders)


@pytest.mark.parametrize("text", [[2], [0, 1], [2, 0, 1], [1, 1, 1]])
def test_the_loss_over_all_t_and_all_masks_is_the_mean_over_all_orders_of_writing(toy, text):
    text, n = torch.tensor(text), len(text)
    nodes, weights = np.polynomial.legendre.leggauss(n)  # exact for polynomials up to degree 2n − 1; these have n − 1
    bound = 0.0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for pattern in product([False, True], repeat=n):
            hidden = torch.tensor(pattern)
            logits = toy(text.masked_fill(hidden, 3)[None])[..., :-1]
            loss = diffusion_loss(logits, text[None], hidden[None], torch.tensor([t]).float())
            bound += weight * t ** sum(pattern) * (1 - t) ** (n - sum(pattern)) * loss.item()
    assert bound == pytest.approx(any_order(toy, text), rel=1e-5)


def test_the_loss_module_estimates_that_mean(toy):
    text = torch.tensor([2, 0, 1])
    inputs, targets = torch.tensor([[0, 2, 0]] * 2000), text.expand(2000, 3)
    expected, loss = any_order(toy, text) / 3, MaskedDiffusionLoss(toy.float())
    with torch.no_grad():
        losses = torch.stack([loss(inputs, targets) for _ in range(20)])
    error = losses.std().item() / 20**0.5
    assert error < 0.02 * expected
    assert losses.mean().item() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("batch", [1, 4])
def test_equals_equation_3_of_llada_for_the_masks_that_it_drew(toy, monkeypatch, assert_equal, batch):
    t = torch.tensor([1.0, 0.7, 0.4, 0.9])[:batch]
    monkeypatch.setattr(masked_diffusion, "draw_times", lambda n, device: t[:n])
    rows = torch.randint(3, (batch, 9))
    inputs, targets = rows[:, :-1], rows[:, 1:].clone()
    targets[0, 2:4] = IGNORE
    seen = []
    toy.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = MaskedDiffusionLoss(toy)(inputs, targets, n_targets=1.0)
    [noised] = seen  # x_t
    expected = 0.0
    for row, x_t, x_0, time in zip(targets, noised, rows[:, 1:], t.tolist(), strict=True):
        assert torch.equal(x_t[x_t != 3], x_0[x_t != 3])
        assert (x_t[row == IGNORE] != 3).all()
        scores = log_p(toy, x_t)
        expected -= sum(scores[i, x_0[i]].item() for i in range(8) if x_t[i] == 3) / time
    assert_equal(loss, torch.tensor(expected))


@pytest.mark.parametrize("remask", [0.0, 0.4])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_texts_are_written_as_often_as_the_exact_chain_of_passes_says(toy, passes, remask):
    """Two tokens: 9 texts, 16 states with masks. The chain is the posterior of ReMDM, section 3."""
    states = list(product(range(4), repeat=2))
    probability = {state: float(state == (3, 3)) for state in states}
    for number in range(passes):
        a_t, a_s = number / passes, (number + 1) / passes  # α = 1 − t
        sigma = min(remask, (1 - a_s) / a_t) if a_t else 0.0
        after = dict.fromkeys(states, 0.0)
        for state in states:
            p = log_p(toy, torch.tensor(state)).exp()  # (2, 3)
            one = []
            for place in range(2):
                if state[place] == 3:
                    shown = (a_s - (1 - sigma) * a_t) / (1 - a_t)
                    one.append([*(shown * p[place]).tolist(), (1 - a_s - sigma * a_t) / (1 - a_t)])
                else:
                    stays = [(1 - sigma) * float(token == state[place]) for token in range(3)]
                    one.append([*stays, sigma])
            for new in states:
                after[new] += probability[state] * one[0][new[0]] * one[1][new[1]]
        probability = after
    rows, generator = torch.full((8_000, 2), 3), torch.Generator().manual_seed(1)
    *_, rows = denoise(toy.float(), rows, passes=passes, sampler=AS_LEARNED, remask=remask, generator=generator)
    counts = {state: (rows == torch.tensor(state)).all(dim=1).float().mean().item() for state in states}
    for state in states:
        tolerance = 4 * (probability[state] * (1 - probability[state]) / 8_000) ** 0.5 + 1e-9
        assert counts[state] == pytest.approx(probability[state], abs=tolerance)
