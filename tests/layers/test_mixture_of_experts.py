from contextlib import nullcontext
from copy import deepcopy
from functools import partial

import pytest
import torch

from pocketgpt.inference.quantization import quantize
from pocketgpt.layers.mixture_of_experts import MixtureOfExperts, MixtureOfExpertsConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.models.stack import sharing_weights
from pocketgpt.training.loss import NextTokenLoss, auxiliary_loss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.step import training_step

MODEL = preset("llama", d_model=24, mixer={"n_heads": 2})
TOKENS = torch.randint(61, (4, 21), generator=torch.Generator().manual_seed(0))


def layer(**changes) -> MixtureOfExperts:
    return MixtureOfExperts(MixtureOfExpertsConfig(**{"n_experts": 4, "top_k": 2, "d_ff": 16, **changes}), MODEL)


def test_all_experts_and_no_choice_is_their_weighted_sum(assert_equal):
    mixture, x = layer(top_k=4), torch.randn(2, 5, 24)
    weights = mixture.router(x).softmax(dim=-1)
    expected = sum(weights[..., i, None] * expert(x) for i, expert in enumerate(mixture.experts))
    assert_equal(mixture(x).detach(), expected.detach())


def test_compiled_code_computes_the_same_without_shapes_that_depend_on_data(monkeypatch, assert_equal):
    mixture, x = layer(n_shared=1).eval(), torch.randn(2, 5, 24)
    expected = mixture(x).detach()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    assert_equal(mixture(x).detach(), expected)


def test_an_expert_computes_only_the_tokens_that_chose_it():
    mixture, rows = layer().eval(), []
    for expert in mixture.experts:
        expert.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    mixture(torch.randn(2, 5, 24))
    assert sum(rows) == 2 * 5 * 2 and max(rows) < 10


def test_active_parameters_are_those_of_the_chosen_experts_the_shared_ones_and_the_router():
    mixture = layer(n_shared=1)
    expert = 3 * 24 * 16
    assert sum(parameter.numel() for parameter in mixture.parameters()) == (4 + 1) * expert + 4 * 24
    assert mixture.n_active_params() == (2 + 1) * expert + 4 * 24


def test_a_small_mixture_has_the_active_parameters_of_the_dense_model():
    dense, mixture = GPT(preset("pocket-shakespeare")), GPT(preset("pocket-moe"))
    routers = 4 * 8 * 192
    assert mixture.n_active_params() == pytest.approx(dense.n_params() + routers, rel=0.01)
    assert mixture.n_params() > 2 * dense.n_params()


@pytest.mark.parametrize(("spread", "expected"), [(True, 1.0), (False, 4.0)])
def test_balancing_loss_is_1_for_an_even_load_and_the_number_of_experts_for_one_that_has_all(spread, expected):
    mixture = layer(top_k=1).train()
    with torch.no_grad():
        mixture.router.weight.copy_(torch.eye(4, 24) * 1000 if spread else torch.eye(4, 24) * 0)
        if not spread:
            mixture.router.weight[2] = 1000
    mixture(torch.eye(4, 24) if spread else torch.ones(4, 24))
    assert mixture.balance_loss.item() == pytest.approx(expected)


def test_the_balancing_loss_is_added_in_training_only(small, lively):
    model = lively(small("pocket-moe"))
    loss = NextTokenLoss(model)
    inputs, targets = TOKENS[:, :-1], TOKENS[:, 1:]
    plain = loss.eval()(inputs, targets)
    assert auxiliary_loss(model) is None
    with_balance = loss.train()(inputs, targets)
    terms = [block.feedforward.balance_loss for block in model.blocks]
    torch.testing.assert_close(with_balance, plain + 0.01 * sum(terms))


@pytest.mark.parametrize("copy", [deepcopy, sharing_weights, partial(quantize, weights="int8")])
def test_a_mixture_can_be_copied_after_a_step_of_training(copy, small):
    model = GPT(small("pocket-moe")).train()
    NextTokenLoss(model)(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    copied = copy(model)
    assert all(block.feedforward.balance_loss is None for block in copied.blocks)
    assert all(block.feedforward.balance_loss is not None for block in model.blocks)


@pytest.mark.parametrize("chunk", [None, 16])
def test_parts_of_a_batch_weigh_the_balancing_loss_by_their_targets(chunk, small, lively):
    model = lively(small("pocket-moe"))
    loss = NextTokenLoss(model, chunk).train()
    inputs, targets = TOKENS[:, :-1], TOKENS[:, 1:]
    n_targets = targets.numel()
    expected = 0.0
    for part in (slice(0, 1), slice(1, 4)):
        share = targets[part].numel() / n_targets
        mean = loss(inputs[part], targets[part])
        torch.testing.assert_close(loss(inputs[part], targets[part], n_targets), mean * share)
        expected += mean * share
    assert torch.isfinite(expected)


def test_a_bias_moves_toward_the_experts_with_less_load():
    mixture = layer(top_k=1, balance="bias", balance_rate=0.1).train()
    with torch.no_grad():
        mixture.router.weight.copy_(torch.eye(4, 24) * 10)
    x = torch.eye(4, 24)[[0, 0, 0, 0, 1, 2]]
    mixture(x)
    assert mixture.auxiliary_loss() is None
    mixture.after_step(lambda tensor: tensor)
    assert mixture.bias.tolist() == pytest.approx([-0.1, 0.1, 0.1, 0.1])
    mixture.after_step(lambda tensor: tensor)  # without a forward pass nothing is known about the load
    assert mixture.bias.tolist() == pytest.approx([-0.1, 0.1, 0.1, 0.1])


def test_a_skipped_step_leaves_the_bias_and_forgets_the_load(small):
    torch.manual_seed(0)
    model = GPT(small("pocket-moe", balance="bias"))
    loss, optimizers = NextTokenLoss(model).train(), build_optimizers(model, TrainConfig())
    how = {"autocast": nullcontext(), "scaler": torch.amp.GradScaler("cpu", enabled=False), "clip": 1.0}
    mixture = model.blocks[0].feedforward

    def step() -> list[float]:
        training_step(loss, [(TOKENS[:, :-1], TOKENS[:, 1:])], optimizers, **how)
        assert mixture.load is None
        return mixture.bias.tolist()

    with torch.no_grad():
        model.final_norm.weight[0] = torch.nan
    assert step() == [0.0] * 8
    with torch.no_grad():
        model.final_norm.weight[0] = 1.0
    assert step() != [0.0] * 8


def test_scores_are_float32_under_autocast():
    mixture, x = layer(), torch.randn(6, 24)
    expected = mixture.score(x)
    with torch.autocast("cpu", torch.bfloat16):
        scores = mixture.score(x)
        assert mixture.score(x.bfloat16()).dtype == torch.float32
    assert torch.equal(scores, expected)


def test_the_load_counts_all_processes():
    mixture = layer(top_k=1, balance="bias", balance_rate=0.1).train()
    with torch.no_grad():
        mixture.router.weight.copy_(torch.eye(4, 24) * 10)
    mixture(torch.eye(4, 24)[[0, 0]])
    others = torch.tensor([0.0, 8.0, 8.0, 8.0])
    mixture.after_step(lambda tensor: tensor + others)
    assert mixture.bias.tolist() == pytest.approx([0.1, -0.1, -0.1, -0.1])


def test_the_bias_decides_who_is_chosen_and_not_the_weight():
    mixture = layer(top_k=1, scores="sigmoid", balance="bias", normalize=False).eval()
    x = torch.randn(3, 24)
    mixture.bias.copy_(torch.tensor([0.0, 0.0, 5.0, 0.0]))
    expected = mixture.router(x).sigmoid()[:, 2, None] * mixture.experts[2](x)
    torch.testing.assert_close(mixture(x), expected)


@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_balancing_evens_out_the_load(balance):
    torch.manual_seed(0)
    mixture = layer(top_k=1, balance=balance, balance_rate=0.05).train()
    x = torch.randn(256, 24) + 1.5 * torch.randn(24)  # tokens are alike, so the router prefers one expert
    optimizer = torch.optim.Adam(mixture.parameters(), lr=0.01)

    def busiest() -> float:
        counts = mixture.choose(mixture.score(x))[1].flatten().bincount(minlength=4)
        return counts.max().item() / len(x)

    before = busiest()
    for _ in range(150):
        mixture(x)
        if (loss := mixture.auxiliary_loss()) is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        mixture.after_step(lambda tensor: tensor)
    assert before > 0.6 and busiest() < 0.4
